package pickle

import (
	"errors"
	"fmt"
)

func (m *machine) objectOp(op byte) error {
	switch op {
	case 'c': // GLOBAL
		module, err := m.line(maxName)
		if err != nil {
			return err
		}
		name, err := m.line(maxName)
		if err != nil {
			return err
		}
		return m.push(&Global{module, name}, container+int64(len(module)+len(name)))
	case 0x93: // STACK_GLOBAL
		name, err := m.pop()
		if err != nil {
			return err
		}
		module, err := m.pop()
		if err != nil {
			return err
		}
		n, ok1 := name.(string)
		mod, ok2 := module.(string)
		if !ok1 || !ok2 || len(n) > maxName || len(mod) > maxName {
			return errors.New("a global must be named by two short strings")
		}
		return m.push(&Global{mod, n}, container)
	case 'Q': // BINPERSID
		id, err := m.pop()
		if err != nil {
			return err
		}
		if m.opt.Persistent == nil {
			return errors.New("persistent ids are not allowed here")
		}
		v, err := m.opt.Persistent(id)
		if err != nil {
			return err
		}
		return m.push(v, container)
	case 'b': // BUILD
		state, err := m.pop()
		if err != nil {
			return err
		}
		v, err := m.top()
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case *Dict:
			v.depth, err = m.nest(v.depth, state)
			v.State = state
		case *Object:
			v.depth, err = m.nest(v.depth, state)
			v.State = state
		default:
			return fmt.Errorf("state set on a %s", Describe(v))
		}
		return err
	case 0x92: // NEWOBJ_EX: the keyword arguments of an opaque class are of no use
		if _, err := m.pop(); err != nil {
			return err
		}
	}
	return m.call(op)
}

// call handles REDUCE, NEWOBJ and NEWOBJ_EX: arguments on top of a callable.
func (m *machine) call(op byte) error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	args, ok := v.(*Tuple)
	if !ok {
		return fmt.Errorf("arguments are a %s, not a tuple", Describe(v))
	}
	f, err := m.pop()
	if err != nil {
		return err
	}
	switch g := f.(type) {
	case *Global:
		if fn, ok := m.opt.Call[g.String()]; ok && op == 'R' {
			if err := m.spend(copyCost(args.Items)); err != nil {
				return err
			}
			r, err := fn(args.Items)
			if err != nil {
				return fmt.Errorf("%s: %w", g, err)
			}
			return m.push(r, container)
		}
	case *Object:
	default:
		return fmt.Errorf("a %s cannot be called", Describe(f))
	}
	d, err := m.nest(1, args, f)
	if err != nil {
		return err
	}
	return m.push(&Object{Class: f, Args: args, depth: d}, container)
}

// copyCost is what a function may allocate to copy its arguments, which the memo can hand to it again and again.
func copyCost(args []any) int64 {
	n := int64(0)
	for _, a := range args {
		switch a := a.(type) {
		case string:
			n += int64(len(a))
		case Bytes:
			n += int64(len(a))
		case *List:
			n += 8 * slot * int64(len(a.Items))
		}
	}
	return n
}

// NewDict makes an empty dictionary, for functions of the allow-list.
func NewDict() *Dict { return &Dict{depth: 1} }
