package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// tiffFrom writes a little-endian file of one strip; every tag's values are SHORT.
func tiffFrom(pixels []byte, tags map[uint16][]uint16) []byte {
	le := binary.LittleEndian
	b := []byte("II*\x00\x00\x00\x00\x00")
	b = append(b, pixels...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	tags[tagStripOffsets], tags[tagStripBytes] = []uint16{8}, []uint16{uint16(len(pixels))}
	dir := le.AppendUint16(nil, uint16(len(tags)))
	for tag := range uint16(400) {
		v, ok := tags[tag]
		if !ok {
			continue
		}
		dir = le.AppendUint32(le.AppendUint16(le.AppendUint16(dir, tag), 3), uint32(len(v)))
		var raw []byte
		for _, x := range v {
			raw = le.AppendUint16(raw, x)
		}
		if len(raw) > 4 {
			dir = le.AppendUint32(dir, uint32(len(b)))
			b = append(b, raw...)
		} else {
			dir = append(append(dir, raw...), make([]byte, 4-len(raw))...)
		}
	}
	le.PutUint32(b[4:], uint32(len(b)))
	return append(append(b, dir...), 0, 0, 0, 0)
}

func TestTIFFKinds(t *testing.T) {
	eight := func(n int) []uint16 { return []uint16{8, 8, 8, 8}[:n] }
	for _, c := range []struct {
		name   string
		pixels []byte
		tags   map[uint16][]uint16
		mode   string
		pix    []uint8
		alpha  []uint8
		err    error
	}{
		{"cmyk", []byte{0, 255, 0, 0, 10, 20, 30, 128}, map[uint16][]uint16{tagWidth: {2}, tagHeight: {1}, tagBits: eight(4), tagSamples: {4}, tagPhotometric: {photoCMYK}},
			"CMYK", []uint8{255, 0, 255, 122, 117, 112}, nil, nil},
		{"alpha multiplied in", []byte{50, 100, 7, 128, 9, 9, 9, 0, 1, 2, 3, 255}, map[uint16][]uint16{tagWidth: {3}, tagHeight: {1}, tagBits: eight(4), tagSamples: {4}, tagPhotometric: {photoRGB}, tagExtraSamples: {extraAssociated}},
			"RGBA", []uint8{99, 199, 13, 0, 0, 0, 1, 2, 3}, []uint8{128, 0, 255}, nil},
		{"extra sample that is no alpha", []byte{1, 2, 3, 77}, map[uint16][]uint16{tagWidth: {1}, tagHeight: {1}, tagBits: eight(4), tagSamples: {4}, tagPhotometric: {photoRGB}, tagExtraSamples: {0}},
			"RGB", []uint8{1, 2, 3}, nil, nil},
		{"planes without their strips", []byte{1, 2, 3, 4, 5, 6}, map[uint16][]uint16{tagWidth: {2}, tagHeight: {1}, tagBits: eight(3), tagSamples: {3}, tagPhotometric: {photoRGB}, tagPlanar: {2}},
			"", nil, nil, ErrCorrupt},
		{"4 bit, white is 0", []byte{0x0f, 0x30}, map[uint16][]uint16{tagWidth: {3}, tagHeight: {1}, tagBits: {4}, tagPhotometric: {photoWhiteIsZero}},
			"L", []uint8{255, 255, 255, 0, 0, 0, 204, 204, 204}, nil, nil},
		{"16 bit, predicted", []byte{0x00, 0x10, 0xff, 0x01}, map[uint16][]uint16{tagWidth: {2}, tagHeight: {1}, tagBits: {16}, tagPredictor: {2}},
			"I;16", []uint8{0x10, 0x10, 0x10, 0x11, 0x11, 0x11}, nil, nil},
		{"gray with alpha", []byte{9, 200}, map[uint16][]uint16{tagWidth: {1}, tagHeight: {1}, tagBits: eight(2), tagSamples: {2}, tagExtraSamples: {extraUnassociated}},
			"LA", []uint8{9, 9, 9}, []uint8{200}, nil},
		{"packbits", []byte{0xfe, 5, 1, 6, 7, 0x80, 0, 8}, map[uint16][]uint16{tagWidth: {6}, tagHeight: {1}, tagBits: {8}, tagCompression: {tiffPackBits}},
			"L", []uint8{5, 5, 5, 5, 5, 5, 5, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8}, nil, nil},
		{"packbits cut", []byte{0xfe, 5, 1, 6}, map[uint16][]uint16{tagWidth: {6}, tagHeight: {1}, tagBits: {8}, tagCompression: {tiffPackBits}}, "", nil, nil, ErrTruncated},
		{"turned", []byte{1, 2, 3}, map[uint16][]uint16{tagWidth: {3}, tagHeight: {1}, tagBits: {8}, tagOrientation: {6}},
			"L", []uint8{1, 1, 1, 2, 2, 2, 3, 3, 3}, nil, nil},
		{"short strip", []byte{1, 2}, map[uint16][]uint16{tagWidth: {3}, tagHeight: {1}, tagBits: {8}}, "", nil, nil, ErrTruncated},
		{"ycbcr", []byte{1, 2, 3}, map[uint16][]uint16{tagWidth: {1}, tagHeight: {1}, tagBits: eight(3), tagSamples: {3}, tagPhotometric: {6}}, "", nil, nil, ErrUnsupported},
		{"fax", []byte{1}, map[uint16][]uint16{tagWidth: {1}, tagHeight: {1}, tagCompression: {4}}, "", nil, nil, ErrUnsupported},
		{"colour map too short", []byte{1}, map[uint16][]uint16{tagWidth: {1}, tagHeight: {1}, tagBits: {8}, tagPhotometric: {photoPalette}, tagColorMap: make([]uint16, 6)}, "", nil, nil, ErrCorrupt},
		{"strips of 0 rows", []byte{1}, map[uint16][]uint16{tagWidth: {1}, tagHeight: {1}, tagBits: {8}, tagRowsPerStrip: {0}}, "", nil, nil, ErrCorrupt},
		{"more strips than offsets", []byte{1, 2}, map[uint16][]uint16{tagWidth: {1}, tagHeight: {2}, tagBits: {8}, tagRowsPerStrip: {1}}, "", nil, nil, ErrCorrupt},
	} {
		data := tiffFrom(c.pixels, c.tags)
		img, err := Decode(data, Options{})
		if c.err != nil || err != nil {
			if !errors.Is(err, c.err) || c.err == nil {
				t.Errorf("%s: %v, want %v", c.name, err, c.err)
			}
			continue
		}
		h, perr := Probe(data, Limits{})
		if img.Mode != c.mode || !bytes.Equal(img.Pix, c.pix) || !bytes.Equal(img.Alpha, c.alpha) || perr != nil || h.W != img.W || h.H != img.H || h.Mode != c.mode {
			t.Errorf("%s: %s %v alpha %v, want %s %v alpha %v; header %+v, %v", c.name, img.Mode, img.Pix, img.Alpha, c.mode, c.pix, c.alpha, h, perr)
		}
	}
}
