package dataset

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
)

// The records of generated files: every kind of value, in the encodings their tags name.
type genImage struct {
	Bytes []byte  `parquet:"bytes,optional"`
	Path  *string `parquet:"path,optional,dict"`
}

type genRecord struct {
	Image   *genImage  `parquet:"image,optional"`
	Mask    []byte     `parquet:"mask,optional,dict"`
	Label   *int32     `parquet:"label,optional"`
	Delta   int64      `parquet:"delta,delta"`
	Small   int32      `parquet:"small,delta"`
	Length  string     `parquet:"length,delta"`
	Prefix  []byte     `parquet:"prefix,delta"`
	Dict    string     `parquet:"dict,dict,optional"`
	Uint    uint32     `parquet:"uint"`
	Big     uint64     `parquet:"big,dict"`
	Float   float32    `parquet:"float,split"`
	Double  float64    `parquet:"double"`
	Bool    bool       `parquet:"bool"`
	When    time.Time  `parquet:"when,timestamp(microsecond)"`
	Day     int32      `parquet:"day,date"`
	Price   int64      `parquet:"price,decimal(2:12)"`
	Key     [16]byte   `parquet:"key,uuid"`
	Tags    []string   `parquet:"tags,list"`
	Numbers []*float64 `parquet:"numbers,optional,list"`
}

var genColumns = []string{"delta", "small", "length", "prefix", "dict", "uint", "big", "float", "double", "bool", "when", "day", "price", "key", "tags", "numbers"}

func genRecords(n int) []genRecord {
	rnd := rand.New(rand.NewPCG(1, 2))
	text := func() string { return fmt.Sprintf("%0*d", rnd.IntN(9)+1, rnd.IntN(1000)) }
	out := make([]genRecord, n)
	for i := range out {
		r := &out[i]
		if rnd.IntN(9) > 0 {
			r.Image = &genImage{}
			if rnd.IntN(9) > 0 {
				r.Image.Bytes = make([]byte, 1+rnd.IntN(700))
				for k := range r.Image.Bytes {
					r.Image.Bytes[k] = byte(rnd.IntN(1 + i%256))
				}
			}
			if rnd.IntN(4) > 0 {
				p := text()
				r.Image.Path = &p
			}
		}
		if rnd.IntN(3) > 0 {
			r.Mask = []byte("mask" + text()[:1])
		}
		if rnd.IntN(5) > 0 {
			l := int32(rnd.IntN(12)) - 1
			r.Label = &l
		}
		r.Delta, r.Small = rnd.Int64()-rnd.Int64(), int32(rnd.Uint32())
		r.Length, r.Prefix, r.Dict = text(), []byte("prefix"+text()), text()[:1]
		r.Uint, r.Big = rnd.Uint32(), uint64(rnd.IntN(5))<<60
		r.Float, r.Double, r.Bool = rnd.Float32(), rnd.NormFloat64(), rnd.IntN(2) == 0
		r.When = time.UnixMicro(rnd.Int64N(1<<51) - 1<<50).UTC()
		r.Day, r.Price = int32(rnd.IntN(40000))-20000, int64(rnd.IntN(2001)-1000)
		for k := range r.Key {
			r.Key[k] = byte(rnd.Uint32())
		}
		for range rnd.IntN(4) {
			r.Tags = append(r.Tags, text())
		}
		for range rnd.IntN(3) {
			if x := rnd.Float64(); x < 0.3 {
				r.Numbers = append(r.Numbers, nil)
			} else {
				r.Numbers = append(r.Numbers, &x)
			}
		}
	}
	return out
}

// values returns what Row.Values must be for genColumns.
func (r *genRecord) values() []any {
	decimal := fmt.Sprintf("%d.%02d", abs(r.Price)/100, abs(r.Price)%100)
	if r.Price < 0 {
		decimal = "-" + decimal
	}
	var dict any
	if dict = r.Dict; r.Dict == "" {
		dict = nil
	}
	tags, numbers := []any{}, any(nil)
	for _, s := range r.Tags {
		tags = append(tags, s)
	}
	if r.Numbers != nil {
		list := []any{}
		for _, x := range r.Numbers {
			if x == nil {
				list = append(list, nil)
			} else {
				list = append(list, *x)
			}
		}
		numbers = list
	}
	return []any{r.Delta, int64(r.Small), r.Length, r.Prefix, dict, uint64(r.Uint), r.Big, float64(r.Float), r.Double, r.Bool,
		r.When, time.Unix(int64(r.Day)*86400, 0).UTC(), decimal, uuidText(r.Key[:]), tags, numbers}
}

func abs(x int64) int64 { return max(x, -x) }

