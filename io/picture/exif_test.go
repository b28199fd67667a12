package picture

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// exifWith is a big-endian EXIF block of one SHORT tag.
func exifWith(tag, value uint16) []byte {
	b := []byte("MM\x00*\x00\x00\x00\x08\x00\x01")
	b = binary.BigEndian.AppendUint16(b, tag)
	b = append(b, 0, 3, 0, 0, 0, 1)
	b = binary.BigEndian.AppendUint16(b, value)
	return append(b, 0, 0, 0, 0, 0, 0)
}

func TestOrientationSource(t *testing.T) {
	xmp := []byte(`<rdf:Description tiff:Orientation="6"/>`)
	for _, c := range []struct {
		name      string
		exif, xmp []byte
		want      int
	}{
		{"none", nil, nil, 0},
		{"exif", exifWith(tagOrientation, 3), nil, 3},
		{"exif before xmp", exifWith(tagOrientation, 3), xmp, 3},
		{"exif out of range before xmp", exifWith(tagOrientation, 9), xmp, 0},
		{"xmp attribute", nil, xmp, 6},
		{"xmp element beside other exif", exifWith(0x10f, 3), []byte("<tiff:Orientation>8</tiff:Orientation>"), 8},
		{"xmp out of range", nil, []byte(`tiff:Orientation="9"`), 0},
		{"broken exif", exifWith(tagOrientation, 3)[:15], nil, 0},
	} {
		if got := orientation(c.exif, c.xmp); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestXMPTurns puts an XMP packet with orientation 6 into each container and expects the turned picture.
func TestXMPTurns(t *testing.T) {
	const xmp = `<x tiff:Orientation="6"/>`
	files := samples(t)
	jpg := files["420.jpg"]
	seg := append([]byte("http://ns.adobe.com/xap/1.0/\x00"), xmp...)
	jpg = bytes.Join([][]byte{jpg[:2], {0xff, 0xe1, 0, byte(len(seg) + 2)}, seg, jpg[2:]}, nil)

	chunk := append([]byte("iTXtXML:com.adobe.xmp\x00\x00\x00\x00\x00"), xmp...)
	itxt := binary.BigEndian.AppendUint32(nil, uint32(len(chunk)-4))
	itxt = append(itxt, chunk...)
	itxt = binary.BigEndian.AppendUint32(itxt, crc32.ChecksumIEEE(chunk))
	png := files["rgb.png"]
	png = bytes.Join([][]byte{png[:33], itxt, png[33:]}, nil)

	for name, data := range map[string][]byte{"jpeg": jpg, "png": png} {
		turned, err := Decode(data, DefaultOptions())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		flat, err := Decode(data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if turned.Orientation != 6 || turned.W != flat.H || turned.H != flat.W || !bytes.Equal(turned.Pix[3*(turned.W-1):3*turned.W], flat.Pix[:3]) {
			t.Errorf("%s: orientation %d, %dx%d of %dx%d", name, turned.Orientation, turned.W, turned.H, flat.W, flat.H)
		}
	}
}

// exifEntries is a block of the given entries, each tag, type, count and value.
func exifEntries(order binary.AppendByteOrder, entries ...[4]uint32) []byte {
	b := []byte("II*\x00")
	if order.AppendUint16(nil, 1)[0] == 0 {
		b = []byte("MM\x00*")
	}
	b = order.AppendUint32(b, 8)
	b = order.AppendUint16(b, uint16(len(entries)))
	for _, e := range entries {
		b = order.AppendUint16(b, uint16(e[0]))
		b = order.AppendUint16(b, uint16(e[1]))
		b = order.AppendUint32(b, e[2])
		if e[1] == 3 && e[2] == 1 {
			b = order.AppendUint16(order.AppendUint16(b, uint16(e[3])), 0)
		} else {
			b = order.AppendUint32(b, e[3])
		}
	}
	return append(b, 0, 0, 0, 0, 'r', 'e', 's', 't')
}

func TestResetOrientation(t *testing.T) {
	maker := [4]uint32{0x10f, 2, 4, 0x41424344}
	size := [4]uint32{0x100, 4, 1, 640}
	one := [4]uint32{tagOrientation, 3, 1, 1}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, c := range []struct {
			name     string
			in, want []byte
		}{
			{"a short", exifEntries(order, maker, [4]uint32{tagOrientation, 3, 1, 6}, size), exifEntries(order, maker, one, size)},
			{"a long", exifEntries(order, [4]uint32{tagOrientation, 4, 1, 8}), exifEntries(order, one)},
			{"a byte", exifEntries(order, [4]uint32{tagOrientation, 1, 1, 0x03000000}), exifEntries(order, one)},
			{"many values elsewhere", exifEntries(order, [4]uint32{tagOrientation, 3, 900, 0xfffffff0}), exifEntries(order, one)},
			{"twice", exifEntries(order, [4]uint32{tagOrientation, 3, 1, 6}, maker, [4]uint32{tagOrientation, 3, 1, 3}), exifEntries(order, one, maker, one)},
			{"none", exifEntries(order, maker, size), exifEntries(order, maker, size)},
			{"prefixed", append([]byte(exifHead), exifEntries(order, maker, one)...), exifEntries(order, maker, one)},
			{"cut in the second entry", exifEntries(order, [4]uint32{tagOrientation, 3, 1, 6}, maker)[:30], exifEntries(order, one, maker)[:30]},
			{"cut before an entry", exifEntries(order, maker)[:12], exifEntries(order, maker)[:12]},
			{"cut in the count", exifEntries(order, maker)[:9], nil},
			{"header alone", exifEntries(order)[:8], nil},
			{"another format", []byte("BM\x00*\x00\x00\x00\x08\x00\x00"), nil},
			{"nothing", nil, nil},
		} {
			before := bytes.Clone(c.in)
			if got := ResetOrientation(c.in); !bytes.Equal(got, c.want) || (got == nil) != (c.want == nil) {
				t.Errorf("%v, %s:\n% x, want\n% x", order, c.name, got, c.want)
			}
			if !bytes.Equal(c.in, before) {
				t.Errorf("%v, %s: the input is changed", order, c.name)
			}
		}
	}
	if got := ResetOrientation([]byte("II*\x00\x02\x00\x00\x00\x12\x01\x03\x00\x00\x00\x00\x00")); got != nil {
		t.Errorf("a directory inside the header: % x", got)
	}
}

func FuzzResetOrientation(f *testing.F) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		f.Add(exifEntries(order, [4]uint32{0x10f, 2, 4, 0}, [4]uint32{tagOrientation, 3, 1, 6}))
		f.Add(exifEntries(order, [4]uint32{tagOrientation, 4, 7, 6})[:17])
	}
	f.Add([]byte("Exif\x00\x00MM\x00*\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		out := ResetOrientation(b)
		if !bytes.Equal(in, b) {
			t.Fatal("the input is changed")
		}
		if out == nil {
			return
		}
		if len(out) != len(exifBlock(b)) {
			t.Fatalf("%d bytes of %d", len(out), len(b))
		}
		if v, ok := exifOrientation(out); ok && v != 1 {
			t.Fatalf("orientation %d", v)
		}
		if !bytes.Equal(ResetOrientation(out), out) {
			t.Fatal("a second reset changes more")
		}
	})
}
