package stats

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// Format is the value of ldm.format.
const Format = "ldm-batch/statistics/1"

// maxFeatures keeps the length of a covariance inside the 32 bits that Arrow has for offsets.
const maxFeatures = 1 << 15

// Meta says where features come from. Empty fields are not known.
type Meta struct {
	Protocol        string // of the evaluation
	Resize          string // method
	Extractor       string // architecture of the network
	ExtractorSHA256 string // of its weights, hex
	ClassTable      string // names of the classes, as [ClassTable] tells them apart
	InputSHA256     string // of the list of inputs, hex; may differ between sets that are compared
}

// field is one of the fields of Meta.
type field struct {
	key     string
	value   *string
	compare bool
}

func (m *Meta) fields() []field {
	return []field{{"extractor", &m.Extractor, true}, {"extractor_sha256", &m.ExtractorSHA256, true}, {"protocol", &m.Protocol, true},
		{"resize", &m.Resize, true}, {"class_table", &m.ClassTable, true}, {"input_sha256", &m.InputSHA256, false}}
}

// ClassTable tells tables of class names apart: "" for none, else their number and a digest.
func ClassTable(names []string) string {
	if len(names) == 0 {
		return ""
	}
	h := sha256.New()
	for _, n := range names {
		fmt.Fprintf(h, "%d:%s", len(n), n)
	}
	return fmt.Sprintf("%d classes, sha256 %x", len(names), h.Sum(nil)[:8])
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

// Unknown lists the fields that matter for every comparison and are empty; pictures without classes have no table of them.
func (m Meta) Unknown() []string {
	var keys []string
	for _, f := range m.fields() {
		if f.compare && f.value != &m.ClassTable && *f.value == "" {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// Set are the statistics of one set by one tap of the network.
type Set struct {
	Tap        string
	Features   int    // D
	Class      *int64 // nil: all pictures
	Rows       int64
	Mean       []float64 // D; nil without rows
	Covariance []float64 // upper triangle row by row, D (D+1)/2; nil below two rows
	State      []byte    // nil: not kept
}

func (s Set) check() error {
	d := s.Features
	if d < 1 || d > maxFeatures {
		return fmt.Errorf("statistics of %d features, want 1 to %d", d, maxFeatures)
	}
	if s.Rows < 0 || (s.Mean == nil) != (s.Rows == 0) || s.Mean != nil && len(s.Mean) != d {
		return fmt.Errorf("mean of %d values for %d rows of %d features", len(s.Mean), s.Rows, d)
	}
	if (s.Covariance == nil) != (s.Rows < 2) || s.Covariance != nil && len(s.Covariance) != d*(d+1)/2 {
		return fmt.Errorf("covariance of %d values for %d rows of %d features", len(s.Covariance), s.Rows, d)
	}
	return nil
}

func schema(m Meta) *arrow.Schema {
	keys, values := []string{"ldm.format"}, []string{Format}
	for _, f := range m.fields() {
		if *f.value != "" {
			keys, values = append(keys, "ldm."+f.key), append(values, *f.value)
		}
	}
	md := arrow.NewMetadata(keys, values)
	f64 := arrow.PrimitiveTypes.Float64
	return arrow.NewSchema([]arrow.Field{
		{Name: "tap", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "features", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "class", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "rows", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
		{Name: "mean", Type: arrow.ListOf(f64), Nullable: true},
		{Name: "covariance", Type: arrow.ListOf(f64), Nullable: true},
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

// Write writes a file of sets.
func Write(w io.Writer, m Meta, sets iter.Seq2[Set, error]) error {
	out := &latch{w: w}
	return guard(func() error {
		s := schema(m)
		f, err := ipc.NewFileWriter(out, ipc.WithSchema(s), ipc.WithAllocator(memory.NewGoAllocator()))
		if err != nil {
			return err
		}
		i := 0
		for set, err := range sets {
			if err == nil {
				err = set.check()
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
	b.Field(0).(*array.StringBuilder).Append(set.Tap)
	b.Field(1).(*array.Int64Builder).Append(int64(set.Features))
	if class := b.Field(2).(*array.Int64Builder); set.Class == nil {
		class.AppendNull()
	} else {
		class.Append(*set.Class)
	}
	b.Field(3).(*array.Int64Builder).Append(set.Rows)
	for i, v := range [][]float64{set.Mean, set.Covariance} {
		l := b.Field(4 + i).(*array.ListBuilder)
		if v == nil {
			l.AppendNull()
			continue
		}
		l.Append(true)
		l.ValueBuilder().(*array.Float64Builder).AppendValues(v, nil)
	}
	if state := b.Field(6).(*array.BinaryBuilder); set.State == nil {
		state.AppendNull()
	} else {
		state.Append(set.State)
	}
	return b.NewRecord()
}

// File is a file in memory.
type File struct {
	Meta Meta
	Sets []Set
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
	for _, fd := range f.Meta.fields() {
		*fd.value = get(fd.key)
	}
	if want := schema(f.Meta); !want.Equal(arrow.NewSchema(r.Schema().Fields(), &md)) {
		return fmt.Errorf("columns are %v, not %v", r.Schema().Fields(), want.Fields())
	}
	for i := range r.NumRecords() {
		rec, err := r.Record(i)
		if err != nil {
			return fmt.Errorf("record batch %d: %w", i, err)
		}
		for k := range int(rec.NumRows()) {
			s := set(rec, k)
			if err := s.check(); err != nil {
				return fmt.Errorf("record batch %d, row %d: %w", i, k, err)
			}
			f.Sets = append(f.Sets, s)
		}
	}
	return nil
}

func set(rec arrow.Record, k int) Set {
	s := Set{Tap: strings.Clone(rec.Column(0).(*array.String).Value(k)), Features: int(rec.Column(1).(*array.Int64).Value(k)), Rows: rec.Column(3).(*array.Int64).Value(k)}
	if c := rec.Column(2).(*array.Int64); c.IsValid(k) {
		v := c.Value(k)
		s.Class = &v
	}
	list := func(column int) []float64 {
		l := rec.Column(column).(*array.List)
		if l.IsNull(k) {
			return nil
		}
		from, to := l.ValueOffsets(k)
		return append([]float64(nil), l.ListValues().(*array.Float64).Float64Values()[from:to]...)
	}
	s.Mean, s.Covariance = list(4), list(5)
	if c := rec.Column(6).(*array.LargeBinary); c.IsValid(k) {
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
