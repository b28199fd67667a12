package table_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/table"
)

// TestScene reads captions, masks, label maps and boxes back with the project's own reader.
func TestScene(t *testing.T) {
	want := rows(20)
	for i := range want {
		if want[i].Image == nil {
			continue
		}
		s := &table.Scene{Caption: fmt.Sprintf("caption %d", i), Mask: []byte{1, byte(i)}, Segmentation: []byte{2, byte(i)}}
		for k := range i % 4 { // none at all as well
			s.Boxes, s.Categories = append(s.Boxes, [4]float64{0.125, 0.25, 0.5, float64(k) / 8}), append(s.Categories, int64(k))
		}
		want[i].Scene = s
	}
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := os.WriteFile(path, write(t, table.Options{LabelNames: []string{"a", "b", "c"}, Scene: true}, want), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := dataset.Open(context.Background(), dataset.Spec{Path: path, ID: "id", Images: []string{"mask", "segmentation"},
		Columns: []string{"caption", "boxes", "categories"}}, dataset.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if f := d.Features(); f.Image != "image" || f.Label != "label" {
		t.Errorf("features are %+v", f)
	}
	i := 0
	for r, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err != nil {
			t.Fatal(err)
		}
		w := want[i]
		i++
		if w.Scene == nil {
			if dataset.ClassOf(r.Err) != dataset.RowNull {
				t.Errorf("row %s: error %v, want a null image", w.ID, r.Err)
			}
			continue
		}
		boxes, categories := []any{}, []any{}
		for k, b := range w.Scene.Boxes {
			boxes, categories = append(boxes, []any{b[0], b[1], b[2], b[3]}), append(categories, w.Scene.Categories[k])
		}
		got, all := fmt.Sprint(r.Values), fmt.Sprint([]any{w.Scene.Caption, boxes, categories})
		if r.Err != nil || got != all || !bytes.Equal(r.Images[0].Bytes, w.Scene.Mask) || !bytes.Equal(r.Images[1].Bytes, w.Scene.Segmentation) {
			t.Errorf("row %s: %v, values %s, want %s; images %v", w.ID, r.Err, got, all, r.Images)
		}
	}
	if i != len(want) {
		t.Errorf("%d rows", i)
	}
}
