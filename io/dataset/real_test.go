package dataset

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/parquet-go/parquet-go"
)

// TestReal reads whole sets of real pictures: counts, order, labels, and a sound header in every image.
func TestReal(t *testing.T) {
	root := golden.Data(t)
	for _, c := range []struct {
		path    string
		spec    Spec
		rows    int64
		files   int
		classes int
	}{
		{"clothing/train-*.parquet", Spec{}, 2868, 6, 10},
		{"clothing/test-*.parquet", Spec{Image: "image", Label: "label"}, 372, 2, 10},
		{"clothing/validation-*.parquet", Spec{}, 341, 2, 10},
		{"kodak/half-*.parquet", Spec{ID: "id"}, 24, 1, 0},
		{"kodak/original-*.parquet", Spec{ID: "id"}, 4, 1, 0},
		{"inpainting", Spec{ID: "id", Images: []string{"mask"}}, 8, 1, 0},
	} {
		t.Run(c.path, func(t *testing.T) {
			t.Parallel()
			spec := c.spec
			spec.Path = filepath.Join(root, c.path)
			r := readAll(spec)
			if r.err != nil {
				t.Fatal(r.err)
			}
			if r.count != c.rows || len(r.rows) != int(c.rows) || len(r.files) != c.files || len(r.ft.ClassNames) != c.classes {
				t.Fatalf("%d rows, %d delivered, %d files, classes %v", r.count, len(r.rows), len(r.files), r.ft.ClassNames)
			}
			ids, counts := map[string]bool{}, map[string]int{}
			for _, row := range r.rows {
				if row.Err != nil || row.LabelErr != nil || row.HasLabel != (c.classes > 0) {
					t.Fatalf("row %d: %v, %v, label %v", row.Index, row.Err, row.LabelErr, row.HasLabel)
				}
				if _, err := picture.Probe(row.Image, picture.DefaultLimits()); err != nil {
					t.Fatalf("row %d: %v", row.Index, err)
				}
				if len(row.Images) != len(spec.Images) || row.Path == "" {
					t.Fatalf("row %d: %d further images, path %q", row.Index, len(row.Images), row.Path)
				}
				ids[row.ID] = true
				counts[row.LabelName]++
			}
			if len(ids) != len(r.rows) {
				t.Errorf("%d ids of %d rows", len(ids), len(r.rows))
			}
			if strings.Contains(c.path, "train") && (counts["t-shirt"] != 775 || counts["skirt"] != 92) {
				t.Errorf("classes %v", counts)
			}
		})
	}
}

// TestAgainstLibrary compares hashes with those of another implementation, two files read at the same time.
func TestAgainstLibrary(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden.Data(t, "clothing"), "*.parquet"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for i := 0; i < len(files); i += 5 {
		pair := []string{files[i], files[(i+1)%len(files)]}
		t.Run(fmt.Sprint(filepath.Base(pair[0]), "+", filepath.Base(pair[1])), func(t *testing.T) {
			var wg sync.WaitGroup
			got := make([][]string, 2)
			for k, p := range pair {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for _, row := range readAll(Spec{Path: p}).rows {
						got[k] = append(got[k], fmt.Sprint(sha256Of(row.Image), row.Path, row.Label))
					}
				}()
			}
			wg.Wait()
			for k, p := range pair {
				if want := libraryRows(t, p); len(want) == 0 || !slices.Equal(got[k], want) {
					t.Errorf("%s: %d rows differ from the library's %d", p, len(got[k]), len(want))
				}
			}
		})
	}
}

