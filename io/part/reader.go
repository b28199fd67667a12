package part

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/half"
)

// Expect is what is known of a part before it is opened.
type Expect struct {
	Size   int64
	SHA256 string // hex
}

// Reader reads one part.
type Reader struct {
	path   string
	f      *os.File
	ipc    *ipc.FileReader
	schema Schema
	meta   [][2]string
}

// Check reads the file at path and compares its size and sha256, without parsing it. A difference is class data.
func Check(path string, want Expect) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return check(f, path, want)
}

func check(f *os.File, path string, want Expect) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != want.Size {
		return exitcode.Errorf(exitcode.Data, "%s: %d bytes, not %d as recorded", path, info.Size(), want.Size)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		return exitcode.Errorf(exitcode.Data, "%s: sha256 %s, not %s as recorded", path, got, want.SHA256)
	}
	return nil
}

// Open opens a part after comparing its size and sha256 with what was recorded when it was written.
func Open(path string, want Expect) (*Reader, error) { return open(path, &want) }

// OpenTrusted opens a part without checking it. A damaged file can take all memory and end the process.
func OpenTrusted(path string) (*Reader, error) { return open(path, nil) }

func open(path string, want *Expect) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &Reader{path: path, f: f}
	if want != nil {
		if err := check(f, path, *want); err != nil {
			f.Close()
			return nil, err
		}
	}
	err = guard(func() error {
		var err error
		if r.ipc, err = ipc.NewFileReader(f, ipc.WithAllocator(memory.NewGoAllocator())); err != nil {
			return err
		}
		as := r.ipc.Schema()
		for i, k := range as.Metadata().Keys() {
			r.meta = append(r.meta, [2]string{k, as.Metadata().Values()[i]})
		}
		r.schema, err = parseSchema(as)
		return err
	})
	if err != nil {
		f.Close()
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", path, err))
	}
	return r, nil
}

// Schema describes the part. Its Compression is not known.
func (r *Reader) Schema() Schema { return r.schema }

// Metadata returns the schema metadata in file order, as key and value.
func (r *Reader) Metadata() [][2]string { return r.meta }

// Batches returns the number of record batches.
func (r *Reader) Batches() int { return r.ipc.NumRecords() }

// Close closes the file. Rows read before stay valid.
func (r *Reader) Close() error { return r.f.Close() }

// Rows yields the rows in order. After an error, which is class data, it ends.
func (r *Reader) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for i := range r.Batches() {
			var rows []Row
			err := guard(func() (err error) { rows, err = r.batch(i); return err })
			if err != nil {
				yield(Row{}, exitcode.With(exitcode.Data, fmt.Errorf("%s: record batch %d: %w", r.path, i, err)))
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
		}
	}
}

// CountRows decodes every record batch and adds up their rows.
func (r *Reader) CountRows() (int64, error) {
	var n int64
	for i := range r.Batches() {
		err := guard(func() error {
			rec, err := r.ipc.RecordAt(i)
			if err == nil {
				n += rec.NumRows()
				rec.Release()
			}
			return err
		})
		if err != nil {
			return n, exitcode.With(exitcode.Data, fmt.Errorf("%s: record batch %d: %w", r.path, i, err))
		}
	}
	return n, nil
}

