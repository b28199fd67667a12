package dataset

import (
	"fmt"
	"strings"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// node is one element of a file's schema tree.
type node struct {
	format.SchemaElement
	parent   *node
	children []*node
	maxDef   int // definition level of a present value
	maxRep   int
	leaf     int // index among the leaves, which is the index of the column chunk; -1 for groups
}

const maxSchemaDepth = 64

// schemaTree builds the tree and returns its root and the leaves in order.
func schemaTree(elements []format.SchemaElement) (root *node, leaves []*node, err error) {
	next := 0
	var build func(parent *node, depth int) (*node, error)
	build = func(parent *node, depth int) (*node, error) {
		if next >= len(elements) || depth > maxSchemaDepth {
			return nil, corrupt("schema declares more columns than it holds, or nests too deep")
		}
		n := &node{SchemaElement: elements[next], parent: parent, leaf: -1}
		next++
		if parent != nil {
			n.maxDef, n.maxRep = parent.maxDef, parent.maxRep
			switch n.repetition() {
			case format.Repeated:
				n.maxRep++
				n.maxDef++
			case format.Optional:
				n.maxDef++
			}
		}
		if n.Type.Valid {
			n.leaf = len(leaves)
			leaves = append(leaves, n)
			return n, nil
		}
		for range n.NumChildren.V {
			c, err := build(n, depth+1)
			if err != nil {
				return nil, err
			}
			n.children = append(n.children, c)
		}
		return n, nil
	}
	if root, err = build(nil, 0); err != nil {
		return nil, nil, err
	}
	if next != len(elements) || root.leaf >= 0 {
		return nil, nil, corrupt("schema has %d elements, its tree %d", len(elements), next)
	}
	return root, leaves, nil
}

func (n *node) repetition() format.FieldRepetitionType {
	if !n.RepetitionType.Valid {
		return format.Required
	}
	return n.RepetitionType.V
}

func (n *node) physical() format.Type { return n.Type.V }

// path returns the dotted name below the root.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	if p := n.parent.path(); p != "" {
		return p + "." + n.Name
	}
	return n.Name
}

// child returns the child of that name; names may repeat in damaged files, the first counts.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// find returns the top-level column of that name, else the one its dotted path leads to: through the fields of structs, and of
// structs in lists, whose fields are then columns of lists.
func (n *node) find(name string) *node {
	if c := n.child(name); c != nil {
		return c
	}
	for i := range name {
		if name[i] == '.' {
			if c := n.child(name[:i]); c != nil {
				return c.element().find(name[i+1:])
			}
		}
	}
	return nil
}

// element passes through the lists around a node.
func (n *node) element() *node {
	for e := n.listElement(); e != nil && e != n; e = n.listElement() {
		n = e
	}
	return n
}

// listLevels returns, for every repeated node on the way to a leaf, the definition level of an element in it.
func (n *node) listLevels() []uint8 {
	if n.parent == nil {
		return nil
	}
	levels := n.parent.listLevels()
	if n.repetition() == format.Repeated {
		levels = append(levels, uint8(n.maxDef))
	}
	return levels
}

func (n *node) scalar() bool { return n.leaf >= 0 && n.maxRep == 0 }

// text says whether the leaf is annotated as text.
func (n *node) text() bool {
	switch n.LogicalType.Value.(type) {
	case *format.StringType, *format.EnumType, *format.JsonType:
		return true
	case nil:
		c := n.ConvertedType
		return c.Valid && (c.V == deprecated.UTF8 || c.V == deprecated.Enum || c.V == deprecated.Json)
	}
	return false
}

// annotated says whether the leaf has a meaning beyond its physical type.
func (n *node) annotated() bool { return n.LogicalType.Value != nil || n.ConvertedType.Valid }

// nullType says whether the column was inferred from nothing but nulls.
func (n *node) nullType() bool {
	_, ok := n.LogicalType.Value.(*format.NullType)
	return ok
}

func (n *node) isList() bool {
	if n.leaf >= 0 {
		return false
	}
	_, ok := n.LogicalType.Value.(*format.ListType)
	return ok || n.ConvertedType.Valid && n.ConvertedType.V == deprecated.List
}

// listElement returns the element of a list in the three-level layout or the older two-level one, nil for anything else.
func (n *node) listElement() *node {
	if n.leaf >= 0 {
		if n.repetition() == format.Repeated {
			return n
		}
		return nil
	}
	if !n.isList() || len(n.children) != 1 || n.children[0].repetition() != format.Repeated {
		return nil
	}
	rep := n.children[0]
	if rep.leaf < 0 && len(rep.children) == 1 {
		return rep.children[0]
	}
	return rep
}

// describe names the type in the words users know from Arrow.
func (n *node) describe() string {
	if n.leaf < 0 {
		if e := n.listElement(); e != nil {
			return "list<" + e.describe() + ">"
		}
		fields := make([]string, len(n.children))
		for i, c := range n.children {
			fields[i] = c.Name + ": " + c.describe()
		}
		return "struct<" + strings.Join(fields, ", ") + ">"
	}
	switch lt := n.LogicalType.Value.(type) {
	case *format.NullType:
		return "null"
	case *format.DecimalType:
		return fmt.Sprintf("decimal(%d, %d)", lt.Precision, lt.Scale)
	case *format.TimestampType:
		return "timestamp"
	case *format.DateType:
		return "date"
	case *format.IntType:
		if lt.IsSigned {
			return fmt.Sprintf("int%d", lt.BitWidth)
		}
		return fmt.Sprintf("uint%d", lt.BitWidth)
	}
	if n.text() {
		return "string"
	}
	switch n.physical() {
	case format.Boolean:
		return "bool"
	case format.Float:
		return "float32"
	case format.Double:
		return "float64"
	case format.ByteArray:
		return "binary"
	case format.FixedLenByteArray:
		return fmt.Sprintf("fixed_size_binary[%d]", n.TypeLength.V)
	}
	return strings.ToLower(n.physical().String())
}
