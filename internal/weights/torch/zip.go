package torch

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// ZipLimits bound the directory of a zip container. A zero field takes its default.
type ZipLimits struct {
	Entries   int   // records; default 500,000
	Directory int64 // bytes of the central directory; default 64 MiB
}

func (l ZipLimits) orDefault() ZipLimits {
	if l.Entries == 0 {
		l.Entries = 500_000
	}
	if l.Directory == 0 {
		l.Directory = 64 << 20
	}
	return l
}

// record is one stored entry of the archive. It is the storage of tensors.
type record struct {
	src       Source
	name      string
	header    int64 // offset of the local header
	off, size int64 // the data
	crc       uint32

	compressed bool // never read: PyTorch stores what it reads as it is, and compresses only the programs of TorchScript

	once sync.Once
	err  error // of the CRC check
}

const (
	endSize, end64Size, locatorSize = 22, 56, 20
	centralSize, localSize          = 46, 30
	max16, max32                    = 0xffff, 0xffffffff
)

// readDirectory lists the records of a zip archive by name. Every record must lie before the directory and overlap no other.
func readDirectory(src Source, lim ZipLimits) (map[string]*record, error) {
	lim = lim.orDefault()
	dir, entries, size, err := findDirectory(src)
	if err != nil {
		return nil, err
	}
	switch {
	case size > lim.Directory:
		return nil, fmt.Errorf("zip directory of %d bytes, limit %d", size, lim.Directory)
	case entries > int64(lim.Entries):
		return nil, fmt.Errorf("zip directory of %d entries, limit %d", entries, lim.Entries)
	case entries > size/centralSize:
		return nil, fmt.Errorf("zip directory of %d bytes cannot hold %d entries", size, entries)
	}
	buf := make([]byte, size)
	if err := readFull(src, buf, dir); err != nil {
		return nil, fmt.Errorf("zip directory: %w", err)
	}
	records := make(map[string]*record, entries)
	order := make([]*record, 0, entries)
	for range entries {
		r, rest, err := parseCentral(buf)
		if err != nil {
			return nil, err
		}
		buf = rest
		if _, ok := records[r.name]; ok {
			return nil, fmt.Errorf("zip record %q appears twice", r.name)
		}
		r.src = src
		if err := r.locate(dir); err != nil {
			return nil, fmt.Errorf("zip record %q: %w", r.name, err)
		}
		records[r.name] = r
		order = append(order, r)
	}
	slices.SortFunc(order, func(a, b *record) int { return cmp.Compare(a.header, b.header) })
	for i := 1; i < len(order); i++ {
		if a, b := order[i-1], order[i]; a.off+a.size > b.header {
			return nil, fmt.Errorf("zip records %q and %q overlap", a.name, b.name)
		}
	}
	return records, nil
}

// findDirectory reads the end records: offset, number of entries and size of the central directory.
func findDirectory(src Source) (off, entries, size int64, err error) {
	le := binary.LittleEndian
	total := src.Size()
	tail := make([]byte, min(total, endSize+max16))
	if err := readFull(src, tail, total-int64(len(tail))); err != nil {
		return 0, 0, 0, err
	}
	at := -1
	for i := len(tail) - endSize; i >= 0; i-- {
		if le.Uint32(tail[i:]) == 0x06054b50 && i+endSize+int(le.Uint16(tail[i+20:])) == len(tail) {
			at = i
			break
		}
	}
	if at < 0 {
		return 0, 0, 0, errors.New("zip archive without a central directory: the file is cut short")
	}
	end := total - int64(len(tail)) + int64(at) // where the directory must have ended
	e := tail[at:]
	entries, size, off = int64(le.Uint16(e[10:])), int64(le.Uint32(e[12:])), int64(le.Uint32(e[16:]))
	if le.Uint16(e[4:]) != le.Uint16(e[6:]) || le.Uint16(e[8:]) != le.Uint16(e[10:]) {
		return 0, 0, 0, errors.New("zip archive of several volumes")
	}
	if entries == max16 || size == max32 || off == max32 {
		if off, entries, size, end, err = findDirectory64(src, end); err != nil {
			return 0, 0, 0, err
		}
	}
	if off < 0 || size < 0 || entries < 0 || off > end || size > end-off {
		return 0, 0, 0, errors.New("zip directory lies outside the file")
	}
	return off, entries, size, nil
}

func findDirectory64(src Source, end int64) (off, entries, size, newEnd int64, err error) {
	le := binary.LittleEndian
	var loc [locatorSize]byte
	if err := readFull(src, loc[:], end-locatorSize); err != nil || le.Uint32(loc[:]) != 0x07064b50 {
		return 0, 0, 0, 0, errors.New("zip archive without the 64-bit end record it announces")
	}
	at := int64(le.Uint64(loc[8:]))
	var e [end64Size]byte
	if at < 0 || at > end-locatorSize-end64Size {
		return 0, 0, 0, 0, errors.New("64-bit end record lies outside the file")
	}
	if err := readFull(src, e[:], at); err != nil {
		return 0, 0, 0, 0, err
	}
	if le.Uint32(e[:]) != 0x06064b50 {
		return 0, 0, 0, 0, errors.New("64-bit end record not found")
	}
	return int64(le.Uint64(e[48:])), int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:])), at, nil
}

