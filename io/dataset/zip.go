package dataset

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/klauspost/compress/flate"
)

// zipEntry is how a member is packed; [member.at] is where.
type zipEntry struct {
	packed int64
	method uint16
	crc    uint32
}

// zip lists the pictures of a zip file in the byte order of their names.
func (l *listing) zip(f found) error {
	if f.size == 0 {
		return errorf(FileEmpty, "file has zero bytes")
	}
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	var z *zip.Reader
	if err := guard(func() (err error) { z, err = zip.NewReader(r, f.size); return err }); err != nil {
		return zipError(r, err)
	}
	for _, e := range z.File {
		fmt.Fprintf(l.digest(), "%s\x00%d\x00%d\x00%d\x00%08x\n", e.Name, e.UncompressedSize64, e.CompressedSize64, e.Method, e.CRC32)
		if e.Mode().IsDir() {
			continue
		}
		if !e.Mode().IsRegular() { // a link
			l.other++
			continue
		}
		m := member{size: int64(e.UncompressedSize64), zip: zipEntry{int64(e.CompressedSize64), e.Method, e.CRC32}}
		m.at, err = e.DataOffset()
		switch {
		case err != nil:
			m.bad = errorf(RowUnreadable, "file %s of the archive: %w", shorten(e.Name), err)
		case e.Flags&1 != 0:
			m.bad = errorf(RowUnreadable, "file %s of the archive is encrypted, and there is no key", shorten(e.Name))
		case m.zip.method != zip.Store && m.zip.method != zip.Deflate:
			m.bad = errorf(RowUnreadable, "file %s of the archive is packed by method %d; only stored and deflated files can be read", shorten(e.Name), e.Method)
		case m.size < 0 || m.zip.packed < 0 || m.at < 0 || m.zip.packed > f.size-m.at || m.zip.method == zip.Store && m.size != m.zip.packed:
			m.bad = errorf(RowUnreadable, "file %s of the archive is not where the directory says", shorten(e.Name))
		}
		if m.bad != nil {
			m.size = 0
		}
		if err := l.add(e.Name, m); err != nil {
			return err
		}
	}
	slices.SortFunc(l.members, byName)
	l.store = zipStore{}
	return nil
}

// zipError classes what opening a zip file gave.
func zipError(r io.ReaderAt, err error) error {
	head := make([]byte, 512)
	n, _ := r.ReadAt(head, 0)
	switch {
	case ClassOf(err) != "":
		return err
	case !bytes.HasPrefix(head[:n], []byte("PK")):
		return errorf(FileNotArchive, "not a zip file: %s", looksLike(head[:n]))
	case errors.Is(err, zip.ErrFormat):
		return errorf(FileTruncated, "starts as a zip file but its directory is missing or damaged: the file is cut off (%w)", err)
	}
	return corrupt("%w", err)
}

type zipStore struct{}

func (zipStore) open(f *file, _ int) (memberReader, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	return &zipReader{f: r}, nil
}

type zipReader struct {
	f       *os.File
	inflate io.ReadCloser
}

func (r *zipReader) Close() error { return r.f.Close() }

func (r *zipReader) read(_ int, m *member) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, errorf(RowUnreadable, "file %s of the archive: %w", shorten(m.name), err)
	}
	packed := io.NewSectionReader(r.f, m.at, m.zip.packed)
	var b []byte
	if m.zip.method == zip.Store {
		b = make([]byte, m.size) // which the archive holds
		if _, err := io.ReadFull(packed, b); err != nil {
			return fail(err)
		}
	} else {
		if r.inflate == nil {
			r.inflate = flate.NewReader(packed)
		} else if err := r.inflate.(flate.Resetter).Reset(packed, nil); err != nil {
			return fail(err)
		}
		var buf bytes.Buffer
		buf.Grow(int(min(m.size, 4*m.zip.packed, 1<<30)) + bytes.MinRead) // the size is only said
		if _, err := buf.ReadFrom(io.LimitReader(r.inflate, m.size+1)); err != nil {
			return fail(err)
		}
		if b = buf.Bytes(); int64(len(b)) != m.size {
			return fail(fmt.Errorf("does not unpack to %d bytes as the directory says", m.size))
		}
	}
	if got := crc32.ChecksumIEEE(b); got != m.zip.crc {
		return fail(fmt.Errorf("checksum is %08x where the directory says %08x", got, m.zip.crc))
	}
	return b, nil
}
