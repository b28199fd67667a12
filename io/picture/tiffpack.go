package picture

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/zlib"
	"golang.org/x/image/tiff/lzw"
)

// unpack decompresses one strip or tile to exactly n bytes.
func (f *tiffFile) unpack(raw []byte, n int) ([]byte, error) {
	switch f.compression {
	case tiffNone:
		if len(raw) < n {
			return nil, truncated("%d bytes, %d expected", len(raw), n)
		}
		return append([]byte(nil), raw[:n]...), nil // a copy: the predictor works in place
	case tiffPackBits:
		return packBits(raw, n)
	}
	var r io.ReadCloser
	if f.compression == tiffLZW {
		r = lzw.NewReader(bytes.NewReader(raw), lzw.MSB, 8)
	} else {
		var err error
		if r, err = zlib.NewReader(bytes.NewReader(raw)); err != nil {
			return nil, inflateError(err, 0, f.blockH)
		}
	}
	defer r.Close()
	out := make([]byte, n)
	if m, err := io.ReadFull(r, out); err != nil {
		return nil, inflateError(err, m/f.rowBytes(), f.blockH)
	}
	return out, nil
}

// packBits expands byte runs (TIFF 6.0 section 9).
func packBits(raw []byte, n int) ([]byte, error) {
	out := make([]byte, 0, n)
	for len(out) < n {
		if len(raw) < 2 {
			return nil, truncated("%d bytes unpacked, %d expected", len(out), n)
		}
		k := int(int8(raw[0]))
		switch {
		case k >= 0:
			if len(raw) < k+2 {
				return nil, truncated("%d bytes unpacked, %d expected", len(out), n)
			}
			out = append(out, raw[1:k+2]...)
			raw = raw[k+2:]
		case k == -128:
			raw = raw[1:]
		default:
			for range 1 - k {
				out = append(out, raw[1])
			}
			raw = raw[2:]
		}
	}
	return out[:n], nil
}
