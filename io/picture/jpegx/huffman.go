package jpegx

const lutBits = 10

// huffman is a decoding table. Codes up to lutBits long are found in one look-up; for AC tables, fast also holds the whole
// coefficient when its magnitude bits fit in the same look-up.
type huffman struct {
	set     bool
	lut     [1 << lutBits]uint16 // length<<8 | symbol; 0: longer or no code
	fast    [1 << lutBits]int16  // value<<8 | run<<4 | bits; 0: not here
	maxcode [18]int32            // largest code of each length, left aligned to 16 bits, exclusive; 0: none
	offset  [17]int32            // index of a code's symbol minus the code
	symbols [256]uint8
}

// build fills the table from the 16 length counts and the symbols in code order. It refuses a set of codes that does not
// fit in its lengths, and the all-ones code.
func (h *huffman) build(counts []byte, symbols []byte) error {
	h.set = false
	clear(h.lut[:])
	copy(h.symbols[:], symbols)
	code, k := int32(0), int32(0)
	for l := 1; l <= 16; l++ {
		n := int32(counts[l-1])
		h.offset[l] = k - code
		if code+n > 1<<l {
			return corrupt("huffman table: too many codes of %d bits", l)
		}
		if l <= lutBits {
			for i := range n {
				e := uint16(l)<<8 | uint16(symbols[k+i])
				lo := (code + i) << (lutBits - l)
				for j := range int32(1) << (lutBits - l) {
					h.lut[lo+j] = e
				}
			}
		}
		code += n
		k += n
		h.maxcode[l] = code << (16 - l)
		if n == 0 {
			h.maxcode[l] = 0
		}
		code <<= 1
	}
	h.set = true
	for i := range h.fast {
		h.fast[i] = 0
		e := h.lut[i]
		size, run, length := uint(e&15), int(e>>4&15), uint(e>>8)
		if e == 0 || size == 0 || length+size > lutBits {
			continue
		}
		v := extend(int32(i)>>(lutBits-length-size)&(1<<size-1), size)
		if v >= -128 && v <= 127 {
			h.fast[i] = int16(int(v)<<8 | run<<4 | int(length+size))
		}
	}
	return nil
}

// long finds codes longer than the look-up; size 0 means no such code.
func (h *huffman) long(acc uint64) (symbol uint8, size uint) {
	top := int32(acc >> 48)
	for l := lutBits + 1; l <= 16; l++ {
		if top < h.maxcode[l] {
			return h.symbols[uint8(top>>(16-l)+h.offset[l])], uint(l)
		}
	}
	return 0, 0
}
