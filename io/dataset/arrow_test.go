package dataset

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	arrowhalf "github.com/apache/arrow/go/v17/arrow/float16"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/ldm-batch/ldm-batch/io/part"
)

var arrowImageType = arrow.StructOf(
	arrow.Field{Name: "bytes", Type: arrow.BinaryTypes.Binary, Nullable: true},
	arrow.Field{Name: "path", Type: arrow.BinaryTypes.String, Nullable: true})

// arrowFields are columns of every type that is read.
var arrowFields = []arrow.Field{
	{Name: "image", Type: arrowImageType, Nullable: true},
	{Name: "label", Type: arrow.PrimitiveTypes.Int8, Nullable: true},
	{Name: "mask", Type: arrow.BinaryTypes.LargeBinary, Nullable: true},
	{Name: "text", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "large", Type: arrow.BinaryTypes.LargeString, Nullable: true},
	{Name: "view", Type: arrow.BinaryTypes.StringView, Nullable: true},
	{Name: "raw", Type: arrow.BinaryTypes.BinaryView, Nullable: true},
	{Name: "fixed", Type: &arrow.FixedSizeBinaryType{ByteWidth: 3}, Nullable: true},
	{Name: "dict", Type: &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int16, ValueType: arrow.BinaryTypes.String}, Nullable: true},
	{Name: "uint", Type: arrow.PrimitiveTypes.Uint64, Nullable: true},
	{Name: "half", Type: arrow.FixedWidthTypes.Float16, Nullable: true},
	{Name: "double", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "bool", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "day", Type: arrow.FixedWidthTypes.Date32, Nullable: true},
	{Name: "when", Type: arrow.FixedWidthTypes.Timestamp_us, Nullable: true},
	{Name: "price", Type: &arrow.Decimal128Type{Precision: 9, Scale: 2}, Nullable: true},
	{Name: "boxes", Type: arrow.ListOf(arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Float32)), Nullable: true},
	{Name: "objects", Type: arrow.LargeListOf(arrow.StructOf(arrow.Field{Name: "kind", Type: arrow.PrimitiveTypes.Int32, Nullable: true})), Nullable: true},
	{Name: "took", Type: arrow.FixedWidthTypes.Duration_s, Nullable: true}, // not read, and not in the way
}

var arrowColumns = []string{"text", "large", "view", "raw", "fixed", "dict", "uint", "half", "double", "bool", "day", "when", "price", "boxes", "objects.kind"}

