package dataset

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// TestNamesReadLittle takes away what names do not need: the files where there are no columns of names, and else the bytes of images.
func TestNamesReadLittle(t *testing.T) {
	recs := genRecords(60)
	names := func(d *Dataset, from, to int64) (out []Name) {
		t.Helper()
		for n, err := range d.Names(context.Background(), from, to) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, n)
		}
		return out
	}
	for form, path := range carriers(t) {
		d, err := Open(context.Background(), Spec{Path: path}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		got := names(d, 0, d.NumRows())
		if !d.Files()[0].Pictures || len(got) != 11 || !slices.Contains(got, Name{"cat/a.JPG", "cat/a.JPG"}) {
			t.Errorf("%s: %+v", form, got)
		}
	}
	path := filepath.Join(t.TempDir(), "a.parquet")
	writeGenerated(t, path, recs, []int{20, 40}, parquet.Compression(&parquet.Uncompressed))
	d, err := Open(context.Background(), Spec{Path: path}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := names(d, 0, 60)
	if d.Files()[0].Pictures || want[33].ID != "a.parquet#33" || !slices.ContainsFunc(want, func(n Name) bool { return n.Path != "" }) {
		t.Fatalf("%+v", want)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f := d.files[0]
	k := slices.IndexFunc(f.slots.leaves, func(s slot) bool { return s.path == "image.bytes" })
	for _, g := range f.groups {
		start, end, err := g.chunks[k].span(f.size)
		if err != nil {
			t.Fatal(err)
		}
		clear(b[start:end])
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if d, err = Open(context.Background(), Spec{Path: path}, Limits{}); err != nil {
		t.Fatal(err)
	}
	if got := names(d, 15, 60); !slices.Equal(got, want[15:]) {
		t.Errorf("%+v\nwant %+v", got, want[15:])
	}
	for _, err := range d.Rows(context.Background(), 0, 1) {
		if err == nil {
			t.Error("the images can still be read")
		}
	}
	for _, err := range d.Names(context.Background(), 0, 61) {
		if err == nil || !strings.Contains(err.Error(), "rows 0 to 61 of a data set of 60") {
			t.Error(err)
		}
	}
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	for _, err := range d.Names(stopped, 0, 60) {
		if err == nil {
			t.Error("names go on after the end of their context")
		}
	}
}
