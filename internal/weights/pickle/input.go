package pickle

import (
	"bytes"
	"fmt"
	"io"
)

const window = 32 << 10

// input is a buffered cursor over bytes [pos, end) of a file. It knows how much is left, so that a declared length can be
// refused before it is allocated.
type input struct {
	r        io.ReaderAt
	pos, end int64 // pos: file offset of the next unread byte
	buf      []byte
}

func (in *input) left() int64 { return in.end - in.pos }

// fill makes at least one byte available.
func (in *input) fill() error {
	if len(in.buf) > 0 {
		return nil
	}
	if in.left() <= 0 {
		return io.ErrUnexpectedEOF
	}
	buf := make([]byte, min(window, in.left()))
	n, err := in.r.ReadAt(buf, in.pos)
	if n == 0 {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	in.buf = buf[:n]
	return nil
}

func (in *input) byte() (byte, error) {
	if err := in.fill(); err != nil {
		return 0, err
	}
	b := in.buf[0]
	in.buf = in.buf[1:]
	in.pos++
	return b, nil
}

// read fills p.
func (in *input) read(p []byte) error {
	for len(p) > 0 {
		if err := in.fill(); err != nil {
			return err
		}
		n := copy(p, in.buf)
		p, in.buf = p[n:], in.buf[n:]
		in.pos += int64(n)
	}
	return nil
}

// uint reads a little-endian integer of n bytes.
func (in *input) uint(n int) (uint64, error) {
	var b [8]byte
	if err := in.read(b[:n]); err != nil {
		return 0, err
	}
	var v uint64
	for i := n - 1; i >= 0; i-- {
		v = v<<8 | uint64(b[i])
	}
	return v, nil
}

// line reads up to a newline, which is dropped.
func (in *input) line(limit int) (string, error) {
	var s []byte
	for {
		if err := in.fill(); err != nil {
			return "", err
		}
		i := bytes.IndexByte(in.buf, '\n')
		part := in.buf
		if i >= 0 {
			part = in.buf[:i]
		}
		if len(s)+len(part) > limit {
			return "", fmt.Errorf("name longer than %d bytes", limit)
		}
		s = append(s, part...)
		in.buf = in.buf[len(part):]
		in.pos += int64(len(part))
		if i >= 0 {
			in.buf = in.buf[1:]
			in.pos++
			return string(s), nil
		}
	}
}