// arrowRecord makes rows from..to; every seventh value is null, in every column another.
// With oneDictionary all records have the same dictionary, as those of a file must.
func arrowRecord(t testing.TB, schema *arrow.Schema, from, to int, oneDictionary bool) arrow.Record {
	t.Helper()
	b := array.NewRecordBuilder(memory.NewGoAllocator(), schema)
	for _, col := range b.Fields() {
		if c, ok := col.(*array.BinaryDictionaryBuilder); ok && oneDictionary {
			words := array.NewStringBuilder(memory.NewGoAllocator())
			words.AppendValues([]string{"cat", "dog"}, nil)
			if err := c.InsertStringDictValues(words.NewStringArray()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := from; i < to; i++ {
		for k, f := range schema.Fields() {
			col := b.Field(k)
			if (i+k)%7 == 6 {
				col.AppendNull()
				continue
			}
			text := fmt.Sprintf("%s of the row of number %d", f.Name, i)
			switch c := col.(type) {
			case *array.StructBuilder:
				c.Append(true)
				c.FieldBuilder(0).(*array.BinaryBuilder).Append([]byte(text))
				c.FieldBuilder(1).(*array.StringBuilder).Append(fmt.Sprintf("%d.png", i))
			case *array.Int8Builder:
				c.Append(int8(i % 3))
			case *array.BinaryBuilder:
				c.Append([]byte(text))
			case array.StringLikeBuilder: // of every kind of text
				c.Append(text)
			case *array.BinaryViewBuilder:
				c.Append([]byte(text))
			case *array.FixedSizeBinaryBuilder:
				c.Append([]byte(fmt.Sprintf("%03d", i)))
			case *array.BinaryDictionaryBuilder:
				if err := c.AppendString([]string{"cat", "dog"}[i%2]); err != nil {
					t.Fatal(err)
				}
			case *array.Uint64Builder:
				c.Append(1<<63 + uint64(i))
			case *array.Float16Builder:
				c.Append(arrowhalf.New(float32(i) / 2))
			case *array.Float64Builder:
				c.Append(float64(i) / 3)
			case *array.BooleanBuilder:
				c.Append(i%2 == 0)
			case *array.Date32Builder:
				c.Append(arrow.Date32(i))
			case *array.TimestampBuilder:
				c.Append(arrow.Timestamp(i * 1e6))
			case *array.Decimal128Builder:
				c.Append(decimal128.FromI64(int64(-i)))
			case *array.ListBuilder:
				c.Append(true)
				for k := range i % 3 {
					c.ValueBuilder().(*array.FixedSizeListBuilder).Append(true)
					v := c.ValueBuilder().(*array.FixedSizeListBuilder).ValueBuilder().(*array.Float32Builder)
					v.Append(float32(k))
					v.Append(float32(i))
				}
			case *array.LargeListBuilder:
				c.Append(true)
				s := c.ValueBuilder().(*array.StructBuilder)
				for k := range i % 3 {
					s.Append(true)
					if k == 1 {
						s.FieldBuilder(0).AppendNull()
					} else {
						s.FieldBuilder(0).(*array.Int32Builder).Append(int32(i))
					}
				}
			case *array.DurationBuilder:
				c.Append(1)
			default:
				t.Fatalf("column %s: %T", f.Name, col)
			}
		}
	}
	return b.NewRecord()
}

// arrowWant is what row i is to hold.
func arrowWant(i int) (image, mask string, label int64, values []any) {
	null := func(k int) bool { return (i+k)%7 == 6 }
	text := func(name string) string { return fmt.Sprintf("%s of the row of number %d", name, i) }
	boxes, kinds := []any{}, []any{}
	for k := range i % 3 {
		boxes = append(boxes, []any{float64(k), float64(i)})
		if k == 1 {
			kinds = append(kinds, nil)
		} else {
			kinds = append(kinds, int64(i))
		}
	}
	values = []any{
		text("text"), text("large"), text("view"), []byte(text("raw")), []byte(fmt.Sprintf("%03d", i)), []string{"cat", "dog"}[i%2], 1<<63 + uint64(i),
		float64(i) / 2, float64(i) / 3, i%2 == 0, time.Unix(int64(i)*86400, 0).UTC(), time.Unix(int64(i), 0).UTC(), fmt.Sprintf("-%d.%02d", i/100, i%100), boxes, kinds,
	}
	if i == 0 {
		values[12] = "0.00"
	}
	for k := range values {
		if null(k + 3) {
			values[k] = nil
		}
	}
	if image, mask, label = text("image"), text("mask"), int64(i%3); null(0) {
		image = ""
	}
	if null(1) {
		label = -1
	}
	if null(2) {
		mask = ""
	}
	return image, mask, label, values
}

type arrowWriter interface {
	Write(arrow.Record) error
	Close() error
}

// arrowBytes writes batches of rows as a file or a stream.
func arrowBytes(t testing.TB, stream bool, schema *arrow.Schema, batches []int, opts ...ipc.Option) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	opts = append(opts, ipc.WithSchema(schema), ipc.WithAllocator(memory.NewGoAllocator()))
	var w arrowWriter = ipc.NewWriter(f, opts...)
	if !stream {
		if w, err = ipc.NewFileWriter(f, opts...); err != nil {
			t.Fatal(err)
		}
	}
	from := 0
	for _, n := range batches {
		if err := w.Write(arrowRecord(t, schema, from, from+n, !stream)); err != nil {
			t.Fatal(err)
		}
		from += n
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func arrowTestSchema(t testing.TB) *arrow.Schema {
	t.Helper()
	note, err := json.Marshal(map[string]any{"info": map[string]any{"features": map[string]any{
		"image": map[string]any{"_type": "Image"}, "label": map[string]any{"_type": "ClassLabel", "names": []string{"x", "y", "z"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	md := arrow.NewMetadata([]string{featuresKey}, []string{string(note)})
	return arrow.NewSchema(arrowFields, &md)
}

var arrowKinds = map[string][]ipc.Option{"file": nil, "stream": nil, "file-zstd": {ipc.WithZstd()}, "stream-lz4": {ipc.WithLZ4()}}

func TestArrow(t *testing.T) {
	schema := arrowTestSchema(t)
	for kind, opts := range arrowKinds {
		t.Run(kind, func(t *testing.T) {
			stream := kind[0] == 's'
			path := writeFile(t, arrowBytes(t, stream, schema, []int{9, 1, 0, 15}, opts...), t.TempDir(), "a.arrow")
			r := readAll(Spec{Path: path, Images: []string{"mask"}, Columns: arrowColumns})
			if r.err != nil || len(r.rows) != 25 || r.count != 25 {
				t.Fatalf("%d rows of %d: %v", len(r.rows), r.count, r.err)
			}
			if r.ft.Image != "image" || r.ft.Label != "label" || r.ft.Text != "text" || !slices.Equal(r.ft.ClassNames, []string{"x", "y", "z"}) {
				t.Errorf("features %+v", r.ft)
			}
			if f := r.files[0]; f.RowGroups != 4 || len(f.FooterSHA256) != 64 || f.Rows != 25 {
				t.Errorf("file %+v", f)
			}
			for i, row := range r.rows {
				image, mask, label, values := arrowWant(i)
				if string(row.Image) != image || (row.Err != nil) != (image == "") || row.Err != nil && ClassOf(row.Err) != RowNull {
					t.Errorf("row %d: image %q, %v; want %q", i, row.Image, row.Err, image)
				}
				if m := row.Images[0]; string(m.Bytes) != mask || (m.Err != nil) != (mask == "") {
					t.Errorf("row %d: mask %q, %v; want %q", i, m.Bytes, m.Err, mask)
				}
				if row.Label != label || row.HasLabel != (label >= 0) || row.ID != fmt.Sprintf("a.arrow#%d", i) {
					t.Errorf("row %d: label %d, id %s", i, row.Label, row.ID)
				}
				for k, want := range values {
					if got := row.Values[k]; fmt.Sprintf("%T %v", got, got) != fmt.Sprintf("%T %v", want, want) {
						t.Errorf("row %d: %s is %v, want %v", i, arrowColumns[k], got, want)
					}
				}
			}
			checkTails(t, Spec{Path: path, Columns: arrowColumns}, r)
			if r := readAll(Spec{Path: path, Columns: []string{"took"}}); r.class != SchemaUnsupported {
				t.Errorf("durations: %v", r.err)
			}
			if r := readAll(Spec{Path: path, Limit: 11}); r.count != 11 || len(r.rows) != 11 {
				t.Errorf("limit: %d rows, %v", len(r.rows), r.err)
			}
		})
	}
}

// checkTails compares ranges that begin at every row, and single rows, with the whole.
func checkTails(t *testing.T, spec Spec, whole result) {
	t.Helper()
	d, err := Open(context.Background(), spec, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	text := func(r Row) string { return fmt.Sprint(r.ID, r.Image, r.RowGroup, r.RowInGroup, r.Label, r.Values) }
	for from := range d.NumRows() + 1 {
		for _, to := range []int64{d.NumRows(), min(from+1, d.NumRows())} {
			next := from
			for row, err := range d.Rows(context.Background(), from, to) {
				if err != nil {
					t.Fatal(err)
				}
				want := whole.rows[next]
				if want.Values = want.Values[:len(spec.Columns)]; text(row) != text(want) || row.Index != next {
					t.Fatalf("rows %d to %d: row %d is %s, want %s", from, to, next, text(row), text(want))
				}
				if loc := d.Locate(next); loc != (Location{row.File, row.RowInFile, row.RowGroup, row.RowInGroup}) {
					t.Fatalf("row %d lies at %+v", next, loc)
				}
				next++
			}
			if next != to {
				t.Fatalf("rows %d to %d end at %d", from, to, next)
			}
		}
	}
}

// TestArrowTables mixes Arrow and Parquet files, and files of other types.
func TestArrowTables(t *testing.T) {
	dir := t.TempDir()
	field := func(name string, typ arrow.DataType) arrow.Field {
		return arrow.Field{Name: name, Type: typ, Nullable: true}
	}
	plain := arrow.NewSchema([]arrow.Field{field("image", arrow.BinaryTypes.Binary), field("label", arrow.BinaryTypes.String), field("id", arrow.BinaryTypes.String)}, nil)
	writeFile(t, arrowBytes(t, false, plain, []int{4}), dir, "b.feather")
	writeFile(t, arrowBytes(t, true, plain, []int{2}), dir, "sub", "c.ipc")
	s := func(x string) *string { return &x }
	writeGenerated(t, filepath.Join(dir, "a.parquet"), []genPlain{{[]byte("1"), s("cat"), s("p")}}, []int{1})
	r := readAll(Spec{Path: dir, ID: "id", Columns: []string{"label"}})
	if r.err != nil || len(r.rows) != 7 || len(r.files) != 3 {
		t.Fatalf("%d rows of %d files: %v", len(r.rows), len(r.files), r.err)
	}
	if r.rows[0].ID != "p" || r.rows[1].ID != "id of the row of number 0" || r.rows[1].LabelName != "label of the row of number 0" {
		t.Errorf("%+v", r.rows[:2])
	}
	for column, typ := range map[string]arrow.DataType{
		"label": arrow.PrimitiveTypes.Int64, "image": arrow.ListOf(arrowImageType), "id": arrow.BinaryTypes.Binary,
	} {
		fields := slices.Clone(plain.Fields())
		fields[plain.FieldIndices(column)[0]].Type = typ
		var b bytes.Buffer
		w := ipc.NewWriter(&b, ipc.WithSchema(arrow.NewSchema(fields, nil)))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		path := writeFile(t, b.Bytes(), t.TempDir(), "d.arrow")
		if r := readAll(Spec{Path: dir + "," + path, ID: "id"}); r.class != SchemaMismatch && r.class != SchemaUnsupported {
			t.Errorf("another type of %s: %v", column, r.err)
		}
	}
	var b bytes.Buffer
	w := ipc.NewWriter(&b, ipc.WithSchema(plain))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	for name, c := range map[string]struct {
		b     []byte
		class Class
	}{
		"empty.arrow":   {nil, FileEmpty},
		"text.arrow":    {[]byte("image,label\n1,2\n"), FileNotArrow},
		"parquet.arrow": {[]byte("PAR1...............PAR1"), FileNotArrow},
		"v1.feather":    {[]byte("FEA1............FEA1"), FileUnsupported},
		"cut.arrow":     {whole[:20], FileTruncated},
		"none.arrow":    {whole, "ok"},
		"noend.arrow":   {whole[:len(whole)-8], "ok"},
		"magic.arrow":   {[]byte(arrowMagic), FileTruncated},
	} {
		d, err := Open(context.Background(), Spec{Path: writeFile(t, c.b, t.TempDir(), name)}, Limits{})
		if got := ClassOf(err); got != c.class && (err != nil || c.class != "ok") {
			t.Errorf("%s: %v, want %s", name, err, c.class)
		}
		if name == "noend.arrow" && (d == nil || len(d.Warnings()) != 1) {
			t.Errorf("no warning of a stream without end mark")
		}
	}
}

// TestArrowResults reads the parts of a job.
func TestArrowResults(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	w, err := part.NewWriter(&b, part.Schema{Image: true, Label: true})
	if err != nil {
		t.Fatal(err)
	}
	png := []byte("\x89PNG\r\n\x1a\n")
	for _, r := range []part.Row{
		{ID: "a", Label: 2, HasLabel: true, Image: png, ImagePath: "a.png", Width: 1, Height: 1, Status: part.OK},
		{ID: "b", Status: part.Failed, Error: "image is cut off"},
		{ID: "c", Status: part.Skipped, Error: "too small"},
	} {
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, b.Bytes(), dir, "data", "part-00000.arrow")
	writeFile(t, []byte("{}"), dir, "_manifest.json")
	r := readAll(Spec{Path: dir})
	if r.err != nil || len(r.rows) != 3 || r.ft.ID != "id" || r.ft.Label != "label" {
		t.Fatalf("%v %+v", r.err, r.ft)
	}
	if x := r.rows[0]; x.ID != "a" || !bytes.Equal(x.Image, png) || x.Err != nil || x.Label != 2 || x.Path != "a.png" {
		t.Errorf("%+v", x)
	}
	for i, want := range []string{"", "failed in the source run: image is cut off", "skipped in the source run: too small"} {
		if x := r.rows[i]; i > 0 && (ClassOf(x.Err) != RowFailed || x.Image != nil || !bytes.Contains([]byte(x.Err.Error()), []byte(want))) {
			t.Errorf("row %d: %v, want %s", i, x.Err, want)
		}
	}
}

// TestDescribeArrow describes files and streams whatever their names, and opens them as data sets.
func TestDescribeArrow(t *testing.T) {
	schema := arrowTestSchema(t)
	for _, c := range []struct {
		name        string
		stream, cut bool
	}{{"no-telling-name", false, false}, {"a.arrows", true, false}, {"cut", true, true}} {
		b := arrowBytes(t, c.stream, schema, []int{3, 0, 4})
		if c.cut {
			b = b[:len(b)-8]
		}
		path := writeFile(t, b, t.TempDir(), c.name)
		info, err := DescribeArrow(path, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if info.Stream != c.stream || info.Ended == c.cut || info.Rows != 7 || info.Batches != 3 || len(info.Columns) != len(schema.Fields()) || len(info.Metadata) != schema.Metadata().Len() {
			t.Errorf("%s: %+v", c.name, info)
		}
		for i, f := range schema.Fields() {
			if got := info.Columns[i]; got.Name != f.Name || got.Type != f.Type.String() || got.Nullable != f.Nullable {
				t.Errorf("%s: column %+v of %v", c.name, got, f)
			}
		}
		if r := readAll(Spec{Path: path}); r.class != "ok" || r.count != 7 {
			t.Errorf("%s as a data set: %d rows, %v", c.name, r.count, r.err)
		}
	}
	for name, b := range map[string]string{"empty": "", "text": "hello", "cut": "ARROW1\x00\x00", "stream": "\xff\xff\xff\xff\x10\x00\x00\x00"} {
		if _, err := DescribeArrow(writeFile(t, []byte(b), t.TempDir(), name), Limits{}); ClassOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
