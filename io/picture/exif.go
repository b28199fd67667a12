package picture

import (
	"bytes"
	"encoding/binary"
)

// exifBlock drops the "Exif\0\0" prefix that some containers keep.
func exifBlock(b []byte) []byte { return bytes.TrimPrefix(b, []byte("Exif\x00\x00")) }

// exifOrientation returns the orientation 1..8 of an EXIF block, 0 if it has none or is broken: metadata never fail a picture.
func exifOrientation(b []byte) int {
	if len(b) < 8 {
		return 0
	}
	var order binary.ByteOrder
	switch string(b[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 0
	}
	p := int64(order.Uint32(b[4:]))
	if p+2 > int64(len(b)) {
		return 0
	}
	entries := b[p+2:]
	for range order.Uint16(b[p:]) {
		if len(entries) < 12 {
			return 0
		}
		if order.Uint16(entries) == 0x0112 {
			var v uint32
			switch order.Uint16(entries[2:]) {
			case 3:
				v = uint32(order.Uint16(entries[8:]))
			case 4:
				v = order.Uint32(entries[8:])
			}
			if v < 1 || v > 8 {
				return 0
			}
			return int(v)
		}
		entries = entries[12:]
	}
	return 0
}
