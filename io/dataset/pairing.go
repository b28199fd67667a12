package dataset

import (
	"path"
	"slices"
	"strings"
)

// naming says by their names which files of a folder tree or an archive are pictures, and what belongs to a picture.
//
// The key of a picture is its name without the extension. A file KEY.txt is the value of column "txt"; a picture KEY_mask.png or
// KEY.mask.png that of image column "mask", and KEY.mask.png that of image column "mask.png". Samples in the layout of WebDataset
// are named KEY.EXTENSION too, where the key ends at the first dot of the base name: that holds for the pictures when their extension
// is given, and for pictures of a tar file that has a file of the same key which is no picture. Of such samples one picture is the row.
type naming struct {
	image  string   // extension of the pictures, "" for any
	images []string // further image columns
	texts  []string // columns of text, and the label behind them
	label  string   // the extension of labels, "" when folders are asked for
}

// labelExt is the extension of labels by default.
const labelExt = "cls"

func (s Spec) naming() naming {
	n := naming{images: s.Images, texts: slices.Clone(s.Columns), label: s.Label}
	if s.Image != "image" {
		n.image = s.Image
	}
	if s.Label == "" {
		n.label = labelExt
	} else if s.Label == "label" {
		n.label = ""
	}
	if n.label != "" {
		n.texts = append(n.texts, n.label)
	}
	return n
}

// picture says whether a name is that of a picture.
func (n naming) picture(name string) bool {
	return isPicture(name) || n.image != "" && hasColumn(name, []string{n.image})
}

// hasColumn says whether a name ends in a dot and one of the columns.
func hasColumn(name string, columns []string) bool {
	return slices.ContainsFunc(columns, func(c string) bool { return strings.HasSuffix(name, "."+c) })
}

// splitKey splits a name at the first dot of its base name.
func splitKey(name string) (key, ext string) {
	dir, base := path.Split(name)
	base, ext, _ = strings.Cut(base, ".")
	return dir + base, ext
}

func stem(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }

// key returns the key of a picture; ok is false for one that is no row because its extension is another.
func (n naming) key(l *listing, name string, samples bool) (key string, sample, ok bool) {
	first, ext := splitKey(name)
	switch {
	case n.image != "":
		return first, true, strings.EqualFold(ext, n.image)
	case samples && l.keyed[first]:
		return first, true, true
	}
	return stem(name), false, true
}

// base returns the key of the picture that another belongs to by the name of a column.
func base(name, column string) (key string, ok bool) {
	if isPicture("." + column) {
		return strings.CutSuffix(name, "."+column)
	}
	if key, ok = strings.CutSuffix(stem(name), "_"+column); !ok {
		key, ok = strings.CutSuffix(stem(name), "."+column)
	}
	return key, ok
}

// pair makes rows of a listing. A picture that goes with another is no row; further counts the others that are none.
func (n naming) pair(l *listing, samples bool) (rows []pictureRow, further int) {
	keys := map[string]bool{}
	if len(n.images) > 0 {
		for _, m := range l.members {
			if key, _, ok := n.key(l, m.name, samples); ok {
				keys[key] = true
			}
		}
	}
	partners := make([]map[string]member, len(n.images))
	for k := range partners {
		partners[k] = map[string]member{}
	}
	partner := func(m member) bool {
		for k, c := range n.images {
			key, ok := base(m.name, c)
			if !ok || !keys[key] {
				continue
			}
			if have, twice := partners[k][key]; twice {
				m = member{name: have.name, bad: errorf(RowAmbiguous, "both %s and %s belong to the picture", shorten(have.name), shorten(m.name))}
			}
			partners[k][key] = m
			return true
		}
		return false
	}
	taken := map[string]bool{} // samples that have their picture
	var rowKeys []string
	for _, m := range l.members {
		if partner(m) {
			continue
		}
		key, sample, ok := n.key(l, m.name, samples)
		if !ok || sample && taken[key] {
			further++
			continue
		}
		if sample {
			taken[key] = true
		}
		rows, rowKeys = append(rows, pictureRow{member: m}), append(rowKeys, key)
	}
	none := make([]member, len(n.texts)) // shared by the rows of a listing without texts
	for i, key := range rowKeys {
		for k, c := range n.images {
			m, ok := partners[k][key]
			if !ok {
				m.bad = errorf(RowPathMissing, "no picture for column %q beside it", c)
			}
			rows[i].further = append(rows[i].further, m)
		}
		if rows[i].texts = none; len(l.texts) == 0 {
			continue
		}
		rows[i].texts = make([]member, len(n.texts))
		for k, c := range n.texts {
			rows[i].texts[k] = l.texts[key+"."+c]
		}
	}
	return rows, further
}
