package table_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/table"
)

func rows(n int) []table.Row {
	var out []table.Row
	for i := range n {
		label := int64(i % 3)
		r := table.Row{ID: fmt.Sprintf("row-%d", i), Image: bytes.Repeat([]byte{byte(i)}, i%50+1), Path: fmt.Sprintf("%d.png", i), Label: &label, Width: 4, Height: 5, Status: "ok"}
		if i%7 == 3 {
			r.Image, r.Label, r.Status, r.Error = nil, nil, "failed", "truncated"
		}
		out = append(out, r)
	}
	return out
}

func write(t *testing.T, o table.Options, rows []table.Row) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := table.NewWriter(&b, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if err := w.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRoundTrip reads back with the project's own reader, which shares no code with the writer.
func TestRoundTrip(t *testing.T) {
	want := rows(250)
	path := filepath.Join(t.TempDir(), "x.parquet")
	data := write(t, table.Options{LabelNames: []string{"a", "b", "c"}}, want)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := dataset.Open(context.Background(), dataset.Spec{Path: path, ID: "id", Columns: []string{"status", "error", "width", "height"}}, dataset.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if f := d.Features(); f.Image != "image" || f.Label != "label" || !slices.Equal(f.ClassNames, []string{"a", "b", "c"}) {
		t.Errorf("features are %+v", f)
	}
	if d.NumRows() != 250 || d.Files()[0].RowGroups != 3 {
		t.Errorf("%d rows in %d row groups, want 250 in 3", d.NumRows(), d.Files()[0].RowGroups)
	}
	i := 0
	for r, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err != nil {
			t.Fatal(err)
		}
		w := want[i]
		if w.Image == nil {
			if dataset.ClassOf(r.Err) != dataset.RowNull || r.HasLabel {
				t.Errorf("row %d: error %v, label %v; want a null image and label", i, r.Err, r.HasLabel)
			}
		} else if r.Err != nil || !bytes.Equal(r.Image, w.Image) || r.Path != w.Path || r.Label != *w.Label {
			t.Errorf("row %d: image %d bytes, path %q, label %d, err %v", i, len(r.Image), r.Path, r.Label, r.Err)
		}
		if r.ID != w.ID || r.Values[0] != w.Status || r.Values[1] != w.Error || r.Values[2] != int64(4) || r.Values[3] != int64(5) {
			t.Errorf("row %d: id %q, values %v", i, r.ID, r.Values)
		}
		i++
	}
	info, err := table.Describe(path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range info.Columns {
		names = append(names, c.Name)
	}
	if info.Rows != 250 || !slices.Equal(names, []string{"id", "image.bytes", "image.path", "label", "width", "height", "status", "error"}) {
		t.Errorf("described as %d rows, columns %v", info.Rows, names)
	}
}

func TestDeterministic(t *testing.T) {
	a, b := write(t, table.Options{}, rows(120)), write(t, table.Options{}, rows(120))
	if sha256.Sum256(a) != sha256.Sum256(b) {
		t.Error("the same rows gave different files")
	}
}

// failing refuses the write that passes its limit.
type failing struct{ left int }

var errFull = errors.New("no space")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestFullDisk fails the write at every point of a file.
func TestFullDisk(t *testing.T) {
	list := rows(210)
	size := len(write(t, table.Options{Label: true}, list))
	for limit := 0; limit < size; limit += 37 {
		w, err := table.NewWriter(&failing{limit}, table.Options{Label: true})
		for i := 0; err == nil && i < len(list); i++ {
			err = w.Append(list[i])
		}
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, errFull) {
			t.Fatalf("full after %d of %d bytes: error is %v", limit, size, err)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	var b bytes.Buffer
	w, err := table.NewWriter(&b, table.Options{})
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(w.Append(rows(1)[0]), w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("PAR1\xff\xff\xff\xffPAR1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := table.Describe(path); err != nil && exitcode.Of(err) != exitcode.Data {
			t.Errorf("class %d: %v", exitcode.Of(err), err)
		}
	})
}
