package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"sync"
)

// Limits of JPEG segments, whose length, itself included, has 16 bits; a profile has up to 255 of them.
const (
	exifHead    = "Exif\x00\x00"
	iccHead     = "ICC_PROFILE\x00"
	maxJPEGEXIF = 65533 - len(exifHead)
	iccChunk    = 65533 - len(iccHead) - 2
	maxJPEGICC  = 255 * iccChunk
)

// jfif is version 1.1, square pixels, no thumbnail.
const jfif = "\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"

func encodeJPEG(w io.Writer, f *Frame, quality int) error {
	switch {
	case f.HasAlpha():
		return errors.New("a jpeg has no alpha: the picture must be matted first")
	case f.Pix16 != nil:
		return errors.New("a jpeg has 8 bits: the picture must be narrowed first")
	case f.W > 65535 || f.H > 65535:
		return fmt.Errorf("jpeg holds at most 65535 pixels a side, the picture is %dx%d", f.W, f.H)
	case len(f.EXIF) > maxJPEGEXIF:
		return fmt.Errorf("exif of %d bytes: a jpeg holds at most %d", len(f.EXIF), maxJPEGEXIF)
	case len(f.ICC) > maxJPEGICC:
		return fmt.Errorf("icc profile of %d bytes: a jpeg holds at most %d", len(f.ICC), maxJPEGICC)
	}
	head := []byte(jfif)
	if len(f.EXIF) > 0 {
		head = appendSegment(head, 0xe1, []byte(exifHead), f.EXIF)
	}
	chunks := (len(f.ICC) + iccChunk - 1) / iccChunk
	for i := range chunks {
		part := f.ICC[i*iccChunk : min((i+1)*iccChunk, len(f.ICC))]
		head = appendSegment(head, 0xe2, []byte(iccHead), []byte{byte(i + 1), byte(chunks)}, part)
	}
	var m image.Image
	rect := image.Rect(0, 0, f.W, f.H)
	if f.Channels == 1 {
		m = &image.Gray{Pix: f.Pix8, Stride: f.W, Rect: rect}
	} else {
		buf, _ := rgbaBuffers.Get().(*[]uint8)
		if buf == nil {
			buf = new([]uint8)
		}
		*buf = grow(*buf, 4*f.W*f.H)
		if cap(*buf) <= keepBytes {
			defer rgbaBuffers.Put(buf)
		}
		pad(*buf, f.Pix8)
		m = &image.RGBA{Pix: *buf, Stride: 4 * f.W, Rect: rect}
	}
	if err := jpeg.Encode(&spliced{w: w, head: head}, m, &jpeg.Options{Quality: quality}); err != nil {
		return fmt.Errorf("encode jpeg: %w", err)
	}
	return nil
}

func appendSegment(b []byte, marker byte, pieces ...[]byte) []byte {
	body := bytes.Join(pieces, nil)
	b = append(b, 0xff, marker)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)+2))
	return append(b, body...)
}

// rgbaBuffers holds *[]uint8: the encoder reads this layout fastest.
var rgbaBuffers sync.Pool

// pad copies RGB to RGBA.
func pad(dst, src []uint8) {
	for len(src) >= 3 && len(dst) >= 4 {
		s, d := src[:3:3], dst[:4:4]
		d[0], d[1], d[2], d[3] = s[0], s[1], s[2], 255
		src, dst = src[3:], dst[4:]
	}
}

// spliced writes head for the first two bytes, the start-of-image marker.
type spliced struct {
	w    io.Writer
	head []byte
}

func (s *spliced) Write(p []byte) (int, error) {
	if s.head == nil {
		return s.w.Write(p)
	}
	if len(p) < 2 {
		return 0, io.ErrShortWrite // the encoder buffers more than that
	}
	if _, err := s.w.Write(s.head); err != nil {
		return 0, err
	}
	s.head = nil
	n, err := s.w.Write(p[2:])
	return n + 2, err
}