// writeGenerated writes records in row groups of the given sizes, the last size repeating.
func writeGenerated[T any](t testing.TB, path string, recs []T, groups []int, opts ...parquet.WriterOption) {
	t.Helper()
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[T](&buf, opts...)
	for i := 0; len(recs) > 0; i++ {
		n := min(groups[min(i, len(groups)-1)], len(recs))
		if _, err := w.Write(recs[:n]); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		recs = recs[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

var genCodecs = map[string]compress.Codec{
	"none": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip, "brotli": &parquet.Brotli, "zstd": &parquet.Zstd, "lz4": &parquet.Lz4Raw,
}

// TestGenerated compares every value of files written by another implementation with what was written, for every codec and page
// version, from the start and from random rows.
func TestGenerated(t *testing.T) {
	recs := genRecords(450)
	for name, codec := range genCodecs {
		for version := 1; version <= 2; version++ {
			t.Run(fmt.Sprintf("%s-v%d", name, version), func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(t.TempDir(), "a.parquet")
				writeGenerated(t, path, recs, []int{1, 300, 57}, parquet.Compression(codec), parquet.DataPageVersion(version), parquet.PageBufferSize(3000))
				d, err := Open(context.Background(), Spec{Path: path, Images: []string{"mask"}, Columns: genColumns}, Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if d.NumRows() != int64(len(recs)) || d.Features().Image != "image" || d.Features().Label != "label" {
					t.Fatalf("%d rows, features %+v", d.NumRows(), d.Features())
				}
				rnd := rand.New(rand.NewPCG(3, uint64(version)))
				ranges := [][2]int64{{0, d.NumRows()}, {d.NumRows(), d.NumRows()}, {0, 1}, {300, 302}}
				for range 8 {
					a := rnd.Int64N(d.NumRows())
					ranges = append(ranges, [2]int64{a, a + rnd.Int64N(d.NumRows()-a+1)})
				}
				for _, r := range ranges {
					next := r[0]
					var rows []Row
					for row, err := range d.Rows(context.Background(), r[0], r[1]) {
						if err != nil {
							t.Fatal(err)
						}
						rows = append(rows, row)
						if row.Index != next {
							t.Fatalf("row %d in place of %d", row.Index, next)
						}
						checkGenerated(t, row, &recs[next])
						next++
					}
					if next != r[1] {
						t.Fatalf("rows %v end at %d", r, next)
					}
					if err := sameNames(d, rows, r[0]); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

func checkGenerated(t *testing.T, row Row, want *genRecord) {
	t.Helper()
	var img genImage
	if want.Image != nil {
		img = *want.Image
	}
	class := Class("")
	switch {
	case img.Bytes != nil:
	case img.Path != nil:
		class = RowPathRefused
	default:
		class = RowNull
	}
	if ClassOf(row.Err) != class || !bytes.Equal(row.Image, img.Bytes) || img.Path != nil && row.Path != *img.Path {
		t.Fatalf("row %d: image of %d bytes, path %q, error %v", row.Index, len(row.Image), row.Path, row.Err)
	}
	if m := row.Images[0]; !bytes.Equal(m.Bytes, want.Mask) || (m.Err == nil) != (want.Mask != nil) {
		t.Fatalf("row %d: mask %q, want %q", row.Index, m.Bytes, want.Mask)
	}
	switch {
	case want.Label == nil:
		if ClassOf(row.LabelErr) != RowLabel {
			t.Fatalf("row %d: null label gives %v", row.Index, row.LabelErr)
		}
	case row.Label != int64(*want.Label) || row.HasLabel != (*want.Label >= 0) || row.LabelErr != nil:
		t.Fatalf("row %d: label %d (%v), want %d", row.Index, row.Label, row.LabelErr, *want.Label)
	}
	for i, w := range want.values() {
		if got := row.Values[i]; fmt.Sprintf("%T %v", got, got) != fmt.Sprintf("%T %v", w, w) {
			t.Fatalf("row %d: column %s is %T %v, want %T %v", row.Index, genColumns[i], got, got, w, w)
		}
	}
	if loc := fmt.Sprintf("a.parquet#%d", row.Index); row.ID != loc {
		t.Fatalf("row %d has id %q", row.Index, row.ID)
	}
}

// TestSeekReadsLittle checks that a row late in a row group is reached without reading the pages before it.
func TestSeekReadsLittle(t *testing.T) {
	recs := genRecords(2000)
	path := filepath.Join(t.TempDir(), "a.parquet")
	writeGenerated(t, path, recs, []int{2000}, parquet.PageBufferSize(4000), parquet.Compression(&parquet.Uncompressed),
		parquet.DataPageStatistics(false))
	d, err := Open(context.Background(), Spec{Path: path}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	f := d.files[0]
	k := slices.IndexFunc(f.slots.leaves, func(s slot) bool { return s.path == "image.bytes" })
	r, err := f.open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	counted := &countingReader{r: r}
	c, err := newColumnReader(counted, f.size, f.slots.leaves[k].typ, f.groups[0].chunks[k], d.lim, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.skip(1990); err != nil {
		t.Fatal(err)
	}
	if chunk := f.groups[0].chunks[k].size; counted.largest > 8<<10 || chunk < 200<<10 {
		t.Errorf("largest read is %d bytes in a chunk of %d", counted.largest, chunk)
	}
	if counted.pages != 1 {
		t.Errorf("%d pages were read", counted.pages)
	}
}

// countingReader counts reads larger than those of a page header.
type countingReader struct {
	r       *os.File
	largest int
	pages   int
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	c.largest = max(c.largest, len(p))
	if len(p) > 1<<10 {
		c.pages++
	}
	return c.r.ReadAt(p, off)
}
