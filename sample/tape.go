package sample

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// Tape is recorded noise: x_T (N x C x H x W) and, for stochastic samplers, noise (steps x N x C x H x W), whose entry k is
// the noise of the k-th step made. It makes runs comparable with other programs.
type Tape struct {
	start, steps *weights.Tensor
	n, size      int // rows, and numbers of one latent
	values       []float32
	noise        []float32
}

// OpenTape reads a tape for latents of c x h x w from a file of tensors. The file must stay open.
func OpenTape(f *weights.File, c, h, w, steps int, stochastic bool) (*Tape, error) {
	start, ok := f.Lookup("x_T")
	if !ok {
		return nil, exitcode.Errorf(exitcode.Data, "noise file %s: no tensor x_T", f.Path())
	}
	if s := start.Shape; len(s) != 4 || s[1] != c || s[2] != h || s[3] != w {
		return nil, exitcode.Errorf(exitcode.Data, "noise file %s: x_T has shape %v, want N x %d x %d x %d", f.Path(), s, c, h, w)
	}
	t := &Tape{start: start, n: start.Shape[0], size: c * h * w}
	var err error
	if t.values, err = start.Values(); err != nil {
		return nil, fmt.Errorf("noise file %s: x_T: %w", f.Path(), err)
	}
	if !stochastic {
		return t, nil
	}
	if t.steps, ok = f.Lookup("noise"); !ok {
		return nil, exitcode.Errorf(exitcode.Data, "noise file %s: no tensor noise, which this sampler needs", f.Path())
	}
	if s := t.steps.Shape; len(s) != 5 || s[0] < steps || s[1] != t.n || s[2] != c || s[3] != h || s[4] != w {
		return nil, exitcode.Errorf(exitcode.Data, "noise file %s: noise has shape %v, want at least %d x %d x %d x %d x %d", f.Path(), s, steps, t.n, c, h, w)
	}
	if t.noise, err = t.steps.Values(); err != nil {
		return nil, fmt.Errorf("noise file %s: noise: %w", f.Path(), err)
	}
	return t, nil
}

// Rows is how many rows the tape has noise for.
func (t *Tape) Rows() int { return t.n }

// Slice is the noise of given rows of the tape, in that order.
func (t *Tape) Slice(rows []int64) Noise { return tapeSlice{t, rows} }

type tapeSlice struct {
	t    *Tape
	rows []int64
}

func (s tapeSlice) fill(from, dst []float32) error {
	for i, r := range s.rows {
		if r < 0 || r >= int64(s.t.n) {
			return exitcode.Errorf(exitcode.Data, "row %d has no noise: the file holds %d rows", r, s.t.n)
		}
		copy(dst[i*s.t.size:(i+1)*s.t.size], from[int(r)*s.t.size:])
	}
	return nil
}

// Initial implements [Noise].
func (s tapeSlice) Initial(dst []float32) error { return s.fill(s.t.values, dst) }

// Step implements [Noise].
func (s tapeSlice) Step(k int, dst []float32) error {
	step := s.t.n * s.t.size
	if s.t.noise == nil || (k+1)*step > len(s.t.noise) {
		return exitcode.Errorf(exitcode.Data, "step %d has no noise in the file", k)
	}
	return s.fill(s.t.noise[k*step:(k+1)*step], dst)
}
