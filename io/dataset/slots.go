package dataset

import (
	"slices"
)

// slots says which leaves of a file are read and what becomes of their values.
type slots struct {
	leaves []slot
	image  imageSlots
	extra  []imageSlots
	id     valueSlot
	label  valueSlot
	values []valueSlot
}

type slot struct {
	leaf int
	typ  leafType
	path string
}

// imageSlots are the slots of an image column; -1 is none.
type imageSlots struct {
	bytes, path int
	name        string
}

// valueSlot is one column of values: a leaf, or a partition of the file.
type valueSlot struct {
	slot      int // -1 for a partition and for none
	conv      converter
	lists     []uint8 // per list around the value, outermost first, the definition level of an element of it; see nest
	kind      Kind
	partition *string
	isPart    bool
	path      string
}

func (s *slots) add(n *node) (int, error) {
	t, err := newLeafType(n)
	if err != nil {
		return 0, at(err, "", -1, -1, n.path())
	}
	for i, have := range s.leaves {
		if have.leaf == n.leaf {
			return i, nil
		}
	}
	s.leaves = append(s.leaves, slot{n.leaf, t, n.path()})
	return len(s.leaves) - 1, nil
}

func (s *slots) addImage(root *node, name string) (imageSlots, error) {
	n := root.find(name)
	if n == nil {
		return imageSlots{}, errorf(SchemaNoImage, "no image column %q; columns are %s", name, columnList(root))
	}
	shape, why := imageShape(n)
	if why != "" {
		return imageSlots{}, errorf(SchemaUnsupported, "image %s", why)
	}
	out := imageSlots{bytes: -1, path: -1, name: name}
	var err error
	if shape.bytes != nil {
		if out.bytes, err = s.add(shape.bytes); err != nil {
			return out, err
		}
	}
	if shape.path != nil {
		out.path, err = s.add(shape.path)
	}
	return out, err
}

// addValue finds a column of values. The type of a partition is text.
func (s *slots) addValue(root *node, name string, f *file) (valueSlot, Column, error) {
	v, col := valueSlot{slot: -1, path: name}, Column{Name: name}
	n := root.find(name)
	if n == nil {
		for _, p := range f.partitions {
			if p.Key == name {
				v.isPart, v.partition, v.kind = true, p.Value, KindString
				col.Kind, col.Partition, col.Type = KindString, true, "string"
				return v, col, nil
			}
		}
		return v, col, errorf(SchemaNoColumn, "no column %q; columns are %s", name, columnList(root))
	}
	col.Type = n.describe()
	leaf := n.element()
	refuse := func() (valueSlot, Column, error) {
		return v, col, errorf(SchemaUnsupported, "column %q of type %s cannot be read", name, col.Type)
	}
	if leaf.leaf < 0 || leaf.nullType() {
		return refuse()
	}
	if v.kind, v.conv = valueOf(leaf); v.conv == nil {
		return refuse()
	}
	v.lists = leaf.listLevels()
	col.Kind, col.Depth, col.List = v.kind, len(v.lists), len(v.lists) > 0
	var err error
	v.slot, err = s.add(leaf)
	return v, col, err
}

// resolve finds the columns decided on in a file, and checks that it agrees with the files before it.
func (d *Dataset) resolve(f *file, root *node, hints features) (err error) {
	ft, s := &d.features, &f.slots
	s.id.slot, s.label.slot = -1, -1
	if ft.Image != "" {
		if s.image, err = s.addImage(root, ft.Image); err != nil {
			return err
		}
	}
	for _, name := range ft.Images {
		x, err := s.addImage(root, name)
		if err != nil {
			return err
		}
		s.extra = append(s.extra, x)
	}
	if ft.ID != "" {
		var c Column
		if s.id, c, err = s.addValue(root, ft.ID, f); err != nil {
			return err
		}
		if c.List || c.Kind != KindString && c.Kind != KindInt && c.Kind != KindUint {
			return errorf(SchemaUnsupported, "id column %q of type %s is neither text nor integer", ft.ID, c.Type)
		}
	}
	first := len(d.files) == 0
	if ft.Label != "" {
		var c Column
		if s.label, c, err = s.addValue(root, ft.Label, f); err != nil {
			return err
		}
		if !c.Partition && !isLabel(root.find(ft.Label)) {
			return errorf(SchemaUnsupported, "label column %q of type %s is not one integer or text per row", ft.Label, c.Type)
		}
		names, text := hints.classes[ft.Label], c.Kind == KindString
		switch {
		case first:
			ft.ClassNames, ft.TextLabel = names, text
		case text != ft.TextLabel:
			return errorf(SchemaMismatch, "label column %q is of type %s here and of another in %s", ft.Label, c.Type, d.files[0].name)
		case !slices.Equal(names, ft.ClassNames):
			return errorf(SchemaMismatch, "class names %v differ from %v in %s", names, ft.ClassNames, d.files[0].name)
		}
	}
	var columns []Column
	for i, name := range d.spec.Columns {
		v, c, err := s.addValue(root, name, f)
		if err != nil {
			return err
		}
		if !first {
			if have := ft.Columns[i]; have.Kind != c.Kind || have.Depth != c.Depth {
				return errorf(SchemaMismatch, "column %q is of type %s here and %s in %s", name, c.Type, have.Type, d.files[0].name)
			}
		}
		s.values, columns = append(s.values, v), append(columns, c)
	}
	if first {
		ft.Columns = columns
	}
	return nil
}
