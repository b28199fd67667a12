package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// arrowCodec returns the compression of a batch; packed is false when it has none. The codecs are numbered as in the format.
func (m *arrowMessage) codec() (codec uint8, packed bool) {
	f := &flatbuf{b: m.meta}
	table := f.table(m.batch(f), batchCompression)
	if m.kind == arrowSchema || table == 0 {
		return 0, false
	}
	if at := f.field(table, 0); at > 0 {
		codec = f.u8(at)
	}
	return codec, true
}

const (
	arrowLZ4    = 0
	arrowZstd   = 1
	arrowStored = -1 // in place of the length of a compressed buffer that is not
)

// unpacked returns the bytes that the compressed buffers of a body unpack to, as they say.
func (m *arrowMessage) unpacked(body io.ReaderAt) (total int64, err error) {
	codec, packed := m.codec()
	if !packed {
		return 0, nil
	}
	if codec != arrowLZ4 && codec != arrowZstd {
		return 0, errorf(FileUnsupported, "arrow compression %d cannot be read", codec)
	}
	f := &flatbuf{b: m.meta}
	buffers, n := f.vector(m.batch(f), batchBuffers, 16)
	for i := range n {
		at, size := f.i64(buffers+16*i), f.i64(buffers+16*i+8)
		if size == 0 {
			continue
		}
		var head [8]byte
		if size < 8 {
			return 0, corrupt("compressed buffer %d of the arrow message at %d has no length", i, m.metaAt)
		}
		if _, err := body.ReadAt(head[:], at); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		length := int64(binary.LittleEndian.Uint64(head[:]))
		if length == arrowStored {
			length = size - 8
		}
		if length < 0 || length > 1<<48 || total > 1<<48 {
			return 0, corrupt("compressed buffer %d of the arrow message at %d of %d bytes", i, m.metaAt, length)
		}
		total += length + 8
	}
	return total, nil
}

// unpack unpacks the buffers of a body. In the body it returns they are stored, and the metadata says where. The decoder of the
// Arrow library would take as much memory for a buffer's history as the buffer asks for.
func (m *arrowMessage) unpack(body []byte) ([]byte, error) {
	codec, packed := m.codec()
	if !packed {
		return body, nil
	}
	total, err := m.unpacked(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if total > m.need {
		return nil, errorf(FileChanged, "arrow message at %d unpacks to more than when it was listed", m.metaAt)
	}
	f := &flatbuf{b: m.meta}
	buffers, n := f.vector(m.batch(f), batchBuffers, 16)
	out := make([]byte, 0, total)
	stored := int64(arrowStored)
	for i := range n {
		entry := buffers + 16*i
		at, size := f.i64(entry), f.i64(entry+8)
		if size == 0 {
			continue
		}
		src, start := body[at:][:size], len(out)
		length := int64(binary.LittleEndian.Uint64(src))
		out = binary.LittleEndian.AppendUint64(out, uint64(stored))
		if length == stored {
			out = append(out, src[8:]...)
		} else {
			dst := out[len(out):][:length]
			if codec == arrowZstd {
				err = decompress(format.Zstd, dst, src[8:])
			} else {
				err = unpackLZ4(dst, src[8:])
			}
			if err != nil {
				return nil, corrupt("buffer %d of the arrow message at %d: %w", i, m.metaAt, err)
			}
			out = out[:len(out)+int(length)]
		}
		binary.LittleEndian.PutUint64(m.meta[entry:], uint64(start))
		binary.LittleEndian.PutUint64(m.meta[entry+8:], uint64(len(out)-start))
	}
	return out, nil
}

func unpackLZ4(dst, src []byte) error {
	n, err := readExactly(lz4.NewReader(bytes.NewReader(src)), dst)
	if err == nil && n != len(dst) {
		err = corrupt("buffer unpacks to %d bytes where it says %d", n, len(dst))
	}
	return err
}
