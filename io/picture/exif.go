package picture

import (
	"bytes"
	"encoding/binary"
	"regexp"
)

// exifBlock drops the "Exif\0\0" prefix that some containers keep.
func exifBlock(b []byte) []byte { return bytes.TrimPrefix(b, []byte("Exif\x00\x00")) }

// orientation returns the orientation 1..8, 0 if there is none or it is broken: metadata never fail a picture. The EXIF tag
// counts if it is there, even when its value is out of range; else the first tiff:Orientation of the XMP packet.
func orientation(exif, xmp []byte) int {
	v, ok := exifOrientation(exif)
	if !ok {
		if m := xmpOrientation.FindSubmatch(xmp); m != nil {
			v = uint32(m[1][0] - '0')
		}
	}
	if v < 1 || v > 8 {
		return 0
	}
	return int(v)
}

var xmpOrientation = regexp.MustCompile(`tiff:Orientation(?:="|>)([0-9])`)

// exifOrientation looks for tag 274 in the first directory.
func exifOrientation(b []byte) (v uint32, ok bool) {
	if len(b) < 8 {
		return 0, false
	}
	var order binary.ByteOrder
	switch string(b[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 0, false
	}
	p := int64(order.Uint32(b[4:]))
	if p+2 > int64(len(b)) {
		return 0, false
	}
	entries := b[p+2:]
	for range order.Uint16(b[p:]) {
		if len(entries) < 12 {
			break
		}
		if order.Uint16(entries) == tagOrientation {
			switch order.Uint16(entries[2:]) {
			case 3:
				return uint32(order.Uint16(entries[8:])), true
			case 4:
				return order.Uint32(entries[8:]), true
			}
		}
		entries = entries[12:]
	}
	return 0, false
}