// parseCentral reads one entry of the central directory.
func parseCentral(b []byte) (*record, []byte, error) {
	le := binary.LittleEndian
	if len(b) < centralSize || le.Uint32(b) != 0x02014b50 {
		return nil, nil, errors.New("zip directory is damaged")
	}
	names, extras, comments := int(le.Uint16(b[28:])), int(le.Uint16(b[30:])), int(le.Uint16(b[32:]))
	if len(b)-centralSize < names+extras+comments {
		return nil, nil, errors.New("zip directory is cut short")
	}
	name := b[centralSize : centralSize+names]
	if !utf8.Valid(name) {
		return nil, nil, errors.New("zip record name is not UTF-8")
	}
	r := &record{name: string(name), crc: le.Uint32(b[16:])}
	packed, size, header := uint64(le.Uint32(b[20:])), uint64(le.Uint32(b[24:])), uint64(le.Uint32(b[42:]))
	extra := b[centralSize+names : centralSize+names+extras]
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if len(extra)-4 < n {
			break // padding, not a field
		}
		field := extra[4 : 4+n]
		extra = extra[4+n:]
		if id != 1 {
			continue
		}
		for _, v := range []*uint64{&size, &packed, &header} {
			if *v == max32 && len(field) >= 8 {
				*v = le.Uint64(field)
				field = field[8:]
			}
		}
	}
	switch {
	case le.Uint16(b[8:])&1 != 0:
		return nil, nil, fmt.Errorf("zip record %q is encrypted", r.name)
	case packed > 1<<62 || header > 1<<62:
		return nil, nil, fmt.Errorf("zip record %q: impossible size %d or offset %d", r.name, packed, header)
	}
	r.size, r.header = int64(packed), int64(header)
	r.compressed = le.Uint16(b[10:]) != 0 || packed != size
	return r, b[centralSize+names+extras+comments:], nil
}

// locate reads the local header and checks that the data end before the directory.
func (r *record) locate(dir int64) error {
	le := binary.LittleEndian
	if r.header > dir-localSize {
		return errors.New("header lies outside the file")
	}
	h := make([]byte, localSize+len(r.name))
	if err := readFull(r.src, h[:min(int64(len(h)), dir-r.header)], r.header); err != nil {
		return err
	}
	if le.Uint32(h) != 0x04034b50 || int(le.Uint16(h[26:])) != len(r.name) || !bytes.Equal(h[localSize:], []byte(r.name)) {
		return errors.New("local header does not match the directory")
	}
	r.off = r.header + localSize + int64(len(r.name)) + int64(le.Uint16(h[28:]))
	if r.off > dir || r.size > dir-r.off {
		return fmt.Errorf("declared size %d is larger than the file has room for", r.size)
	}
	return nil
}

// Size implements [tensor.Storage].
func (r *record) Size() int64 { return r.size }

// verify compares the data with the CRC-32 of the directory, once.
func (r *record) verify() error {
	r.once.Do(func() {
		if r.compressed {
			r.err = exitcode.Errorf(exitcode.Data, "zip record %q is compressed; PyTorch stores records as they are", r.name)
			return
		}
		h := crc32.NewIEEE()
		if _, err := io.CopyBuffer(h, io.NewSectionReader(r.src, r.off, r.size), make([]byte, min(r.size+1, 256<<10))); err != nil {
			r.err = fmt.Errorf("zip record %q: %w", r.name, err)
		} else if h.Sum32() != r.crc {
			r.err = exitcode.Errorf(exitcode.Data, "zip record %q is damaged: its data do not match their CRC-32", r.name)
		}
	})
	return r.err
}

// ReadAt implements [io.ReaderAt] over verified data.
func (r *record) ReadAt(p []byte, off int64) (int, error) {
	if err := r.verify(); err != nil {
		return 0, err
	}
	return io.NewSectionReader(r.src, r.off, r.size).ReadAt(p, off)
}

// Slice gives verified data of a mapping.
func (r *record) Slice(off, n int64) ([]byte, bool) {
	if off < 0 || n < 0 || off > r.size || n > r.size-off || r.verify() != nil {
		return nil, false
	}
	return slice(r.src, r.off+off, n)
}

// Release passes on that bytes of the record will not be read soon.
func (r *record) Release(off, n int64) {
	if src, ok := r.src.(interface{ Release(off, n int64) }); ok && off >= 0 && n >= 0 && off <= r.size && n <= r.size-off {
		src.Release(r.off+off, n)
	}
}
