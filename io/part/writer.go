package part

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"regexp"

	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Record batches end at whichever comes first. Both are part of the format: they decide the bytes of a part.
const (
	maxBatchRows  = 1024
	maxBatchBytes = 64 << 20
)

// maxRowBytes bounds what one row may put into a column with 32-bit offsets.
const maxRowBytes = 1 << 30

// Writer writes one part. It is not safe for concurrent use.
type Writer struct {
	schema Schema
	sink   *sink
	file   *ipc.FileWriter
	batch  *batch
	tally  tally
	err    error
	done   bool
}

// NewWriter starts a part on w, which is written front to back and stays the caller's to sync and close.
func NewWriter(w io.Writer, s Schema) (*Writer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	s = s.withDefaults()
	out := &Writer{schema: s, sink: newSink(w)}
	err := guard(func() (err error) {
		as := s.arrowSchema()
		opts := []ipc.Option{ipc.WithSchema(as), ipc.WithAllocator(memory.NewGoAllocator())}
		switch s.Compression {
		case Zstd:
			opts = append(opts, ipc.WithZstd())
		case LZ4:
			opts = append(opts, ipc.WithLZ4())
		}
		out.batch = newBatch(s, as)
		out.file, err = ipc.NewFileWriter(out.sink, opts...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start part: %w", err)
	}
	return out, nil
}

// Schema returns the schema with its defaults filled in.
func (w *Writer) Schema() Schema { return w.schema }

// Append adds a row after the ones before. It copies what it keeps.
func (w *Writer) Append(r Row) error {
	if w.err != nil {
		return w.err
	}
	if w.done {
		return errors.New("part: append after finish")
	}
	n := w.tally.Rows
	if err := w.check(&r); err != nil {
		return w.fail(fmt.Errorf("row %d (%q): %w", n, r.ID, err))
	}
	size := w.batch.rowBytes(&r)
	if w.batch.rows == maxBatchRows || w.batch.rows > 0 && w.batch.bytes+size > maxBatchBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if err := guard(func() error { w.batch.append(&r, size); return nil }); err != nil {
		return w.fail(fmt.Errorf("row %d (%q): %w", n, r.ID, err))
	}
	w.tally.add(&r)
	return nil
}

// Finish writes what is left and the footer. The caller still has to sync the file and may publish it only if the error
// is nil.
func (w *Writer) Finish() (Stats, error) {
	if w.err != nil {
		return Stats{}, w.err
	}
	if w.done {
		return Stats{}, errors.New("part: finished twice")
	}
	if w.batch.rows > 0 {
		if err := w.flush(); err != nil {
			return Stats{}, err
		}
	}
	err := guard(w.file.Close)
	if w.sink.err != nil {
		err = w.sink.err
	}
	if err != nil {
		return Stats{}, w.fail(fmt.Errorf("footer: %w", err))
	}
	w.done = true
	s := w.tally.stats()
	s.Bytes, s.SHA256 = w.sink.n, hex.EncodeToString(w.sink.h.Sum(nil))
	return s, nil
}

func (w *Writer) flush() error {
	err := guard(func() error {
		rec := w.batch.record()
		defer rec.Release()
		return w.file.Write(rec)
	})
	if w.sink.err != nil {
		err = w.sink.err
	}
	if err != nil {
		return w.fail(fmt.Errorf("record batch before row %d: %w", w.tally.Rows, err))
	}
	return nil
}

func (w *Writer) fail(err error) error {
	w.err = fmt.Errorf("part: %w", err)
	return w.err
}

var hexSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)

// check enforces the rules of the format on one row.
func (w *Writer) check(r *Row) error {
	bad := func(c exitcode.Code, format string, args ...any) error { return exitcode.Errorf(c, format, args...) }
	payload := len(r.Latent) > 0 || r.Image != nil || r.FileBytes != 0 || r.FileSHA256 != ""
	switch r.Status {
	case OK:
		if r.Error != "" {
			return bad(exitcode.Internal, "an ok row with the error %q", r.Error)
		}
		if err := w.checkPayload(r); err != nil {
			return err
		}
	case Skipped, Failed:
		if payload {
			return bad(exitcode.Internal, "a %s row with a payload", r.Status)
		}
		if r.Error == "" {
			return bad(exitcode.Internal, "a %s row without an error", r.Status)
		}
	default:
		return bad(exitcode.Internal, "status %q", r.Status)
	}
	if r.HasLabel && !w.schema.Label {
		return bad(exitcode.Internal, "a label, but the schema has none")
	}
	if n := int64(len(w.schema.LabelNames)); r.HasLabel && n > 0 && (r.Label < -1 || r.Label >= n) {
		return bad(exitcode.Data, "label %d is outside the %d class names", r.Label, n)
	}
	if r.SourceSHA256 != "" && !hexSHA256.MatchString(r.SourceSHA256) {
		return bad(exitcode.Internal, "source sha256 %q is not 64 hex digits", r.SourceSHA256)
	}
	for _, v := range []int{r.Width, r.Height, r.Steps} {
		if v < 0 || v > math.MaxInt32 {
			return bad(exitcode.Internal, "width, height or steps of %d", v)
		}
	}
	if len(r.Extra) != len(w.schema.Extra) {
		return bad(exitcode.Internal, "%d extra values for %d columns", len(r.Extra), len(w.schema.Extra))
	}
	for i, c := range w.schema.Extra {
		if err := checkExtra(c, r.Extra[i]); err != nil {
			return err
		}
		if has := r.Extra[i] != nil; c.Type == Vector && has != (r.Status == OK) {
			return bad(exitcode.Internal, "column %q: an %s row has a vector: %t", c.Name, r.Status, has)
		}
	}
	if len(r.ID) > maxRowBytes || len(r.Error) > maxRowBytes || len(r.ImagePath) > maxRowBytes || len(r.Image) > maxRowBytes {
		return bad(exitcode.Data, "a value above %d bytes", maxRowBytes)
	}
	return nil
}

func (w *Writer) checkPayload(r *Row) error {
	if l := w.schema.Latent; l != nil {
		c, h, wd := l.C, l.H, l.W
		if l.Layout == Ragged {
			c, h, wd = r.LatentShape[0], r.LatentShape[1], r.LatentShape[2]
			if c != l.C {
				return exitcode.Errorf(exitcode.Internal, "latent has %d channels, not %d", c, l.C)
			}
		} else if r.LatentShape != [3]int{} && r.LatentShape != [3]int{c, h, wd} {
			return exitcode.Errorf(exitcode.Internal, "latent shape %v is not %d x %d x %d", r.LatentShape, c, h, wd)
		}
		n, err := elements(c, h, wd)
		if err != nil {
			return exitcode.With(exitcode.Internal, err)
		}
		if len(r.Latent) != n {
			return exitcode.Errorf(exitcode.Internal, "latent has %d elements, not %d x %d x %d", len(r.Latent), c, h, wd)
		}
		limit := float32(math.MaxFloat32)
		if l.DType == Float16 {
			limit = 65519.996 // the largest float32 that rounds to a finite float16
		}
		for i, v := range r.Latent {
			if !(v >= -limit && v <= limit) {
				return exitcode.Errorf(exitcode.Internal, "latent element %d is %v, which %s does not hold", i, v, l.DType)
			}
		}
	} else if len(r.Latent) > 0 {
		return exitcode.Errorf(exitcode.Internal, "a latent, but the schema has none")
	}
	switch named := r.FileBytes != 0 || r.FileSHA256 != ""; {
	case w.schema.Files && (r.FileBytes <= 0 || !hexSHA256.MatchString(r.FileSHA256) || !fs.ValidPath(r.ImagePath) || r.ImagePath == "."):
		return exitcode.Errorf(exitcode.Internal, "an ok row with the file %q of %d bytes, sha256 %q", r.ImagePath, r.FileBytes, r.FileSHA256)
	case !w.schema.Files && named:
		return exitcode.Errorf(exitcode.Internal, "a file, but the schema has none")
	}
	if w.schema.Image && len(r.Image) == 0 {
		return exitcode.Errorf(exitcode.Internal, "an ok row without an image")
	}
	if !w.schema.Image && r.Image != nil {
		return exitcode.Errorf(exitcode.Internal, "an image, but the schema has none")
	}
	return nil
}

func checkExtra(c Column, v any) error {
	ok, size := false, 0
	switch x := v.(type) {
	case nil:
		ok = true
	case string:
		ok, size = c.Type == String, len(x)
	case int64:
		if n := int64(len(c.Names)); n > 0 && (x < -1 || x >= n) {
			return exitcode.Errorf(exitcode.Data, "column %q: %d is outside the %d class names", c.Name, x, n)
		}
		ok = c.Type == Int64
	case float64:
		ok = c.Type == Float64
	case bool:
		ok = c.Type == Bool
	case []byte:
		ok, size = c.Type == Binary, len(x)
	case []float32:
		if ok = c.Type == Vector && len(x) == c.Len; !ok {
			return exitcode.Errorf(exitcode.Internal, "column %q of type %s and length %d is given %d values", c.Name, c.Type, c.Len, len(x))
		}
		for i, v := range x {
			if d := float64(v); math.IsNaN(d) || math.IsInf(d, 0) {
				return exitcode.Errorf(exitcode.Internal, "column %q: value %d is %v", c.Name, i, v)
			}
		}
	}
	if !ok {
		return exitcode.Errorf(exitcode.Internal, "column %q of type %s is given a %T", c.Name, c.Type, v)
	}
	if size > maxRowBytes {
		return exitcode.Errorf(exitcode.Data, "column %q: a value above %d bytes", c.Name, maxRowBytes)
	}
	return nil
}

// guard turns a panic of the Arrow library into an error.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("arrow: %v", r)
		}
	}()
	return f()
}
