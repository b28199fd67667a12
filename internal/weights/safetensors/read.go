package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// MaxHeader is the largest header the format allows, in bytes.
const MaxHeader = 100_000_000

// Limits bound what a file may make its reader do. Zero fields take their defaults.
type Limits struct {
	Header int64 // bytes of the header; default and maximum [MaxHeader]
	Tensor tensor.Limits
}

// entry is one tensor of the header.
type entry struct {
	name       string
	dtype      tensor.DType
	shape      []int
	begin, end int64
}

// Read checks the header and returns the tensors, in the order of their data, and the metadata. src has the whole file;
// one with the method Slice(off, n int64) ([]byte, bool) allows views.
func Read(src tensor.Storage, lim Limits) ([]*tensor.Tensor, map[string]string, error) {
	header, err := readHeader(src, lim)
	if err != nil {
		return nil, nil, err
	}
	tl := lim.Tensor.OrDefault()
	entries, meta, err := parseHeader(header, tl)
	if err != nil {
		return nil, nil, fmt.Errorf("safetensors header: %w", err)
	}
	start := 8 + int64(len(header))
	data := &section{src: src, off: start, size: src.Size() - start}
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	tensors := make([]*tensor.Tensor, 0, len(entries))
	at, total := int64(0), int64(0)
	for _, e := range entries {
		n, err := tensor.NumElements(e.shape)
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %.200q: %w", e.name, err)
		}
		es := int64(e.dtype.Size())
		switch {
		case e.begin > e.end || e.end > data.size:
			return nil, nil, fmt.Errorf("tensor %.200q: bytes %d to %d of %d", e.name, e.begin, e.end, data.size)
		case e.begin != at:
			return nil, nil, fmt.Errorf("tensor %.200q: starts at byte %d, the one before ends at %d", e.name, e.begin, at)
		case int64(n) > (e.end-e.begin)/es || int64(n)*es != e.end-e.begin:
			return nil, nil, fmt.Errorf("tensor %.200q: shape %v of %v does not take %d bytes", e.name, e.shape, e.dtype, e.end-e.begin)
		}
		at = e.end
		if total += int64(n) * es; total > tl.TotalBytes {
			return nil, nil, fmt.Errorf("tensors of more than %d bytes in all", tl.TotalBytes)
		}
		t, err := tensor.New(e.name, e.dtype, e.shape, nil, 0, data.part(e.begin, e.end), tl)
		if err != nil {
			return nil, nil, err
		}
		tensors = append(tensors, t)
	}
	if at != data.size {
		return nil, nil, fmt.Errorf("safetensors: the tensors end at byte %d of %d", at, data.size)
	}
	return tensors, meta, nil
}

func readHeader(src tensor.Storage, lim Limits) ([]byte, error) {
	if src.Size() < 8 {
		return nil, errors.New("safetensors: shorter than its header length")
	}
	var head [8]byte
	if _, err := io.ReadFull(io.NewSectionReader(src, 0, 8), head[:]); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	n := binary.LittleEndian.Uint64(head[:])
	limit := uint64(MaxHeader)
	if lim.Header > 0 && lim.Header < MaxHeader {
		limit = uint64(lim.Header)
	}
	switch {
	case n > limit:
		return nil, fmt.Errorf("safetensors: header of %d bytes, limit %d", n, limit)
	case n > uint64(src.Size()-8):
		return nil, fmt.Errorf("safetensors: header of %d bytes in a file of %d: the file is cut short", n, src.Size())
	case n < 2:
		return nil, fmt.Errorf("safetensors: header of %d bytes", n)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(src, 8, int64(n)), header); err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	if header[0] != '{' {
		return nil, errors.New("safetensors: header does not begin with '{'")
	}
	if !utf8.Valid(header) {
		return nil, errors.New("safetensors: header is not UTF-8")
	}
	return header, nil
}

// parser walks the tokens of the header; nothing nests deeper than the format does.
type parser struct{ dec *json.Decoder }