func libraryRows(t *testing.T, path string) []string {
	t.Helper()
	type record struct {
		Image struct {
			Bytes []byte `parquet:"bytes,optional"`
			Path  string `parquet:"path,optional"`
		} `parquet:"image,optional"`
		Label int64 `parquet:"label,optional"`
	}
	recs, err := parquet.ReadFile[record](path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range recs {
		out = append(out, fmt.Sprint(sha256Of(r.Image.Bytes), r.Image.Path, r.Label))
	}
	return out
}

// TestRanges checks that every range is the same slice of the whole, over files and row groups, and that rows lie where Locate
// says.
func TestRanges(t *testing.T) {
	dir := golden.Data(t, "clothing")
	d, err := Open(context.Background(), Spec{Path: filepath.Join(dir, "train-*.parquet")}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	whole := make([]string, 0, d.NumRows())
	for row, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err != nil {
			t.Fatal(err)
		}
		if loc := d.Locate(row.Index); loc != (Location{row.File, row.RowInFile, row.RowGroup, row.RowInGroup}) {
			t.Fatalf("row %+v lies at %+v", row.Index, loc)
		}
		whole = append(whole, sha256Of(row.Image)+row.ID)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 25 {
		from := rnd.Int64N(d.NumRows())
		to := min(d.NumRows(), from+rnd.Int64N(150))
		next := from
		for row, err := range d.Rows(context.Background(), from, to) {
			if err != nil {
				t.Fatal(err)
			}
			if sha256Of(row.Image)+row.ID != whole[next] || row.Index != next {
				t.Fatalf("rows %d to %d: row %d differs", from, to, next)
			}
			next++
		}
		if next != to {
			t.Fatalf("rows %d to %d end at %d", from, to, next)
		}
	}
}

// TestMemoryNeed checks the exact need against the bound and against what reading allocates at most.
func TestMemoryNeed(t *testing.T) {
	dir := golden.Data(t)
	for _, path := range []string{"clothing", "odd/wide_row.parquet", "odd/page_index.parquet"} {
		d, err := Open(context.Background(), Spec{Path: filepath.Join(dir, path)}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		need, err := d.MemoryNeed(context.Background())
		if err != nil || need <= 0 {
			t.Fatalf("%s: need %d, %v", path, need, err)
		}
		if slack := int64(64 << 10); need > d.MemoryBound()+slack {
			t.Errorf("%s: need %d is over the bound %d", path, need, d.MemoryBound())
		}
		// A limit a little lower than the largest page must refuse, in words, and one at the need must read.
		small, err := Open(context.Background(), Spec{Path: filepath.Join(dir, path)}, Limits{Memory: need})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range small.Rows(context.Background(), 0, small.NumRows()) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	d, err := Open(context.Background(), Spec{Path: filepath.Join(dir, "odd/wide_row.parquet")}, Limits{Memory: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, err = range d.Rows(context.Background(), 0, d.NumRows()) {
	}
	if ClassOf(err) != FileTooLarge {
		t.Errorf("a page of 8 MB under a limit of 4 MB gives %v", err)
	}
}

// TestManyRowsLittleMemory reads a file many times the size of its pages and watches the heap.
func TestManyRowsLittleMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.parquet")
	writeBench(t, path, 24<<20)
	d, err := Open(context.Background(), Spec{Path: path}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	need, err := d.MemoryNeed(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, uint64(0)
	n := 0
	for _, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n%40 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
	if held := int64(most) - int64(before); held > need+2<<20 {
		t.Errorf("reader holds %d bytes where it says %d", held, need)
	}
}

// writeBench writes a file of about size bytes of images of 96 KiB that do not compress, pages of 1 MiB.
func writeBench(t testing.TB, path string, size int) {
	t.Helper()
	type record struct {
		Image struct {
			Bytes []byte `parquet:"bytes,optional"`
			Path  string `parquet:"path,optional"`
		} `parquet:"image,optional"`
		Label int64 `parquet:"label"`
	}
	src := rand.NewChaCha8([32]byte{7})
	recs := make([]record, size/(96<<10))
	for i := range recs {
		recs[i].Image.Bytes = make([]byte, 96<<10)
		_, _ = src.Read(recs[i].Image.Bytes)
		recs[i].Image.Path, recs[i].Label = fmt.Sprintf("%d.jpg", i), int64(i%10)
	}
	writeGenerated(t, path, recs, []int{100}, parquet.Compression(&parquet.Snappy), parquet.PageBufferSize(1<<20), parquet.DataPageStatistics(false))
}

func BenchmarkRows(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.parquet")
	writeBench(b, path, 50<<20)
	d, err := Open(context.Background(), Spec{Path: path}, Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(d.Files()[0].Size)
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range d.Rows(context.Background(), 0, d.NumRows()) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	root := golden.Data(b)
	for b.Loop() {
		if _, err := Open(context.Background(), Spec{Path: filepath.Join(root, "clothing")}, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

// writeFeatures is a footer note as the Hugging Face libraries write it.
func writeFeatures(features map[string]any) parquet.WriterOption {
	b, err := json.Marshal(map[string]any{"info": map[string]any{"features": features}})
	if err != nil {
		panic(err)
	}
	return parquet.KeyValueMetadata("huggingface", string(b))
}
