package stats

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// Format is the value of ldm.format.
const Format = "ldm-batch/statistics/1"

// maxFeatures keeps the length of a covariance inside the 32 bits that Arrow has for it.
const maxFeatures = 1 << 15

// Meta says where features come from. Empty fields are not known.
type Meta struct {
	Protocol        string // of the evaluation
	Resize          string // method
	Extractor       string // architecture of the network
	ExtractorSHA256 string // of its weights, hex
	Tap             string // of the network
	InputSHA256     string // of the list of inputs, hex; may differ between sets that are compared
}

// field is one of the fields of Meta.
type field struct {
	key     string
	value   *string
	compare bool
}

func (m *Meta) fields() []field {
	return []field{{"protocol", &m.Protocol, true}, {"resize", &m.Resize, true}, {"extractor", &m.Extractor, true},
		{"extractor_sha256", &m.ExtractorSHA256, true}, {"tap", &m.Tap, true}, {"input_sha256", &m.InputSHA256, false}}
}

// Check returns an error of class data that names the first field in which features of m and o are not comparable. A field
// that one of them does not know is not compared; see [Meta.Unknown].
func (m Meta) Check(o Meta) error {
	of := o.fields()
	for i, f := range m.fields() {
		if a, b := *f.value, *of[i].value; f.compare && a != "" && b != "" && a != b {
			return exitcode.Errorf(exitcode.Data, "features are not comparable: %s is %q and %q", f.key, a, b)
		}
	}
	return nil
}

