package npz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Type is an element type.
type Type struct {
	Kind  byte // 'f' floating point, 'i' signed, 'u' unsigned, 'b' boolean
	Size  int  // bytes
	Order binary.ByteOrder
}

// String is numpy's descr.
func (t Type) String() string {
	order := "<"
	switch {
	case t.Size == 1:
		order = "|"
	case t.Order == binary.BigEndian:
		order = ">"
	}
	return order + string(t.Kind) + strconv.Itoa(t.Size)
}

// The types that are written.
var (
	Float64 = Type{'f', 8, binary.LittleEndian}
	Float32 = Type{'f', 4, binary.LittleEndian}
	Uint8   = Type{'u', 1, binary.LittleEndian}
	Int64   = Type{'i', 8, binary.LittleEndian}
)

const magic = "\x93NUMPY"

// maxHeader is numpy's own limit for files that are not trusted.
const maxHeader = 10000

type header struct {
	dtype   Type
	fortran bool
	shape   []int
	count   int // product of the shape
}

// readHeader reads the header of an array in a file of size bytes, and checks that the rest is what the header says.
func readHeader(r io.Reader, size int64) (header, error) {
	var h header
	var fixed [12]byte
	if _, err := io.ReadFull(r, fixed[:10]); err != nil {
		return h, cut(err)
	}
	if string(fixed[:6]) != magic {
		return h, errors.New("no array: the file does not begin with \\x93NUMPY")
	}
	n, used := int64(binary.LittleEndian.Uint16(fixed[8:])), int64(10)
	switch fixed[6] {
	case 1:
	case 2, 3:
		if _, err := io.ReadFull(r, fixed[10:]); err != nil {
			return h, cut(err)
		}
		n, used = int64(binary.LittleEndian.Uint32(fixed[8:])), 12
	default:
		return h, fmt.Errorf("array format %d.%d is not known", fixed[6], fixed[7])
	}
	if n > maxHeader || n > size-used {
		return h, fmt.Errorf("header of %d bytes in an array of %d", n, size)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return h, cut(err)
	}
	if err := h.parse(string(text)); err != nil {
		return h, fmt.Errorf("header %.200q: %w", strings.TrimSpace(string(text)), err)
	}
	left := size - used - n
	if int64(h.count) > math.MaxInt64/8 || int64(h.count)*int64(h.dtype.Size) != left {
		return h, fmt.Errorf("header says shape %v of %v, but %d bytes follow", h.shape, h.dtype, left)
	}
	return h, nil
}

func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("array is cut off")
	}
	return err
}

// literal is a cursor over the Python literal of a header: a dictionary of strings, booleans and tuples of integers.
type literal struct{ s string }

func (l *literal) space() { l.s = strings.TrimLeft(l.s, " \t\r\n") }

func (l *literal) take(token string) bool {
	l.space()
	s, ok := strings.CutPrefix(l.s, token)
	l.s = s
	return ok
}

func (l *literal) text() (string, error) {
	l.space()
	if l.s == "" || l.s[0] != '\'' && l.s[0] != '"' {
		return "", errors.New("a string is missing")
	}
	end := strings.IndexByte(l.s[1:], l.s[0])
	if end < 0 {
		return "", errors.New("a string does not end")
	}
	v := l.s[1 : 1+end]
	l.s = l.s[end+2:]
	return v, nil
}

func (l *literal) tuple() ([]int, error) {
	if !l.take("(") {
		return nil, errors.New("shape is not a tuple")
	}
	v := []int{}
	for !l.take(")") {
		l.space()
		n := 0
		for n < len(l.s) && l.s[n] >= '0' && l.s[n] <= '9' {
			n++
		}
		x, err := strconv.ParseInt(l.s[:n], 10, 63)
		if err != nil {
			return nil, errors.New("shape is not of whole numbers")
		}
		l.s = strings.TrimPrefix(l.s[n:], "L") // Python 2
		v = append(v, int(x))
		if !l.take(",") && !strings.HasPrefix(strings.TrimLeft(l.s, " "), ")") {
			return nil, errors.New("shape does not end")
		}
	}
	return v, nil
}

func (h *header) parse(s string) error {
	l := &literal{s}
	if !l.take("{") {
		return errors.New("not a dictionary")
	}
	seen := map[string]bool{}
	for !l.take("}") {
		key, err := l.text()
		if err != nil {
			return err
		}
		if seen[key] || !l.take(":") {
			return fmt.Errorf("key %q has no value or several", key)
		}
		seen[key] = true
		switch key {
		case "descr":
			if l.take("[") {
				return errors.New("records are not supported")
			}
			d, err := l.text()
			if err != nil {
				return err
			}
			if h.dtype, err = parseType(d); err != nil {
				return err
			}
		case "fortran_order":
			if h.fortran = l.take("True"); !h.fortran && !l.take("False") {
				return errors.New("fortran_order is neither True nor False")
			}
		case "shape":
			if h.shape, err = l.tuple(); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown key %q", key)
		}
		l.take(",")
	}
	if l.space(); l.s != "" || len(seen) != 3 {
		return errors.New("not the three keys descr, fortran_order and shape")
	}
	if len(h.shape) > 32 {
		return fmt.Errorf("%d dimensions", len(h.shape))
	}
	h.count = 1
	for _, n := range h.shape {
		if n > 0 && h.count > math.MaxInt64/8/n {
			return errors.New("shape is too large for any memory")
		}
		h.count *= n
	}
	return nil
}

func parseType(descr string) (Type, error) {
	t := Type{Order: binary.LittleEndian}
	s := descr
	if s != "" && strings.IndexByte("<>|=", s[0]) >= 0 {
		if s[0] == '>' {
			t.Order = binary.BigEndian
		}
		s = s[1:]
	}
	if strings.HasPrefix(s, "O") {
		return t, errors.New("arrays of objects are pickles and are not read")
	}
	switch s {
	case "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1":
		t.Kind, t.Size = s[0], int(s[1]-'0')
		return t, nil
	}
	return t, fmt.Errorf("element type %.20q is not supported", descr)
}
