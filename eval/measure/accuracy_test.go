package measure

import (
	"math"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval/extract"
)

// labelled is a set whose rows have logits for three classes.
func labelled(rows []int64, labels []int64) *Set {
	return &Set{Rows: int64(len(rows)), Labeled: true, Each: func(tap string, yield func([]float32, int64) error) error {
		for i, class := range rows {
			f := []float32{0, 0, 0}
			if tap == extract.Features {
				f = []float32{float32(i), float32(i * i % 7)}
			} else if class >= 0 {
				f[class] = 1
			}
			if err := yield(f, labels[i]); err != nil {
				return err
			}
		}
		return nil
	}}
}

var classifierTaps = []extract.Tap{{Name: extract.Features, D: 2}, {Name: extract.Logits, D: 3}}

func TestAccuracy(t *testing.T) {
	c := Config{
		Metrics: []string{"accuracy", "fid"}, Network: extract.Identity{Name: "small"}, Taps: classifierTaps, MaxFeatures: 100,
		ClassNames: []string{"cat", "dog", "bird"},
	}
	g := labelled([]int64{0, 1, 2, 0, 1, 2, 0, 1, 1, 1}, []int64{0, 1, 2, 0, 1, 2, 0, 1, 2, 2})
	r := labelled([]int64{0, 1, 2, 2}, []int64{0, 1, 2, 0})
	out, err := Scores(c, g, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Scores) != 2 || out.Scores[0].Key != "accuracy" || out.Scores[1].Metric != "fd" || out.Scores[1].Label != "FD(small)" {
		t.Fatalf("%+v", out.Scores)
	}
	s := out.Scores[0]
	if s.Value != 0.8 || s.GeneratedRows != 10 || s.ReferenceRows != 4 || s.Label != "Accuracy(small)" {
		t.Errorf("%+v", s)
	}
	if low, high := float64(s.Interval.Low), float64(s.Interval.High); math.Abs(low-0.4902) > 1e-4 || math.Abs(high-0.9433) > 1e-4 { // worked out by hand
		t.Errorf("interval %v to %v", low, high)
	}
	if notes := strings.Join(s.Notes, "; "); !strings.Contains(notes, "lowest: bird 50.0 % of 4, cat 100.0 % of 3, dog 100.0 % of 3") ||
		!strings.Contains(notes, "the reference reaches 75.00 %") {
		t.Errorf("notes %q", notes)
	}
}

func TestAccuracyRefused(t *testing.T) {
	c := Config{Metrics: []string{"accuracy"}, Network: extract.Identity{Name: "small"}, Taps: classifierTaps}
	rows := []int64{0, 1}
	for want, labels := range map[string][]int64{"row 1 has no label": {0, -1}, "label 3 is not one of the classifier's 3 classes": {0, 3}} {
		if _, err := Scores(c, labelled(rows, labels), nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("labels %v: %v", labels, err)
		}
	}
	g := labelled(rows, rows)
	g.Labeled = false
	if _, err := Scores(c, g, nil, nil); err == nil || !strings.Contains(err.Error(), "no labels") {
		t.Errorf("without labels: %v", err)
	}
	if _, err := Scores(c, labelled(nil, nil), nil, nil); err == nil || !strings.Contains(err.Error(), "no row") {
		t.Errorf("without rows: %v", err)
	}
	c.Taps = []extract.Tap{{Name: "latent", D: 2}}
	if _, err := Scores(c, labelled(rows, rows), nil, nil); err == nil || !strings.Contains(err.Error(), "tells no classes apart") {
		t.Errorf("of latents: %v", err)
	}
}