// Unknown lists the fields that matter for a comparison and are empty.
func (m Meta) Unknown() []string {
	var keys []string
	for _, f := range m.fields() {
		if f.compare && *f.value == "" {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// Set are the statistics of one set.
type Set struct {
	Class      *int64 // nil: all pictures
	Rows       int64
	Mean       []float64 // D; nil without rows
	Covariance []float64 // upper triangle row by row, D (D+1)/2; nil below two rows
	State      []byte    // nil: not kept
}

func (s Set) check(d int) error {
	if s.Rows < 0 || (s.Mean == nil) != (s.Rows == 0) || s.Mean != nil && len(s.Mean) != d {
		return fmt.Errorf("mean of %d values for %d rows of %d features", len(s.Mean), s.Rows, d)
	}
	if (s.Covariance == nil) != (s.Rows < 2) || s.Covariance != nil && len(s.Covariance) != d*(d+1)/2 {
		return fmt.Errorf("covariance of %d values for %d rows of %d features", len(s.Covariance), s.Rows, d)
	}
	return nil
}

func schema(m Meta, d int) *arrow.Schema {
	keys, values := []string{"ldm.format", "ldm.features"}, []string{Format, strconv.Itoa(d)}
	for _, f := range m.fields() {
		if *f.value != "" {
			keys, values = append(keys, "ldm."+f.key), append(values, *f.value)
		}
	}
	md := arrow.NewMetadata(keys, values)
	f64 := arrow.PrimitiveTypes.Float64
	return arrow.NewSchema([]arrow.Field{
		{Name: "class", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "rows", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "mean", Type: arrow.FixedSizeListOf(int32(d), f64), Nullable: true},
		{Name: "covariance", Type: arrow.FixedSizeListOf(int32(d*(d+1)/2), f64), Nullable: true},
		{Name: "state", Type: arrow.BinaryTypes.LargeBinary, Nullable: true},
	}, &md)
}

// latch keeps the first error, after which the Arrow writer would put a valid footer behind a hole.
type latch struct {
	w   io.Writer
	n   int64
	err error
}

func (l *latch) Write(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	n, err := l.w.Write(p)
	l.n += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	l.err = err
	return n, err
}

// Seek tells the position, which is all that the Arrow writer asks for.
func (l *latch) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence != io.SeekCurrent {
		return 0, errors.New("statistics are written front to back")
	}
	return l.n, l.err
}

// Write writes a file of sets of d features.
func Write(w io.Writer, m Meta, d int, sets iter.Seq2[Set, error]) error {
	if d < 1 || d > maxFeatures {
		return fmt.Errorf("statistics of %d features, want 1 to %d", d, maxFeatures)
	}
	out := &latch{w: w}
	return guard(func() error {
		s := schema(m, d)
		f, err := ipc.NewFileWriter(out, ipc.WithSchema(s), ipc.WithAllocator(memory.NewGoAllocator()))
		if err != nil {
			return err
		}
		i := 0
		for set, err := range sets {
			if err == nil {
				err = set.check(d)
			}
			if err != nil {
				return fmt.Errorf("set %d: %w", i, err)
			}
			r := record(s, set)
			err = f.Write(r)
			r.Release()
			if err = errors.Join(err, out.err); err != nil {
				return fmt.Errorf("set %d: %w", i, err)
			}
			i++
		}
		return errors.Join(f.Close(), out.err)
	})
}

func record(s *arrow.Schema, set Set) arrow.Record {
	b := array.NewRecordBuilder(memory.NewGoAllocator(), s)
	defer b.Release()
	if class := b.Field(0).(*array.Int64Builder); set.Class == nil {
		class.AppendNull()
	} else {
		class.Append(*set.Class)
	}
	b.Field(1).(*array.Int64Builder).Append(set.Rows)
	for i, v := range [][]float64{set.Mean, set.Covariance} {
		l := b.Field(2 + i).(*array.FixedSizeListBuilder)
		if v == nil {
			l.AppendNull()
			continue
		}
		l.Append(true)
		l.ValueBuilder().(*array.Float64Builder).AppendValues(v, nil)
	}
	if state := b.Field(4).(*array.BinaryBuilder); set.State == nil {
		state.AppendNull()
	} else {
		state.Append(set.State)
	}
	return b.NewRecord()
}

// File is a file in memory.
type File struct {
	Meta     Meta
	Features int // D
	Sets     []Set
}

// All returns the set of all pictures.
func (f *File) All() (Set, bool) {
	for _, s := range f.Sets {
		if s.Class == nil {
			return s, true
		}
	}
	return Set{}, false
}

// Read reads the file at path. want is its size and sha256; nil trusts the file.
func Read(path string, want *part.Expect) (*File, error) {
	if want != nil {
		if err := part.Check(path, *want); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := &File{}
	if err := guard(func() error { return out.read(f) }); err != nil {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", path, err))
	}
	return out, nil
}

func (f *File) read(src *os.File) error {
	r, err := ipc.NewFileReader(src, ipc.WithAllocator(memory.NewGoAllocator()))
	if err != nil {
		return err
	}
	defer r.Close()
	md := r.Schema().Metadata()
	get := func(key string) string {
		v, _ := md.GetValue("ldm." + key)
		return v
	}
	if v := get("format"); v != Format {
		return fmt.Errorf("not a file of statistics: ldm.format is %q, not %q", v, Format)
	}
	if f.Features, err = strconv.Atoi(get("features")); err != nil || f.Features < 1 || f.Features > maxFeatures {
		return fmt.Errorf("ldm.features is %q", get("features"))
	}
	for _, fd := range f.Meta.fields() {
		*fd.value = get(fd.key)
	}
	if want := schema(f.Meta, f.Features); !want.Equal(arrow.NewSchema(r.Schema().Fields(), &md)) {
		return fmt.Errorf("columns are %v, not %v", r.Schema().Fields(), want.Fields())
	}
	for i := range r.NumRecords() {
		rec, err := r.Record(i)
		if err != nil {
			return fmt.Errorf("record batch %d: %w", i, err)
		}
		for k := range int(rec.NumRows()) {
			s := set(rec, k, f.Features)
			if err := s.check(f.Features); err != nil {
				return fmt.Errorf("record batch %d, row %d: %w", i, k, err)
			}
			f.Sets = append(f.Sets, s)
		}
	}
	return nil
}

func set(rec arrow.Record, k, d int) Set {
	var s Set
	if c := rec.Column(0).(*array.Int64); c.IsValid(k) {
		v := c.Value(k)
		s.Class = &v
	}
	s.Rows = rec.Column(1).(*array.Int64).Value(k)
	list := func(column, n int) []float64 {
		l := rec.Column(column).(*array.FixedSizeList)
		if l.IsNull(k) {
			return nil
		}
		at := (k + l.Data().Offset()) * n
		v := l.ListValues().(*array.Float64)
		return append([]float64(nil), v.Float64Values()[at:at+n]...)
	}
	s.Mean, s.Covariance = list(2, d), list(3, d*(d+1)/2)
	if c := rec.Column(4).(*array.LargeBinary); c.IsValid(k) {
		s.State = append([]byte{}, c.Value(k)...)
	}
	return s
}

func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("arrow: %v", r)
		}
	}()
	return f()
}
