package dataset

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// zstdReader is shared: DecodeAll is safe for concurrent use. It never writes past the capacity of its destination.
var zstdReader = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(1<<30))
})

// decompress unpacks src into dst, whose length is the size the page header declares. Whatever src says, nothing larger is
// allocated or returned; another size is an error.
func decompress(codec format.CompressionCodec, dst, src []byte) error {
	n := 0
	var err error
	switch codec {
	case format.Snappy:
		if n, err = snappy.DecodedLen(src); err == nil && n == len(dst) {
			_, err = snappy.Decode(dst, src)
		}
	case format.Zstd:
		var z *zstd.Decoder
		if z, err = zstdReader(); err != nil {
			return err
		}
		var out []byte
		out, err = z.DecodeAll(src, dst[:0:len(dst)])
		n = len(out)
	case format.Gzip:
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(src)); err == nil {
			n, err = readExactly(z, dst)
		}
	case format.Brotli:
		n, err = readExactly(brotli.NewReader(bytes.NewReader(src)), dst)
	case format.Lz4Raw:
		n, err = lz4.UncompressBlock(src, dst)
	default:
		return errorf(FileUnsupported, "compression codec %s cannot be read", codec)
	}
	switch {
	case err != nil:
		return corrupt("%s: %w", codec, err)
	case n != len(dst):
		return corrupt("%s: page unpacks to %d bytes where its header says %d", codec, n, len(dst))
	}
	return nil
}

// readExactly fills dst and returns len(dst)+1 when r holds more.
func readExactly(r io.Reader, dst []byte) (int, error) {
	n, err := io.ReadFull(r, dst)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	var one [1]byte
	k, err := io.ReadFull(r, one[:])
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n + k, err
}
