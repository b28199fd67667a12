package pickle

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"unicode/utf8"
)

// Limits bound one pickle. A zero field takes its default.
type Limits struct {
	Ops    int   // opcodes; default 20 million
	Depth  int   // containers inside each other; default 64
	Memo   int   // memo entries; default 4 million
	String int64 // bytes of one string or bytes object; default 64 MiB
	Int    int   // bytes of one integer; default 1024
	Memory int64 // bytes of all values, estimated; default 1 GiB
}

// OrDefault replaces zero fields.
func (l Limits) OrDefault() Limits {
	d := Limits{Ops: 20e6, Depth: 64, Memo: 4e6, String: 64 << 20, Int: 1024, Memory: 1 << 30}
	if l.Ops != 0 {
		d.Ops = l.Ops
	}
	if l.Depth != 0 {
		d.Depth = l.Depth
	}
	if l.Memo != 0 {
		d.Memo = l.Memo
	}
	if l.String != 0 {
		d.String = l.String
	}
	if l.Int != 0 {
		d.Int = l.Int
	}
	if l.Memory != 0 {
		d.Memory = l.Memory
	}
	return d
}

// Options say what a pickle may do.
type Options struct {
	Limits Limits
	// Call is the allow-list of functions, by "module.name". The arguments are unchecked.
	Call map[string]func(args []any) (any, error)
	// Persistent resolves a persistent id; nil refuses them.
	Persistent func(id any) (any, error)
}

// Estimated memory of one stack slot and of one container.
const (
	slot      = 16
	container = 64
	maxName   = 1024
)

// mark is the stack entry of MARK.
type mark struct{}

type machine struct {
	input
	opt   Options
	lim   Limits
	stack []any
	marks []int // stack positions of the marks
	memo  map[uint32]any
	spent int64
}

// Decode runs the pickle that starts at offset off of r and must end before end. It returns the value and the offset of
// the first byte behind the pickle.
func Decode(r io.ReaderAt, off, end int64, opt Options) (value any, next int64, err error) {
	m := &machine{input: input{r: r, pos: off, end: end}, opt: opt, lim: opt.Limits.OrDefault(), memo: map[uint32]any{}}
	for range m.lim.Ops {
		at := m.pos
		op, err := m.byte()
		if err != nil {
			return nil, m.pos, fmt.Errorf("pickle ends before its STOP: %w", err)
		}
		if op == '.' {
			v, err := m.pop()
			if err == nil && len(m.stack) > 0 {
				err = fmt.Errorf("%d values left on the stack", len(m.stack))
			}
			if err != nil {
				return nil, m.pos, fmt.Errorf("pickle, STOP: %w", err)
			}
			return v, m.pos, nil
		}
		if err := m.step(op); err != nil {
			return nil, m.pos, fmt.Errorf("pickle, opcode %#02x at byte %d: %w", op, at-off, err)
		}
	}
	return nil, m.pos, fmt.Errorf("pickle of more than %d opcodes", m.lim.Ops)
}

func (m *machine) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := m.uint(1)
		if err == nil && (v < 2 || v > 5) {
			err = fmt.Errorf("protocol %d is not supported", v)
		}
		return err
	case 0x95: // FRAME: the length of what follows, of no use here
		n, err := m.uint(8)
		if err == nil && n > uint64(m.left()) {
			err = fmt.Errorf("frame of %d bytes, %d are left", n, m.left())
		}
		return err
	case 'N':
		return m.push(nil, 0)
	case 0x88:
		return m.push(true, 0)
	case 0x89:
		return m.push(false, 0)
	case 'J', 'K', 'M':
		return m.integer(map[byte]int{'J': 4, 'K': 1, 'M': 2}[op])
	case 0x8a, 0x8b: // LONG1, LONG4
		return m.long(map[byte]int{0x8a: 1, 0x8b: 4}[op])
	case 'G':
		var b [8]byte
		if err := m.read(b[:]); err != nil {
			return err
		}
		var v uint64
		for _, x := range b {
			v = v<<8 | uint64(x)
		}
		return m.push(math.Float64frombits(v), 8)
	case 0x8c, 'X', 0x8d: // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
		b, err := m.text(map[byte]int{0x8c: 1, 'X': 4, 0x8d: 8}[op])
		if err == nil && !utf8.Valid(b) && !validSurrogates(b) {
			err = errors.New("string is not UTF-8")
		}
		if err != nil {
			return err
		}
		return m.push(string(b), 0)
	case 'U', 'T': // SHORT_BINSTRING, BINSTRING: Python 2 strings
		b, err := m.text(map[byte]int{'U': 1, 'T': 4}[op])
		if err != nil {
			return err
		}
		return m.push(string(b), 0)
	case 'C', 'B', 0x8e: // SHORT_BINBYTES, BINBYTES, BINBYTES8
		b, err := m.text(map[byte]int{'C': 1, 'B': 4, 0x8e: 8}[op])
		if err != nil {
			return err
		}
		return m.push(Bytes(b), 0)
	case '(':
		m.marks = append(m.marks, len(m.stack))
		return m.push(mark{}, 8)
	case '0': // POP
		_, err := m.pop()
		return err
	case '1': // POP_MARK
		_, err := m.popMark()
		return err
	case '2': // DUP
		v, err := m.top()
		if err != nil {
			return err
		}
		return m.push(v, 0)
	case 'q', 'r', 0x94, 'h', 'j':
		return m.memoOp(op)
	case ')', 't', 0x85, 0x86, 0x87, ']', 'l', 'a', 'e', '}', 'd', 's', 'u', 0x8f, 0x90, 0x91:
		return m.containerOp(op)
	case 'c', 0x93, 'R', 'b', 0x81, 0x92, 'Q':
		return m.objectOp(op)
	}
	return errors.New("opcode is not allowed")
}

