package jpegx

import "encoding/binary"

// bitReader reads entropy-coded bits, most significant first. It undoes byte stuffing and stops at a marker: past it, it
// delivers zero bits and counts them, so that overrun can tell afterwards whether a decoded symbol was real.
type bitReader struct {
	data []byte
	pos  int    // next byte to load
	acc  uint64 // loaded bits, left aligned; bits below the top n may hold a copy of bytes not loaded yet
	n    int    // loaded bits, pad included
	pad  int    // zero bits appended after the last real one
}

// fill loads at least 32 bits.
func (b *bitReader) fill() {
	if b.pos+8 <= len(b.data) && b.pad == 0 {
		w := binary.BigEndian.Uint64(b.data[b.pos:])
		if x := ^w; (x-0x0101010101010101)&^x&0x8080808080808080 == 0 { // no byte is 0xff
			b.acc |= w >> uint(b.n)
			k := (63 - b.n) >> 3
			b.pos += k
			b.n += 8 * k
			return
		}
	}
	b.fillSlow()
}

func (b *bitReader) fillSlow() {
	for b.n <= 56 {
		var c byte
		if b.pad == 0 && b.pos < len(b.data) {
			c = b.data[b.pos]
			next := b.pos + 1
			if c == 0xff {
				for next < len(b.data) && b.data[next] == 0xff {
					next++
				}
				if next >= len(b.data) || b.data[next] != 0 {
					b.pad, c = 8, 0 // a marker: stay before it
					b.acc &^= ^uint64(0) >> uint(b.n)
					b.n += 8
					continue
				}
				next++
			}
			b.pos = next
		} else {
			if b.pad == 0 {
				b.acc &^= ^uint64(0) >> uint(b.n)
			}
			b.pad += 8
		}
		b.acc |= uint64(c) << uint(56-b.n)
		b.n += 8
	}
}

// overrun reports whether bits past the end of the data were consumed.
func (b *bitReader) overrun() bool { return b.n < b.pad }

// restart drops the loaded bits.
func (b *bitReader) restart() { b.acc, b.n, b.pad = 0, 0, 0 }

// take returns the next s bits, 0 <= s <= 16.
func (b *bitReader) take(s uint) int32 {
	if b.n < 32 {
		b.fill()
	}
	v := int32(b.acc >> 32 >> (32 - s))
	b.acc <<= s
	b.n -= int(s)
	return v
}

// symbol returns the next Huffman-coded byte; ok is false for a code that the table does not hold.
func (b *bitReader) symbol(h *huffman) (v uint8, ok bool) {
	if b.n < 32 {
		b.fill()
	}
	if e := h.lut[b.acc>>(64-lutBits)]; e != 0 {
		b.acc <<= e >> 8
		b.n -= int(e >> 8)
		return uint8(e), true
	}
	v, size := h.long(b.acc)
	b.acc <<= size
	b.n -= int(size)
	return v, size != 0
}

// extend turns s magnitude bits into a signed value (T.81 F.2.2.1).
func extend(v int32, s uint) int32 {
	if s > 0 && v < 1<<(s-1) {
		v += -1<<s + 1
	}
	return v
}
