package dataset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go/format"
)

// Names by which a column is taken for what it holds when nothing else tells.
var (
	imageNames = []string{"image", "images", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes", "image_data"}
	pathNames  = []string{"image", "img", "picture", "photo", "image_path", "file_name", "filename", "file_path"}
	labelNames = []string{"label", "cls", "class"}
	textNames  = []string{"caption", "text", "prompt"}
	urlNames   = []string{"url", "URL", "image_url", "image_urls"}
)

// imageColumn finds the leaves of an image column: its bytes, its path, either may be nil.
type imageColumn struct{ bytes, path *node }

// imageShape says how a column holds images; the second result is why it does not.
func imageShape(n *node) (imageColumn, string) {
	no := func(why string) (imageColumn, string) {
		return imageColumn{}, fmt.Sprintf("column %q of type %s %s", n.path(), n.describe(), why)
	}
	switch {
	case n.nullType():
		return no("holds no values")
	case n.maxRep > 0 || n.listElement() != nil:
		return no("is not one image per row")
	case n.leaf >= 0 && n.physical() == format.ByteArray && n.text():
		return imageColumn{path: n}, ""
	case n.leaf >= 0 && (n.physical() == format.ByteArray || n.physical() == format.FixedLenByteArray) && !n.annotated():
		return imageColumn{bytes: n}, ""
	case n.leaf >= 0:
		return no("cannot hold images")
	}
	var c imageColumn
	if b := n.child("bytes"); b != nil && b.scalar() && b.physical() == format.ByteArray && !b.text() {
		c.bytes = b
	}
	if p := n.child("path"); p != nil && p.scalar() && p.physical() == format.ByteArray {
		c.path = p
	}
	if c.bytes == nil && c.path == nil {
		return no("has neither the binary field \"bytes\" nor the text field \"path\"")
	}
	return c, ""
}

// detectImage returns the name of the image column.
func detectImage(root *node, hints features) (string, error) {
	var marked, structs, named, paths, wrong []string
	for _, n := range root.children {
		shape, why := imageShape(n)
		hinted, known := hints.image[n.Name], slices.Contains(imageNames, n.Name)
		switch {
		case why != "":
			if e := n.listElement(); hinted || known || e != nil && e.child("bytes") != nil {
				wrong = append(wrong, why)
			}
		case hinted:
			marked = append(marked, n.Name)
		case n.leaf < 0 && shape.bytes != nil:
			structs = append(structs, n.Name)
		case n.leaf >= 0 && shape.bytes != nil && known:
			named = append(named, n.Name)
		case n.leaf >= 0 && shape.path != nil && slices.Contains(pathNames, n.Name):
			paths = append(paths, n.Name)
		}
	}
	for _, found := range [][]string{marked, structs, named, paths} {
		switch {
		case len(found) == 0:
			continue
		case len(found) == 1:
			return found[0], nil
		case slices.Contains(found, "image"):
			return "image", nil
		}
		return "", errorf(SchemaAmbiguous, "columns %s could be the image: name one", quoted(found))
	}
	if len(wrong) > 0 {
		return "", errorf(SchemaUnsupported, "no usable image column: %s", strings.Join(wrong, "; "))
	}
	return "", errorf(SchemaNoImage, "no column is known to hold images%s; columns are %s", imageHint(root), columnList(root))
}

// imageHint says what the user may have meant.
func imageHint(root *node) string {
	for _, n := range root.children {
		if slices.Contains(urlNames, n.Name) {
			return fmt.Sprintf(" (column %q lists addresses: images must be fetched and stored first)", n.Name)
		}
	}
	for _, n := range root.children {
		if c, why := imageShape(n); why == "" && c.bytes != nil {
			return fmt.Sprintf(" (if column %q does, name it)", n.Name)
		}
	}
	return ""
}

func columnList(root *node) string {
	const most = 20
	var all []string
	for i, n := range root.children {
		if i == most {
			all = append(all, fmt.Sprintf("and %d more", len(root.children)-most))
			break
		}
		all = append(all, n.Name+": "+n.describe())
	}
	return strings.Join(all, ", ")
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = fmt.Sprintf("%q", n)
	}
	return strings.Join(q, ", ")
}

// isLabel says whether a column can be a label: one integer or text per row.
func isLabel(n *node) bool {
	if n == nil || !n.scalar() || n.nullType() {
		return false
	}
	k, conv := valueOf(n)
	return conv != nil && (k == KindInt || k == KindUint || k == KindString || k == KindBool)
}

// detectLabel returns the name of the label column, "" when there is none. Names of partitions count as columns.
func detectLabel(root *node, hints features, partitions []string) string {
	var classes []string
	for _, n := range root.children {
		if _, ok := hints.classes[n.Name]; ok && isLabel(n) {
			classes = append(classes, n.Name)
		}
	}
	if len(classes) == 1 {
		return classes[0]
	}
	for _, name := range labelNames {
		if isLabel(root.child(name)) || slices.Contains(partitions, name) {
			return name
		}
	}
	return ""
}

func detectText(root *node) string {
	for _, name := range textNames {
		if n := root.child(name); n != nil && n.scalar() && n.physical() == format.ByteArray && n.text() {
			return name
		}
	}
	return ""
}
