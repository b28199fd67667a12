// Package reference reads and writes the statistics and features that sets are compared with, in this program's format and
// in those of other tools.
//
// Concept: a [Reference] is a normal distribution of features with what is known of their origin. Formats are told apart by
// content: .npz with mu and sigma (TTUR, pytorch-fid, clean-fid, EDM; the ADM suite's also has mu_s and sigma_s), the caches
// that torch-fidelity keeps (torch archives with mu and sigma), and the files of package io/stats. Only the last say how they
// were made.
//
// Data flow: [Open] reads a file; [WriteNPZ] and [Save] write one. Ownership: what is returned is the caller's.
//
// Errors: a file that is damaged or whose numbers are no statistics (sizes that do not fit, values that are not finite, a
// covariance that is not symmetric or not positive semidefinite) is an error of class data that names the file.
package reference

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
	"github.com/ldm-batch/ldm-batch/eval/stats"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/npz"
	"github.com/ldm-batch/ldm-batch/io/part"
	iostats "github.com/ldm-batch/ldm-batch/io/stats"
)

// Formats of a reference.
const (
	NPZ           = "npz"
	TorchFidelity = "torch-fidelity"
	Statistics    = "statistics"
)

// Reference is what a set is compared with.
type Reference struct {
	Path, Format string
	Meta         iostats.Meta   // empty but for [Statistics]
	Normal       *stats.Normal  // of all pictures
	Spatial      *stats.Normal  // of the features of sFID; nil if the file has none
	Moments      *stats.Moments // exact sums; nil if the file has none
}