// batch decodes record batch i. The memory is never reused, so slices of it stay valid.
func (r *Reader) batch(i int) ([]Row, error) {
	rec, err := r.ipc.RecordAt(i)
	if err != nil {
		return nil, err
	}
	rows := make([]Row, rec.NumRows())
	for k := range rows {
		rows[k].Extra = make([]any, len(r.schema.Extra))
	}
	extra := 0
	for c, f := range r.ipc.Schema().Fields() {
		col := rec.Column(c)
		if r.schema.Fixed(f.Name) {
			err = r.column(rows, f.Name, col)
		} else {
			err = extraColumn(rows, extra, col)
			extra++
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
	}
	return rows, nil
}

func (r *Reader) column(rows []Row, name string, col arrow.Array) error {
	switch name {
	case colLatent:
		return r.latents(rows, col)
	case colLatentShape:
		list := col.(*array.FixedSizeList)
		dims := list.ListValues().(*array.Int32)
		for i := range rows {
			if list.IsValid(i) {
				rows[i].LatentShape = [3]int{int(dims.Value(3 * i)), int(dims.Value(3*i + 1)), int(dims.Value(3*i + 2))}
			}
		}
		return nil
	case colImage:
		s := col.(*array.Struct)
		data, path := s.Field(0).(*array.Binary), s.Field(1).(*array.String)
		for i := range rows {
			if s.IsValid(i) {
				rows[i].Image = data.Value(i)
				if path.IsValid(i) {
					rows[i].ImagePath = path.Value(i)
				}
			}
		}
		return nil
	}
	for i := range rows {
		row := &rows[i]
		if col.IsNull(i) {
			continue
		}
		switch c := col.(type) {
		case *array.String:
			switch v := c.Value(i); name {
			case colID:
				row.ID = v
			case colSource:
				row.SourceSHA256 = v
			case colStatus:
				row.Status = Status(v)
			case colError:
				row.Error = v
			case colPath:
				row.ImagePath = v
			case colFileSHA256:
				row.FileSHA256 = v
			case colReason:
				row.Reason = v
			}
		case *array.Int64:
			if name == colFileBytes {
				row.FileBytes = c.Value(i)
			} else {
				row.Label, row.HasLabel = c.Value(i), true
			}
		case *array.Int32:
			switch v := int(c.Value(i)); name {
			case colWidth:
				row.Width = v
			case colHeight:
				row.Height = v
			case colSteps:
				row.Steps = v
			}
		case *array.Uint64:
			row.Seed = c.Value(i)
		case *array.Float32:
			row.Guidance = c.Value(i)
		default:
			return fmt.Errorf("unexpected type %T", col)
		}
	}
	return nil
}

// latents slices the flat elements below all list levels into rows.
func (r *Reader) latents(rows []Row, col arrow.Array) error {
	l := r.schema.Latent
	leaf := col
	for {
		n, ok := leaf.(array.ListLike)
		if !ok {
			break
		}
		leaf = n.ListValues()
	}
	var values []float32
	switch v := leaf.(type) {
	case *array.Float32:
		values = v.Float32Values()
	case *array.Float16:
		values = make([]float32, v.Len())
		for i, h := range v.Values() {
			values[i] = half.Float32(h.Uint16())
		}
	default:
		return fmt.Errorf("elements of type %T", leaf)
	}
	per := l.C * l.H * l.W
	for i := range rows {
		if col.IsNull(i) {
			continue
		}
		lo, hi := int64(i*per), int64((i+1)*per)
		if l.Layout == Ragged {
			lo, hi = col.(*array.List).ValueOffsets(i)
		} else {
			rows[i].LatentShape = [3]int{l.C, l.H, l.W}
		}
		rows[i].Latent = values[lo:hi:hi]
	}
	return nil
}

func extraColumn(rows []Row, k int, col arrow.Array) error {
	for i := range rows {
		if col.IsNull(i) {
			continue
		}
		switch c := col.(type) {
		case *array.String:
			rows[i].Extra[k] = c.Value(i)
		case *array.Int64:
			rows[i].Extra[k] = c.Value(i)
		case *array.Float64:
			rows[i].Extra[k] = c.Value(i)
		case *array.Boolean:
			rows[i].Extra[k] = c.Value(i)
		case *array.Binary:
			rows[i].Extra[k] = c.Value(i)
		case *array.FixedSizeList:
			v, ok := c.ListValues().(*array.Float32)
			if !ok {
				return fmt.Errorf("elements of type %T", c.ListValues())
			}
			lo, hi := c.ValueOffsets(i)
			rows[i].Extra[k] = v.Float32Values()[lo:hi:hi]
		default:
			return fmt.Errorf("unexpected type %T", col)
		}
	}
	return nil
}