func parseHeader(header []byte, lim tensor.Limits) ([]entry, map[string]string, error) {
	p := parser{json.NewDecoder(bytes.NewReader(header))}
	p.dec.UseNumber()
	var entries []entry
	var meta map[string]string
	err := p.object(func(key string) error {
		if key == "__metadata__" {
			meta = map[string]string{}
			return p.object(func(k string) error {
				s, err := p.string()
				meta[k] = s
				return err
			})
		}
		if len(entries) >= lim.Count {
			return fmt.Errorf("more than %d tensors", lim.Count)
		}
		e, err := p.entry(key, lim.Rank)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if rest := bytes.TrimLeft(header[p.dec.InputOffset():], " "); len(rest) > 0 {
		return nil, nil, errors.New("bytes other than spaces behind the JSON object")
	}
	return entries, meta, nil
}

// object reads an object and calls value for each key, which must read the value. A repeated key is an error.
func (p *parser) object(value func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.dec.More() {
		key, err := p.string()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("key %.200q appears twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return fmt.Errorf("%.200q: %w", key, err)
		}
	}
	return p.delim('}')
}

func (p *parser) entry(name string, rank int) (entry, error) {
	e := entry{name: name}
	fields := 0
	err := p.object(func(key string) error {
		fields++
		switch key {
		case "dtype":
			s, err := p.string()
			if err != nil {
				return err
			}
			var ok bool
			if e.dtype, ok = tensor.ParseDType(s); !ok {
				return fmt.Errorf("element type %.20q is not supported", s)
			}
		case "shape":
			v, err := p.integers(rank)
			if err != nil {
				return err
			}
			e.shape = make([]int, len(v))
			for i, n := range v {
				if e.shape[i] = int(n); int64(e.shape[i]) != n {
					return fmt.Errorf("size %d is too large", n)
				}
			}
		case "data_offsets":
			v, err := p.integers(2)
			if err == nil && len(v) != 2 {
				err = fmt.Errorf("%d offsets", len(v))
			}
			if err != nil {
				return err
			}
			e.begin, e.end = v[0], v[1]
		default:
			return errors.New("unknown field")
		}
		return nil
	})
	if err == nil && fields != 3 {
		err = errors.New("needs dtype, shape and data_offsets")
	}
	return e, err
}

// integers reads an array of at most limit integers, not negative.
func (p *parser) integers(limit int) ([]int64, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	var v []int64
	for p.dec.More() {
		if len(v) == limit {
			return nil, fmt.Errorf("more than %d numbers", limit)
		}
		t, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		s, _ := t.(json.Number)
		n, err := strconv.ParseUint(string(s), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("%.40q is not a size or offset", fmt.Sprint(t))
		}
		v = append(v, int64(n))
	}
	return v, p.delim(']')
}

func (p *parser) string() (string, error) {
	t, err := p.token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("%.40q in place of a string", fmt.Sprint(t))
	}
	return s, nil
}

func (p *parser) delim(want json.Delim) error {
	t, err := p.token()
	if err == nil && t != json.Token(want) {
		err = fmt.Errorf("%.40q in place of %q", fmt.Sprint(t), want)
	}
	return err
}

func (p *parser) token() (json.Token, error) {
	t, err := p.dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return t, err
}

// section is a part of the file.
type section struct {
	src       tensor.Storage
	off, size int64
}

func (s *section) part(begin, end int64) *section {
	return &section{src: s.src, off: s.off + begin, size: end - begin}
}

func (s *section) Size() int64 { return s.size }

func (s *section) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(s.src, s.off, s.size).ReadAt(p, off)
}

func (s *section) Slice(off, n int64) ([]byte, bool) {
	src, ok := s.src.(interface {
		Slice(off, n int64) ([]byte, bool)
	})
	if !ok || off < 0 || n < 0 || off > s.size || n > s.size-off {
		return nil, false
	}
	return src.Slice(s.off+off, n)
}

// Release passes on that bytes of the section will not be read soon.
func (s *section) Release(off, n int64) {
	if src, ok := s.src.(interface{ Release(off, n int64) }); ok && off >= 0 && n >= 0 && off <= s.size && n <= s.size-off {
		src.Release(s.off+off, n)
	}
}
