package demodata

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/demodata"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/picture"
)

var options = Options{Rows: 25, Size: 32, Seed: 3, Split: "train", Objects: 2, FileRows: 10}

// TestWrite reads a set back and compares it with the pictures that were drawn.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a[1]") // no pattern
	o := options
	o.Grid = filepath.Join(t.TempDir(), "grid.png")
	r, err := Write(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"train-00000-of-00003.parquet", "train-00001-of-00003.parquet", "train-00002-of-00003.parquet"}; !slices.Equal(r.Files, want) {
		t.Errorf("files %v", r.Files)
	}
	grid, err := os.ReadFile(o.Grid)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := picture.Probe(grid, picture.DefaultLimits()); err != nil || h.W != 12*34+2 || h.H != 10*34+2 {
		t.Errorf("grid %+v, %v", h, err)
	}

	set, err := demodata.New(demodata.Options{Size: 32, Seed: 3, Split: "train", Objects: 2})
	if err != nil {
		t.Fatal(err)
	}
	d, err := dataset.Open(context.Background(), dataset.Spec{Path: dir, ID: "id", Images: []string{"mask", "segmentation"},
		Columns: []string{"caption", "boxes", "categories"}}, dataset.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if f := d.Features(); !slices.Equal(f.ClassNames, demodata.Classes) || d.NumRows() != 25 {
		t.Errorf("%d rows, features %+v", d.NumRows(), f)
	}
	rows := int64(0)
	for row, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err != nil || row.Err != nil {
			t.Fatal(err, row.Err)
		}
		p := set.Row(rows)
		pixels := func(file []byte) *picture.Image {
			m, err := picture.Decode(file, picture.Options{})
			if err != nil {
				t.Fatalf("row %d: %v", rows, err)
			}
			return m
		}
		if !bytes.Equal(pixels(row.Image).Pix, p.RGB) || !bytes.Equal(pixels(row.Images[0].Bytes).Gray(), p.Mask) || !bytes.Equal(pixels(row.Images[1].Bytes).Gray(), p.Labels) {
			t.Errorf("row %d has other pixels", rows)
		}
		boxes, categories := row.Values[1].([]any), row.Values[2].([]any)
		if row.Label != int64(p.Label) || row.Values[0] != p.Caption || len(boxes) != len(p.Objects) || len(categories) != len(p.Objects) {
			t.Errorf("row %d: label %d, values %v; drawn %d, %q, %v", rows, row.Label, row.Values, p.Label, p.Caption, p.Objects)
		}
		rows++
	}
	if rows != 25 {
		t.Errorf("%d rows", rows)
	}
}

func TestSplits(t *testing.T) {
	ctx, a, b := context.Background(), t.TempDir(), t.TempDir()
	read := func(dir, name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, dir := range []string{a, b} {
		if _, err := Write(ctx, dir, options); err != nil {
			t.Fatal(err)
		}
	}
	if name := "train-00001-of-00003.parquet"; !bytes.Equal(read(a, name), read(b, name)) {
		t.Errorf("%s differs from run to run", name)
	}
	test := options
	test.Split, test.Rows = "test", 5
	if _, err := Write(ctx, a, test); err != nil {
		t.Errorf("a second split: %v", err)
	}
	if _, err := Write(ctx, a, options); exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "train-00000-of-00003.parquet exists") {
		t.Errorf("a split again: %v", err)
	}
	again := options
	again.Overwrite, again.Rows = true, 12
	if _, err := Write(ctx, a, again); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(a, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	if want := []string{"test-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet"}; !slices.Equal(files, want) {
		t.Errorf("files after replacing: %v", files)
	}
}

func TestErrors(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"rows":    func(o *Options) { o.Rows = 0 },
		"size":    func(o *Options) { o.Size = 8 },
		"objects": func(o *Options) { o.Objects = 0 },
		"split":   func(o *Options) { o.Split = "../x" },
	} {
		o := options
		change(&o)
		if _, err := Write(context.Background(), t.TempDir(), o); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	if _, err := Write(ctx, dir, options); err == nil {
		t.Error("a cancelled write succeeds")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
