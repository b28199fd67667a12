package pickle

import (
	"errors"
	"fmt"
)

// nest returns the depth of a container of the given values, at least as deep as before.
func (m *machine) nest(before int, values ...any) (int, error) {
	d := before
	for _, v := range values {
		d = max(d, depthOf(v)+1)
	}
	if d > m.lim.Depth {
		return 0, fmt.Errorf("containers nested deeper than %d", m.lim.Depth)
	}
	return d, nil
}

func (m *machine) containerOp(op byte) error {
	switch op {
	case ')':
		return m.push(&Tuple{depth: 1}, container)
	case 0x85, 0x86, 0x87: // TUPLE1 to TUPLE3
		items := make([]any, op-0x84)
		for i := len(items) - 1; i >= 0; i-- {
			v, err := m.pop()
			if err != nil {
				return err
			}
			items[i] = v
		}
		return m.pushTuple(items)
	case 't':
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.pushTuple(items)
	case ']':
		return m.push(&List{depth: 1}, container)
	case 'l':
		items, err := m.popMark()
		if err != nil {
			return err
		}
		d, err := m.nest(1, items...)
		if err != nil {
			return err
		}
		return m.push(&List{Items: items, depth: d}, container)
	case '}':
		return m.push(&Dict{depth: 1}, container)
	case 'd':
		items, err := m.popMark()
		if err != nil {
			return err
		}
		if err := m.push(&Dict{depth: 1}, container); err != nil {
			return err
		}
		return m.setItems(items)
	case 0x8f:
		return m.push(&Set{depth: 1}, container)
	case 0x91: // FROZENSET
		items, err := m.popMark()
		if err != nil {
			return err
		}
		d, err := m.nest(1, items...)
		if err != nil {
			return err
		}
		return m.push(&Set{Items: items, depth: d}, container)
	case 'a': // APPEND
		v, err := m.pop()
		if err != nil {
			return err
		}
		return m.extend([]any{v})
	case 'e', 0x90: // APPENDS, ADDITEMS
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.extend(items)
	case 's': // SETITEM
		v, err := m.pop()
		if err != nil {
			return err
		}
		k, err := m.pop()
		if err != nil {
			return err
		}
		return m.setItems([]any{k, v})
	default: // 'u', SETITEMS
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.setItems(items)
	}
}

func (m *machine) pushTuple(items []any) error {
	d, err := m.nest(1, items...)
	if err != nil {
		return err
	}
	return m.push(&Tuple{Items: items, depth: d}, container+int64(len(items))*slot)
}

// extend adds items to the list or set on top of the stack. What is added to an opaque object is dropped.
func (m *machine) extend(items []any) error {
	v, err := m.top()
	if err != nil {
		return err
	}
	if err := m.spend(2 * slot * int64(len(items))); err != nil {
		return err
	}
	switch c := v.(type) {
	case *List:
		c.depth, err = m.nest(c.depth, items...)
		c.Items = append(c.Items, items...)
	case *Set:
		c.depth, err = m.nest(c.depth, items...)
		c.Items = append(c.Items, items...)
	case *Object:
	default:
		return fmt.Errorf("items added to a %s", Describe(v))
	}
	return err
}

// setItems adds alternating keys and values to the dict on top of the stack. What is added to an opaque object is dropped.
func (m *machine) setItems(items []any) error {
	v, err := m.top()
	if err != nil {
		return err
	}
	if len(items)%2 != 0 {
		return errors.New("a key without a value")
	}
	if err := m.spend(3 * slot * int64(len(items))); err != nil {
		return err
	}
	switch c := v.(type) {
	case *Object:
		return nil
	case *Dict:
		if c.depth, err = m.nest(c.depth, items...); err != nil {
			return err
		}
		for i := 0; i < len(items); i += 2 {
			if err := c.Set(items[i], items[i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("entries added to a %s", Describe(v))
}
