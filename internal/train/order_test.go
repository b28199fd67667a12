package train

import (
	"math"
	"slices"
	"testing"
)

// TestOrderIsPermutation walks whole epochs: every row comes exactly once, whatever the sizes, and places lead back to windows.
func TestOrderIsPermutation(t *testing.T) {
	for _, o := range []Order{
		{1, 1, 1, 1}, {1, 100, 3, 2}, {2, 1, 1, 3}, {7, 2, 2, 4}, {100, 10, 3, 5}, {101, 10, 3, 6}, {999, 7, 5, 7},
		{1000, 1000, 1, 8}, {1000, 1, 1000, 9}, {4096, 64, 4, 10}, {4097, 64, 4, 11},
	} {
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		for epoch := range int64(4) {
			seen := make([]bool, o.Rows)
			place := int64(0)
			for n := range o.Windows() {
				w := o.Window(epoch, n)
				if w.First != place {
					t.Fatalf("%+v epoch %d: window %d begins at %d, want %d", o, epoch, n, w.First, place)
				}
				var list []int64
				for _, s := range w.Spans {
					for r := s.From; r < s.To; r++ {
						list = append(list, r)
					}
				}
				for i := range w.Rows {
					if at := o.At(epoch, place); at.Number != n {
						t.Fatalf("%+v epoch %d: place %d is in window %d, want %d", o, epoch, place, at.Number, n)
					}
					row := list[w.Row(i)]
					if seen[row] {
						t.Fatalf("%+v epoch %d: row %d comes twice", o, epoch, row)
					}
					seen[row] = true
					place++
				}
			}
			if place != o.Rows {
				t.Errorf("%+v epoch %d: %d places", o, epoch, place)
			}
		}
	}
}

// TestOrderIsRandom checks that rows move far, that epochs and seeds differ, and that the same question gets the same answer.
func TestOrderIsRandom(t *testing.T) {
	order := func(seed uint64, epoch int64) []int64 {
		o := Order{5000, 50, 10, seed}
		var all []int64
		for n := range o.Windows() {
			w := o.Window(epoch, n)
			var list []int64
			for _, s := range w.Spans {
				for r := s.From; r < s.To; r++ {
					list = append(list, r)
				}
			}
			for i := range w.Rows {
				all = append(all, list[w.Row(i)])
			}
		}
		return all
	}
	a := order(1, 0)
	if !slices.Equal(a, order(1, 0)) {
		t.Error("the order changes")
	}
	for name, b := range map[string][]int64{"another epoch": order(1, 1), "another seed": order(2, 0)} {
		same := 0
		for i := range a {
			if a[i] == b[i] {
				same++
			}
		}
		if same > 10 {
			t.Errorf("%s: %d of %d rows at the same place", name, same, len(a))
		}
	}
	near, moved := 0, 0.0
	for i, r := range a {
		moved += math.Abs(float64(r-int64(i))) / float64(len(a))
		if i > 0 && (r-a[i-1] == 1) {
			near++
		}
	}
	if mean := moved / float64(len(a)); mean < 0.25 || mean > 0.42 { // one third for a random permutation
		t.Errorf("rows move by %.2f of the length on average", mean)
	}
	if near > 40 {
		t.Errorf("%d rows follow their neighbour", near)
	}
}

func TestPermutationInverse(t *testing.T) {
	for _, n := range []uint64{1, 2, 3, 5, 16, 17, 1000, 65536, 65537} {
		p := permutation{n, 99}
		for i := range min(n, 500) {
			if j := p.inverse(p.at(i)); j != i {
				t.Fatalf("n %d: %d comes back as %d", n, i, j)
			}
		}
	}
}
