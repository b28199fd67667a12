package measure

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/eval/extract"
	"github.com/ldm-batch/ldm-batch/eval/stats"
)

// Set is one side of a comparison.
type Set struct {
	Rows    int64 // N
	Labeled bool
	// Each yields the features of every row by one tap, in order, with its label, -1 for none.
	Each func(tap string, yield func(features []float32, label int64) error) error
}

// seed is that of every draw which no protocol names.
const seed = 2020

// held is what is kept of a set's features by one tap.
type held struct {
	n       int64          // rows of the set
	sample  stats.Features // all of them, or as many as are held
	rows    []int          // numbers of the rows of sample
	labels  []int64        // of them
	moments *stats.Moments // of all rows; nil if the sample has all of them and is small
}

// whole says that no row was left out.
func (h *held) whole() bool { return int64(h.sample.N) == h.n }

// hold reads the features of a tap. Moments are made where the features themselves are not the better way to a covariance, and
// where they are asked for.
func hold(s *Set, tap extract.Tap, most int, moments bool) (*held, error) {
	h := &held{n: s.Rows, sample: stats.Features{D: tap.D}}
	take := []int(nil) // rows to keep, ascending; nil is all
	if s.Rows > int64(most) {
		take = stats.NewRandomState(seed).Choice(int(s.Rows), most)
		slices.Sort(take)
	}
	if moments || take != nil || s.Rows > 4*int64(tap.D) {
		h.moments = stats.NewMoments(tap.D)
	}
	n := 0
	err := s.Each(tap.Name, func(f []float32, label int64) error {
		if len(f) != tap.D {
			return fmt.Errorf("row %d has %d features, not %d", n, len(f), tap.D)
		}
		if h.moments != nil {
			if err := h.moments.Add(stats.Features{N: 1, D: tap.D, Data: f}); err != nil {
				return fmt.Errorf("row %d: %w", n, err)
			}
		}
		if take == nil || len(h.rows) < len(take) && take[len(h.rows)] == n {
			h.sample.Data = append(h.sample.Data, f...)
			h.sample.N++
			h.rows = append(h.rows, n)
			h.labels = append(h.labels, label)
		}
		n++
		return nil
	})
	if err == nil && int64(n) != s.Rows {
		err = fmt.Errorf("%d rows of features, not %d", n, s.Rows)
	}
	if err != nil {
		return nil, fmt.Errorf("features %s: %w", tap.Name, err)
	}
	return h, nil
}

// normal is the normal distribution of all rows.
func (h *held) normal() (*stats.Normal, error) {
	if h.whole() && h.n <= 4*int64(h.sample.D) {
		return stats.NormalOf(h.sample)
	}
	return h.moments.Normal()
}

// shuffled is the sample in random order, so that blocks of it are alike.
func (h *held) shuffled() stats.Features {
	return h.sample.Pick(stats.NewRandomState(seed).Permutation(h.sample.N))
}
