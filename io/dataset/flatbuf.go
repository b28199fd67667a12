package dataset

import "encoding/binary"

// flatbuf reads tables of a flatbuffer of foreign origin. What lies outside of the bytes reads as zero and sets bad, so that a
// caller checks once, after it has read.
type flatbuf struct {
	b   []byte
	bad bool
}

// bytes returns the n bytes at a place.
func (f *flatbuf) bytes(at, n int) []byte {
	if at < 0 || n < 0 || at > len(f.b) || n > len(f.b)-at {
		f.bad = true
		return make([]byte, min(max(n, 0), 8))
	}
	return f.b[at:][:n]
}

func (f *flatbuf) u8(at int) uint8   { return f.bytes(at, 1)[0] }
func (f *flatbuf) u16(at int) uint16 { return binary.LittleEndian.Uint16(f.bytes(at, 2)) }
func (f *flatbuf) u32(at int) uint32 { return binary.LittleEndian.Uint32(f.bytes(at, 4)) }
func (f *flatbuf) i64(at int) int64  { return int64(binary.LittleEndian.Uint64(f.bytes(at, 8))) }

// ref follows an offset. Offsets lead forward only, so tables cannot hold themselves.
func (f *flatbuf) ref(at int) int {
	off := int(f.u32(at))
	if off == 0 {
		f.bad = true
	}
	return at + off
}

// field returns the place of a field of a table, 0 when the field is not there. Fields are numbered 0, 1, ...
func (f *flatbuf) field(table, number int) int {
	vtable := table - int(int32(f.u32(table)))
	slot := 4 + 2*number
	if slot >= int(f.u16(vtable)) {
		return 0
	}
	if off := int(f.u16(vtable + slot)); off != 0 {
		return table + off
	}
	return 0
}

// table returns the place of the table a field refers to, 0 when the field is not there.
func (f *flatbuf) table(table, number int) int {
	at := f.field(table, number)
	if at == 0 {
		return 0
	}
	return f.ref(at)
}

// vector returns the place of the first element of a vector and their number, all of which are in the bytes.
func (f *flatbuf) vector(table, number, width int) (at, n int) {
	if at = f.field(table, number); at == 0 {
		return 0, 0
	}
	at = f.ref(at)
	n = int(f.u32(at))
	if at += 4; at > len(f.b) || n > (len(f.b)-at)/width {
		f.bad = true
		return 0, 0
	}
	return at, n
}