// Open reads the statistics at path. want is the size and sha256 of a file of statistics, nil if they are not known; other
// formats have checksums of their own.
func Open(path string, want *part.Expect) (*Reference, error) {
	head, isTorch, err := sniff(path)
	if err != nil {
		return nil, err
	}
	r := &Reference{Path: path}
	switch {
	case bytes.HasPrefix(head, []byte("ARROW1")):
		r.Format = Statistics
		err = r.readStatistics(want)
	case isTorch:
		r.Format = TorchFidelity
		err = r.readTorch()
	default:
		r.Format = NPZ
		err = r.readNPZ()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// sniff returns the first bytes, and whether the file is a torch archive: a zip without arrays.
func sniff(path string) (head []byte, isTorch bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	head = make([]byte, 6)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, false, err
	}
	if !bytes.HasPrefix(head, []byte("PK")) {
		return head[:n], false, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, false, err
	}
	z, err := npz.Read(f, info.Size(), path)
	if err != nil {
		return nil, false, err
	}
	return head, len(z.Names()) == 0, nil
}

func (r *Reference) readNPZ() error {
	f, err := npz.Open(r.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	read := func(mu, sigma string) (*stats.Normal, error) {
		mean, _, err := r.doubles(f, mu, 1)
		if err != nil {
			return nil, err
		}
		cov, shape, err := r.doubles(f, sigma, 2)
		if err != nil {
			return nil, err
		}
		return r.normal(0, mean, cov, shape)
	}
	if r.Normal, err = read("mu", "sigma"); err != nil || !f.Has("mu_s") {
		return err
	}
	r.Spatial, err = read("mu_s", "sigma_s")
	return err
}

// doubles reads an array of so many dimensions.
func (r *Reference) doubles(f *npz.File, name string, dims int) ([]float64, []int, error) {
	a, err := f.Array(name)
	if err != nil {
		return nil, nil, err
	}
	if len(a.Shape) != dims {
		a.Close()
		return nil, nil, exitcode.Errorf(exitcode.Data, "%s: array %q has shape %v, not %d dimensions", r.Path, name, a.Shape, dims)
	}
	v, err := a.Float64s()
	return v, a.Shape, err
}

func (r *Reference) normal(n int, mean, cov []float64, shape []int) (*stats.Normal, error) {
	if len(shape) != 2 || shape[0] != len(mean) || shape[1] != len(mean) {
		return nil, exitcode.Errorf(exitcode.Data, "%s: covariance of shape %v for a mean of %d features", r.Path, shape, len(mean))
	}
	p, err := stats.NewNormal(n, mean, linalg.Of(shape[0], shape[1], cov))
	if err != nil {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", r.Path, err))
	}
	return p, nil
}

func (r *Reference) readTorch() error {
	f, err := weights.Open(r.Path, weights.Limits{})
	if err != nil {
		return err
	}
	defer f.Close()
	read := func(name string) ([]float64, []int, error) {
		t, ok := f.Lookup(name)
		if !ok {
			return nil, nil, exitcode.Errorf(exitcode.Data, "%s: no array %q; a torch-fidelity cache has mu and sigma", r.Path, name)
		}
		b, err := t.Bytes()
		if err != nil {
			return nil, nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", r.Path, err))
		}
		var v []float64
		switch t.DType {
		case weights.F64:
			for ; len(b) > 0; b = b[8:] {
				v = append(v, math.Float64frombits(binary.LittleEndian.Uint64(b)))
			}
		case weights.F32:
			for ; len(b) > 0; b = b[4:] {
				v = append(v, float64(math.Float32frombits(binary.LittleEndian.Uint32(b))))
			}
		default:
			return nil, nil, exitcode.Errorf(exitcode.Data, "%s: %s is of type %v", r.Path, name, t.DType)
		}
		return v, t.Shape, nil
	}
	mean, _, err := read("mu")
	if err != nil {
		return err
	}
	cov, shape, err := read("sigma")
	if err != nil {
		return err
	}
	r.Normal, err = r.normal(0, mean, cov, shape)
	return err
}

func (r *Reference) readStatistics(want *part.Expect) error {
	f, err := iostats.Read(r.Path, want)
	if err != nil {
		return err
	}
	all, ok := f.All()
	if !ok {
		return exitcode.Errorf(exitcode.Data, "%s: no row for all pictures", r.Path)
	}
	r.Meta = f.Meta
	if all.State != nil {
		r.Moments = new(stats.Moments)
		if err = r.Moments.UnmarshalBinary(all.State); err == nil && (r.Moments.D() != f.Features || int64(r.Moments.N()) != all.Rows) {
			err = errors.New("state and row do not agree")
		}
		if err == nil {
			r.Normal, err = r.Moments.Normal()
		}
		if err != nil {
			return exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", r.Path, err))
		}
		return nil
	}
	if all.Covariance == nil {
		return exitcode.Errorf(exitcode.Data, "%s: statistics of %d pictures, 2 needed", r.Path, all.Rows)
	}
	r.Normal, err = r.normal(int(all.Rows), all.Mean, square(all.Covariance, f.Features), []int{f.Features, f.Features})
	return err
}

// square unpacks an upper triangle.
func square(packed []float64, d int) []float64 {
	out := make([]float64, d*d)
	for i := range d {
		for j := i; j < d; j++ {
			out[i*d+j], out[j*d+i] = packed[0], packed[0]
			packed = packed[1:]
		}
	}
	return out
}

// SetOf makes the row of a set; class nil is all pictures. state says whether its exact sums are kept.
func SetOf(m *stats.Moments, class *int64, state bool) (iostats.Set, error) {
	s := iostats.Set{Class: class, Rows: int64(m.N())}
	if m.N() > 0 {
		s.Mean = m.Mean()
	}
	if m.N() > 1 {
		cov, err := m.Covariance()
		if err != nil {
			return s, err
		}
		for i := range m.D() {
			s.Covariance = append(s.Covariance, cov.Row(i)[i:]...)
		}
	}
	if state {
		var err error
		if s.State, err = m.MarshalBinary(); err != nil {
			return s, err
		}
	}
	return s, nil
}

// Save writes a file of statistics: all pictures, with their exact sums, and the classes in the order given.
func Save(w io.Writer, meta iostats.Meta, all *stats.Moments, classes iter.Seq2[int64, *stats.Moments]) error {
	return iostats.Write(w, meta, all.D(), func(yield func(iostats.Set, error) bool) {
		if !yield(SetOf(all, nil, true)) || classes == nil {
			return
		}
		for class, m := range classes {
			if !yield(SetOf(m, &class, false)) {
				return
			}
		}
	})
}

// WriteNPZ writes mu and sigma as pytorch-fid does: float64, compressed.
func WriteNPZ(w io.Writer, mean []float64, covariance linalg.Matrix) error {
	z := npz.NewWriter(w, true)
	d := len(mean)
	if covariance.R != d || covariance.C != d {
		return fmt.Errorf("covariance is %d x %d for a mean of %d features", covariance.R, covariance.C, d)
	}
	if err := z.Float64s("mu", mean, d); err != nil {
		return err
	}
	if err := z.Float64s("sigma", covariance.Clone().Data, d, d); err != nil {
		return err
	}
	return z.Close()
}

// ReadFeatures reads the features of an .npz, N x D, under the name "feats", which clean-fid gives them.
func ReadFeatures(path string) (stats.Features, error) {
	f, err := npz.Open(path)
	if err != nil {
		return stats.Features{}, err
	}
	defer f.Close()
	a, err := f.Array("feats")
	if err != nil {
		return stats.Features{}, err
	}
	if len(a.Shape) != 2 {
		a.Close()
		return stats.Features{}, exitcode.Errorf(exitcode.Data, "%s: features have shape %v", path, a.Shape)
	}
	v, err := a.Float32s()
	return stats.Features{N: a.Shape[0], D: a.Shape[1], Data: v}, err
}

// WriteFeatures writes features that [ReadFeatures] and clean-fid read.
func WriteFeatures(w io.Writer, f stats.Features) error {
	z := npz.NewWriter(w, true)
	if err := z.Float32s("feats", f.Data, f.N, f.D); err != nil {
		return err
	}
	return z.Close()
}
