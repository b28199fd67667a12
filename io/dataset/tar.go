package dataset

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// unpacker starts unpacking a compressed tar file.
type unpacker func(io.Reader) (io.ReadCloser, error)

// unpackerOf returns how a tar file of that name is packed; nil is not at all.
func unpackerOf(name string, memory int64) unpacker {
	switch name = strings.ToLower(name); {
	case strings.HasSuffix(name, "gz"):
		return func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }
	case strings.HasSuffix(name, "zst"):
		window := uint64(max(1<<20, min(memory, 1<<27)))
		return func(r io.Reader) (io.ReadCloser, error) {
			z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
			if err != nil {
				return nil, err
			}
			return z.IOReadCloser(), nil
		}
	}
	return nil
}

// tar lists the pictures of a tar file in stored order. A compressed one is unpacked once for it.
func (l *listing) tar(ctx context.Context, f found) error {
	if f.size == 0 {
		return errorf(FileEmpty, "file has zero bytes")
	}
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	unpack := unpackerOf(f.path, l.limit)
	l.store = &tarStore{unpack: unpack}
	notTar := func(err error) error {
		head := make([]byte, 512)
		n, _ := r.ReadAt(head, 0)
		return errorf(FileNotArchive, "not a tar file of its name's kind: %s (%w)", looksLike(head[:n]), err)
	}
	if unpack == nil {
		s := io.NewSectionReader(r, 0, f.size)
		err := l.tarMembers(ctx, s, f.size, func() int64 { at, _ := s.Seek(0, io.SeekCurrent); return at })
		if errors.Is(err, errFirst) {
			return notTar(err)
		}
		return err
	}
	// All of the packed bytes go into the hash: they are read anyway.
	z, err := unpack(io.TeeReader(ctxReader{ctx, io.NewSectionReader(r, 0, f.size)}, l.digest()))
	if err != nil {
		return notTar(err)
	}
	defer z.Close()
	count := &countReader{r: z}
	if err := l.tarMembers(ctx, count, -1, func() int64 { return count.n }); errors.Is(err, errFirst) {
		return notTar(err)
	} else if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, z); err != nil { // to its checksum
		return tarError(ctx, err)
	}
	return nil
}

var errFirst = errors.New("damage at the first header")

// tarMembers walks the headers. The size is that of a file that is not packed, else -1; pos is where r stands.
func (l *listing) tarMembers(ctx context.Context, r io.Reader, size int64, pos func() int64) error {
	const block = 512
	t := tar.NewReader(r)
	end := int64(0) // of the last member, with its padding
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		var h *tar.Header
		err := guard(func() (err error) { h, err = t.Next(); return err })
		switch {
		case errors.Is(err, io.EOF):
			if pos() < end+block {
				return errorf(FileTruncated, "tar file ends without its end mark: the file is cut off")
			}
			return nil
		case err != nil && n == 0 && ctx.Err() == nil && (size >= 0 || !errors.Is(err, io.ErrUnexpectedEOF)):
			return fmt.Errorf("%w: %w", errFirst, err)
		case err != nil:
			return tarError(ctx, err)
		}
		m := member{size: h.Size, at: pos()}
		end = m.at
		if size >= 0 {
			fmt.Fprintf(l.digest(), "%s\x00%d\x00%d\x00%d\x00%c\n", h.Name, m.size, m.at, h.ModTime.UnixNano(), h.Typeflag)
		}
		switch {
		case sparse(h):
			m.bad, m.size = errorf(RowUnreadable, "file %s of the archive is stored with holes", shorten(h.Name)), 0
		case h.Typeflag == tar.TypeReg:
			if end += (m.size + block - 1) / block * block; size >= 0 && m.size > size-m.at {
				return errorf(FileTruncated, "file %s of the archive ends early: the archive is cut off", shorten(h.Name))
			}
		case h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader:
			continue
		default: // links and devices
			l.other++
			continue
		}
		if err := l.add(h.Name, m); err != nil {
			return err
		}
	}
}

// sparse says whether a file is stored in pieces.
func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

// tarError classes what reading a tar file gave.
func tarError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case ClassOf(err) != "":
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errorf(FileTruncated, "the archive is cut off: %w", err)
	case errors.As(err, new(*fs.PathError)):
		return err
	}
	return corrupt("%w", err)
}

// tarStore keeps the last reader of a compressed file where it stopped: jobs read one range after the other, and each would unpack all
// of the file before its range.
type tarStore struct {
	unpack unpacker
	mu     sync.Mutex
	parked *tarReader
}

func (s *tarStore) open(f *file, n int) (memberReader, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	old := s.parked
	s.parked = nil
	s.mu.Unlock()
	if old != nil && len(old.streams) == n {
		return old, r.Close() // only to see that it is the same file
	}
	if old != nil {
		old.end()
	}
	return &tarReader{store: s, f: r, size: f.size, unpack: s.unpack, streams: make([]tarStream, n)}, nil
}

// tarReader reads members in place, or, from a compressed file, by unpacking it from the start. There each image column has a
// stream of its own: its members come in stored order, as a rule, so that none is unpacked twice.
type tarReader struct {
	store   *tarStore
	f       *os.File
	size    int64
	unpack  unpacker
	streams []tarStream
}

type tarStream struct {
	r  io.ReadCloser
	at int64
}

// Close parks the reader of a compressed file. The file closes when the data set is no longer in use.
func (r *tarReader) Close() error {
	if r.unpack == nil {
		return r.f.Close()
	}
	r.store.mu.Lock()
	old := r.store.parked
	r.store.parked = r
	r.store.mu.Unlock()
	if old != nil {
		return old.end()
	}
	return nil
}

func (r *tarReader) end() error {
	for _, s := range r.streams {
		if s.r != nil {
			s.r.Close()
		}
	}
	return r.f.Close()
}

func (r *tarReader) read(stream int, m *member) ([]byte, error) {
	b := make([]byte, m.size) // which the archive holds: it was read over
	if r.unpack == nil {
		if _, err := r.f.ReadAt(b, m.at); err != nil {
			return nil, readError(err)
		}
		return b, nil
	}
	s := &r.streams[stream]
	if s.r == nil || s.at > m.at {
		if s.r != nil {
			s.r.Close()
		}
		*s = tarStream{}
		z, err := r.unpack(io.NewSectionReader(r.f, 0, r.size))
		if err != nil {
			return nil, corrupt("%w", err)
		}
		s.r = z
	}
	n, err := io.CopyN(io.Discard, s.r, m.at-s.at)
	if s.at += n; err == nil {
		var k int
		k, err = io.ReadFull(s.r, b)
		s.at += int64(k)
	}
	if err != nil {
		s.r.Close()
		*s = tarStream{}
		return nil, corrupt("file %s of the archive: %w", shorten(m.name), err)
	}
	return b, nil
}

// countReader counts what was read.
type countReader struct {
	r io.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// ctxReader ends when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
