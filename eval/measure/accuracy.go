package measure

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/eval/extract"
	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/nn/classifier"
)

// AccuracyMetric is the share of generated rows that a classifier puts into the class of their label.
const AccuracyMetric = "accuracy"

// tally counts rows by class.
type tally struct{ rows, right []int64 }

// share is that of the rows of all classes which are right.
func (t tally) share() (share float64, n int64) {
	right := int64(0)
	for i, k := range t.rows {
		n, right = n+k, right+t.right[i]
	}
	return float64(right) / float64(n), n
}

// classify compares the largest logit of every row with its label. Every row must have one, of a class that the tap has.
func classify(s *Set, tap extract.Tap) (tally, error) {
	t := tally{make([]int64, tap.D), make([]int64, tap.D)}
	n := 0
	err := s.Each(tap.Name, func(logits []float32, label int64) error {
		switch {
		case len(logits) != tap.D:
			return fmt.Errorf("row %d has %d logits, not %d", n, len(logits), tap.D)
		case label < 0:
			return fmt.Errorf("row %d has no label", n)
		case label >= int64(tap.D):
			return fmt.Errorf("row %d: label %d is not one of the classifier's %d classes", n, label, tap.D)
		}
		n++
		t.rows[label]++
		if int64(classifier.Largest(logits)) == label {
			t.right[label]++
		}
		return nil
	})
	if err == nil && n == 0 {
		err = fmt.Errorf("no row")
	}
	return t, err
}

// accuracy scores the generated set, and notes what the reference reaches: no more can be asked for.
func (m *measurement) accuracy() error {
	at := slices.IndexFunc(m.Taps, func(t extract.Tap) bool { return t.Name == extract.Logits })
	if at < 0 || m.Network.FID {
		return fmt.Errorf("extractor %s tells no classes apart", m.Network.Name)
	}
	tap := m.Taps[at]
	if !m.generated.Labeled {
		return fmt.Errorf("the generated set has no labels")
	}
	g, err := classify(m.generated, tap)
	if err != nil {
		return fmt.Errorf("generated: %w", err)
	}
	p, n := g.share()
	s := m.add(AccuracyMetric, AccuracyMetric, fmt.Sprintf("Accuracy(%s)", m.Network.Name), p, n, 0)
	s.StandardError, s.Interval = report.Num(math.Sqrt(p*(1-p)/float64(n))), wilson(p, n)
	s.Notes = []string{"the interval is Wilson's", g.lowest(m.ClassNames)}
	if m.reference != nil && m.reference.Labeled {
		r, err := classify(m.reference, tap)
		if err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		p, n := r.share()
		s.ReferenceRows = n
		s.Notes = append(s.Notes, fmt.Sprintf("the reference reaches %.2f %%", 100*p))
	}
	return nil
}

// wilson is the 95 % interval of a share (Wilson 1927), which stays within 0 and 1 and has a width at their ends.
func wilson(p float64, n int64) *report.Interval {
	const z = 1.959963984540054
	k := float64(n)
	middle, half := (p+z*z/(2*k))/(1+z*z/k), z*math.Sqrt(p*(1-p)/k+z*z/(4*k*k))/(1+z*z/k)
	return &report.Interval{Low: report.Number(max(0, middle-half)), High: report.Number(min(1, middle+half))}
}

// lowest names the three classes with the lowest shares.
func (t tally) lowest(names []string) string {
	var classes []int
	for i, n := range t.rows {
		if n > 0 {
			classes = append(classes, i)
		}
	}
	share := func(i int) float64 { return float64(t.right[i]) / float64(t.rows[i]) }
	slices.SortStableFunc(classes, func(a, b int) int { return cmp.Compare(share(a), share(b)) })
	var list []string
	for _, i := range classes[:min(3, len(classes))] {
		name := fmt.Sprint("class ", i)
		if i < len(names) {
			name = names[i]
		}
		list = append(list, fmt.Sprintf("%s %.1f %% of %d", name, 100*share(i), t.rows[i]))
	}
	return "lowest: " + strings.Join(list, ", ")
}
