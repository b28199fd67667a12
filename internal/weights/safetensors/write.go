package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// Entry is one tensor to write.
type Entry struct {
	Name  string
	DType tensor.DType
	Shape []int
	// Data opens the raw values, little-endian and row-major; it is called once, when their turn comes.
	Data func() io.Reader
}

// Header is the length field and the JSON header for entries in the given order, padded to a multiple of 8 bytes.
func Header(entries []Entry, meta map[string]string) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 8))
	b.WriteByte('{')
	if len(meta) > 0 {
		b.WriteString(`"__metadata__":{`)
		for i, k := range slices.Sorted(maps.Keys(meta)) {
			if i > 0 {
				b.WriteByte(',')
			}
			quote(b, k)
			b.WriteByte(':')
			quote(b, meta[k])
		}
		b.WriteByte('}')
	}
	seen := make(map[string]bool, len(entries))
	at := int64(0)
	for i, e := range entries {
		n, err := size(e)
		if err == nil && (seen[e.Name] || e.Name == "__metadata__") {
			err = errors.New("name is taken")
		}
		if err == nil && !utf8.ValidString(e.Name) {
			err = errors.New("name is not UTF-8")
		}
		if err == nil && at+n < at {
			err = errors.New("offset overflows")
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", e.Name, err)
		}
		seen[e.Name] = true
		if i > 0 || len(meta) > 0 {
			b.WriteByte(',')
		}
		quote(b, e.Name)
		fmt.Fprintf(b, `:{"dtype":"%v","shape":[`, e.DType)
		for j, s := range e.Shape {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprint(b, s)
		}
		fmt.Fprintf(b, `],"data_offsets":[%d,%d]}`, at, at+n)
		at += n
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len()-8 > MaxHeader {
		return nil, fmt.Errorf("header of %d bytes, limit %d", b.Len()-8, MaxHeader)
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	return b.Bytes(), nil
}

// size is the number of bytes an entry takes.
func size(e Entry) (int64, error) {
	es := int64(e.DType.Size())
	n, err := tensor.NumElements(e.Shape)
	switch {
	case err != nil:
		return 0, err
	case es == 0:
		return 0, errors.New("unknown element type")
	case int64(n) > (1<<62)/es:
		return 0, errors.New("too large")
	}
	return int64(n) * es, nil
}

// quote writes s as a JSON string; what is not UTF-8 is replaced.
func quote(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // strings always encode
	b.Truncate(b.Len() - 1)
}

// Write writes a file of entries in the given order. Every entry must deliver exactly the bytes its shape asks for.
func Write(w io.Writer, entries []Entry, meta map[string]string) error {
	head, err := Header(entries, meta)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	if _, err := w.Write(head); err != nil {
		return fmt.Errorf("safetensors header: %w", err)
	}
	buf := make([]byte, 1<<20)
	for _, e := range entries {
		want, _ := size(e) // checked by Header
		n, err := io.CopyBuffer(onlyWriter{w}, io.LimitReader(e.Data(), want+1), buf)
		if err == nil && n != want {
			err = fmt.Errorf("%d bytes or more in place of %d", n, want)
		}
		if err != nil {
			return fmt.Errorf("safetensors, tensor %q: %w", e.Name, err)
		}
	}
	return nil
}

// onlyWriter hides ReadFrom, so that copies go through the buffer.
type onlyWriter struct{ io.Writer }
