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