// validSurrogates reports whether b is UTF-8 but for encoded surrogates, which Python's "surrogatepass" writes.
func validSurrogates(b []byte) bool {
	for len(b) > 0 {
		if len(b) >= 3 && b[0] == 0xed && b[1] >= 0xa0 && b[1] <= 0xbf && b[2]&0xc0 == 0x80 {
			b = b[3:]
			continue
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return false
		}
		b = b[n:]
	}
	return true
}

// spend takes n bytes of the memory budget.
func (m *machine) spend(n int64) error {
	if n > m.lim.Memory-m.spent {
		return fmt.Errorf("values take more than the limit of %d bytes", m.lim.Memory)
	}
	m.spent += n
	return nil
}

func (m *machine) push(v any, cost int64) error {
	if err := m.spend(slot + cost); err != nil {
		return err
	}
	m.stack = append(m.stack, v)
	return nil
}

// top returns the value on top; a mark is not a value.
func (m *machine) top() (any, error) {
	if len(m.stack) == 0 {
		return nil, errors.New("stack underflow")
	}
	v := m.stack[len(m.stack)-1]
	if _, ok := v.(mark); ok {
		return nil, errors.New("stack underflow at a mark")
	}
	return v, nil
}

func (m *machine) pop() (any, error) {
	v, err := m.top()
	if err == nil {
		m.stack[len(m.stack)-1] = nil
		m.stack = m.stack[:len(m.stack)-1]
	}
	return v, err
}

// popMark removes the values above the last mark, and the mark. The result is a copy.
func (m *machine) popMark() ([]any, error) {
	if len(m.marks) == 0 {
		return nil, errors.New("no mark on the stack")
	}
	at := m.marks[len(m.marks)-1]
	m.marks = m.marks[:len(m.marks)-1]
	items := slices.Clone(m.stack[at+1:])
	clear(m.stack[at:])
	m.stack = m.stack[:at]
	return items, m.spend(int64(len(items)) * slot)
}

func (m *machine) integer(n int) error {
	v, err := m.uint(n)
	if err != nil {
		return err
	}
	if n == 4 {
		return m.push(int64(int32(v)), 8)
	}
	return m.push(int64(v), 8)
}

// long reads a two's complement integer with a length of n bytes in front.
func (m *machine) long(n int) error {
	size, err := m.uint(n)
	if err != nil {
		return err
	}
	if size > uint64(m.lim.Int) || int64(size) > m.left() {
		return fmt.Errorf("integer of %d bytes", size)
	}
	b := make([]byte, size)
	if err := m.read(b); err != nil {
		return err
	}
	slices.Reverse(b)
	v := new(big.Int).SetBytes(b)
	if size > 0 && b[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*size)))
	}
	if v.IsInt64() {
		return m.push(v.Int64(), 8)
	}
	return m.push(v, int64(size)+container)
}

// text reads a string with a length of n bytes in front.
func (m *machine) text(n int) ([]byte, error) {
	size, err := m.uint(n)
	if err != nil {
		return nil, err
	}
	switch {
	case size > uint64(m.left()):
		return nil, fmt.Errorf("string of %d bytes, %d are left", size, m.left())
	case size > uint64(m.lim.String):
		return nil, fmt.Errorf("string of %d bytes, limit %d", size, m.lim.String)
	}
	if err := m.spend(2*int64(size) + slot); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	return b, m.read(b)
}

func (m *machine) memoOp(op byte) error {
	var key uint64
	var err error
	switch op {
	case 'q', 'h':
		key, err = m.uint(1)
	case 'r', 'j':
		key, err = m.uint(4)
	default: // MEMOIZE numbers by itself
		key = uint64(len(m.memo))
	}
	if err != nil {
		return err
	}
	if op == 'h' || op == 'j' {
		v, ok := m.memo[uint32(key)]
		if !ok {
			return fmt.Errorf("memo entry %d was never written", key)
		}
		return m.push(v, 0)
	}
	v, err := m.top()
	if err != nil {
		return err
	}
	if len(m.memo) >= m.lim.Memo {
		return fmt.Errorf("more than %d memo entries", m.lim.Memo)
	}
	if err := m.spend(48); err != nil {
		return err
	}
	m.memo[uint32(key)] = v
	return nil
}
