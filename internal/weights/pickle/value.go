package pickle

import "fmt"

// Bytes is a Python bytes object.
type Bytes []byte

// Tuple is a Python tuple.
type Tuple struct {
	Items []any
	depth int
}

// List is a Python list.
type List struct {
	Items []any
	depth int
}

// Set is a Python set or frozenset, in the order written.
type Set struct {
	Items []any
	depth int
}

// Dict is a Python dict, or what an allow-listed constructor such as OrderedDict returned: entries in insertion order.
// A repeated string key replaces the value in place; other keys are kept as written.
type Dict struct {
	Keys, Values []any
	State        any // what BUILD attached: attributes of an OrderedDict

	index map[string]int
	depth int
}

// Get returns the value of a string key.
func (d *Dict) Get(key string) (any, bool) {
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	return d.Values[i], true
}

// Set adds or replaces an entry. Lists, dicts and sets cannot be keys.
func (d *Dict) Set(key, value any) error {
	switch k := key.(type) {
	case *List, *Dict, *Set:
		return fmt.Errorf("a %s cannot be a dictionary key", Describe(key))
	case string:
		if i, ok := d.index[k]; ok {
			d.Values[i] = value
			d.depth = max(d.depth, depthOf(value)+1)
			return nil
		}
		if d.index == nil {
			d.index = map[string]int{}
		}
		d.index[k] = len(d.Keys)
	}
	d.depth = max(d.depth, depthOf(key)+1, depthOf(value)+1)
	d.Keys = append(d.Keys, key)
	d.Values = append(d.Values, value)
	return nil
}

// Global is a class or function by name. It is never resolved.
type Global struct{ Module, Name string }

func (g *Global) String() string { return g.Module + "." + g.Name }

// Object is what calling or instantiating an opaque class would have given.
type Object struct {
	Class any // *Global, or the *Object that was called
	Args  *Tuple
	State any

	depth int
}

// Describe names a value for an error message.
func Describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case float64:
		return "float"
	case string:
		return "string"
	case Bytes:
		return "bytes"
	case *Tuple:
		return "tuple"
	case *List:
		return "list"
	case *Dict:
		return "dict"
	case *Set:
		return "set"
	case *Global:
		return fmt.Sprintf("global %.100q", v)
	case *Object:
		if g, ok := v.Class.(*Global); ok {
			return fmt.Sprintf("object of the opaque class %.100q", g)
		}
		return "opaque object"
	case int64:
		return "integer"
	}
	return fmt.Sprintf("%T", v)
}

func depthOf(v any) int {
	switch v := v.(type) {
	case *Tuple:
		return v.depth
	case *List:
		return v.depth
	case *Dict:
		return v.depth
	case *Set:
		return v.depth
	case *Object:
		return v.depth
	}
	return 0
}
