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

// ResetOrientation returns the EXIF block (from its TIFF header on) with orientation 1, "as stored", for pixels that have been
// turned. Every orientation entry of the first directory becomes one SHORT of value 1, in place and in the block's own byte
// order; nothing else changes, the thumbnail included. The result is nil if the block has no readable directory, since other
// readers might find an orientation in it that was not reset; it is never exif itself.
func ResetOrientation(exif []byte) []byte {
	order, entries, ok := exifDirectory(exifBlock(exif))
	if !ok || entries[0] < 10 { // a directory inside the header
		return nil
	}
	out := bytes.Clone(exifBlock(exif))
	for at, end := entries[0], entries[1]; at < end; at += 12 {
		if e := out[at : at+12]; order.Uint16(e) == tagOrientation {
			order.PutUint16(e[2:], 3)
			order.PutUint32(e[4:], 1)
			order.PutUint16(e[8:], 1)
			order.PutUint16(e[10:], 0)
		}
	}
	return out
}

// exifDirectory finds the whole entries, of 12 bytes each, of the first directory: from the first offset to the second.
func exifDirectory(b []byte) (order binary.ByteOrder, entries [2]int64, ok bool) {
	if len(b) < 8 {
		return nil, entries, false
	}
	switch string(b[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return nil, entries, false
	}
	p, size := int64(order.Uint32(b[4:])), int64(len(b))
	if p+2 > size {
		return nil, entries, false
	}
	n := min(int64(order.Uint16(b[p:])), (size-p-2)/12)
	return order, [2]int64{p + 2, p + 2 + 12*n}, true
}

// exifOrientation looks for tag 274 in the first directory.
func exifOrientation(b []byte) (v uint32, ok bool) {
	order, entries, ok := exifDirectory(b)
	if !ok {
		return 0, false
	}
	for at, end := entries[0], entries[1]; at < end; at += 12 {
		if e := b[at : at+12]; order.Uint16(e) == tagOrientation {
			switch order.Uint16(e[2:]) {
			case 3:
				return uint32(order.Uint16(e[8:])), true
			case 4:
				return order.Uint32(e[8:]), true
			}
		}
	}
	return 0, false
}
