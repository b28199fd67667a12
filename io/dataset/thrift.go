package dataset

import (
	"encoding/binary"
	"errors"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// errShort says that a thrift structure goes on after the bytes given.
var errShort = errors.New("thrift: structure goes on after the end")

var (
	errThrift      = errors.New("thrift: malformed structure")
	errThriftLarge = errors.New("thrift: more structures than the memory limit allows")
)

// maxThriftDepth is far above the nesting of Parquet's own structures (about 6).
const maxThriftDepth = 32

// structLen walks one structure of the thrift compact protocol and returns its length in bytes. It exists because the decoder
// allocates a list by its declared length: after this walk every declared length is known to have its elements in b.
//
// A list of structures decodes to far more memory than it takes in the file, so at most maxStructs of them may be declared.
func structLen(b []byte, maxStructs int64) (int, error) {
	w := thriftWalk{b: b, structs: maxStructs}
	if err := w.structure(0); err != nil {
		return 0, err
	}
	return w.pos, nil
}

type thriftWalk struct {
	b       []byte
	pos     int
	structs int64 // how many may still come
}

func (w *thriftWalk) byte() (byte, error) {
	if w.pos >= len(w.b) {
		return 0, errShort
	}
	w.pos++
	return w.b[w.pos-1], nil
}

func (w *thriftWalk) uvarint() (uint64, error) {
	u, n := binary.Uvarint(w.b[w.pos:])
	switch {
	case n == 0:
		return 0, errShort
	case n < 0:
		return 0, errThrift
	}
	w.pos += n
	return u, nil
}

func (w *thriftWalk) skip(n uint64) error {
	if n > 1<<31 {
		return errThrift
	}
	if n > uint64(len(w.b)-w.pos) {
		return errShort
	}
	w.pos += int(n)
	return nil
}

func (w *thriftWalk) structure(depth int) error {
	if depth > maxThriftDepth {
		return errThrift
	}
	if w.structs--; w.structs < 0 {
		return errThriftLarge
	}
	for {
		h, err := w.byte()
		if err != nil || h == 0 {
			return err
		}
		if h>>4 == 0 { // long form: the field id follows
			if _, err := w.uvarint(); err != nil {
				return err
			}
		}
		if err := w.value(thrift.Type(h&0xF), depth, true); err != nil {
			return err
		}
	}
}

// value skips a value; booleans take a byte in a list but none in a field.
func (w *thriftWalk) value(t thrift.Type, depth int, field bool) error {
	switch t {
	case thrift.TRUE, thrift.FALSE:
		if field {
			return nil
		}
		return w.skip(1)
	case thrift.I8:
		return w.skip(1)
	case thrift.I16, thrift.I32, thrift.I64:
		_, err := w.uvarint()
		return err
	case thrift.DOUBLE:
		return w.skip(8)
	case thrift.BINARY:
		n, err := w.uvarint()
		if err != nil {
			return err
		}
		return w.skip(n)
	case thrift.LIST, thrift.SET:
		return w.list(depth + 1)
	case thrift.STRUCT:
		return w.structure(depth + 1)
	}
	return errThrift // Parquet has no maps
}

func (w *thriftWalk) list(depth int) error {
	if depth > maxThriftDepth {
		return errThrift
	}
	h, err := w.byte()
	if err != nil {
		return err
	}
	n := uint64(h >> 4)
	if n == 15 {
		if n, err = w.uvarint(); err != nil {
			return err
		}
	}
	if n > 1<<31 {
		return errThrift
	}
	if n > uint64(len(w.b)-w.pos) { // every element takes at least a byte
		return errShort
	}
	for range n {
		if err := w.value(thrift.Type(h&0xF), depth, false); err != nil {
			return err
		}
	}
	return nil
}

// decodeThrift decodes the structure at the start of b into v, after walking it, and returns its length.
func decodeThrift(b []byte, v any, maxStructs int64) (int, error) {
	n, err := structLen(b, maxStructs)
	if err != nil {
		return 0, err
	}
	var p thrift.CompactProtocol
	err = guard(func() error { return thrift.NewDecoder(p.NewReaderFromBytes(b[:n])).Decode(v) })
	return n, err
}

// decodePageHeader decodes and checks a page header.
func decodePageHeader(b []byte) (*format.PageHeader, int, error) {
	h := new(format.PageHeader)
	n, err := decodeThrift(b, h, 64)
	if err != nil {
		return nil, n, err
	}
	if h.CompressedPageSize < 0 || h.UncompressedPageSize < 0 {
		return nil, n, errThrift
	}
	return h, n, nil
}
