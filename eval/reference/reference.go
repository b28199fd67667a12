// Package reference reads and writes the statistics and features that sets are compared with, in this program's format and
// in those of other tools.
//
// Concept: a [Reference] is a normal distribution of features with what is known of their origin. Formats are told apart by
// content: .npz with mu and sigma (TTUR, pytorch-fid, clean-fid, EDM; the ADM suite's also has mu_s and sigma_s), the caches
// that torch-fidelity keeps (torch archives with mu and sigma), the pickles of EDM2 (with statistics by score, of which those of FID
// count), and the files of package io/stats. Only the last say how they were made.
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
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

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
	EDM2          = "edm2"
	Statistics    = "statistics"
)

// Reference is what a set is compared with: normal distributions of features by tap, or features themselves.
type Reference struct {
	Path, Format string
	Meta         iostats.Meta    // empty but for [Statistics]
	Features     *stats.Features // of clean-fid's files for KID, which have no distribution

	sets    []iostats.Set // of [Statistics]
	normal  *stats.Normal // of other formats, whose tap is not known
	spatial *stats.Normal // of the features of sFID; nil if there are none
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
		var f *iostats.File
		if f, err = iostats.Read(path, want); err == nil {
			r.Meta, r.sets = f.Meta, f.Sets
		}
	case isTorch:
		r.Format = TorchFidelity
		err = r.readArrays("", "a torch-fidelity cache has mu and sigma", weights.Open)
	case len(head) > 0 && head[0] == 0x80: // the first operation of a pickle
		r.Format = EDM2
		err = r.readArrays("fid.", "statistics of EDM2 have mu and sigma of fid", weights.OpenArrays)
	default:
		r.Format = NPZ
		err = r.readNPZ()
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// spatialTap is the tap of sFID.
const spatialTap = "sfid_2023"

// Has says whether there are statistics of all pictures by a tap of d features; the error of class data says what there is.
func (r *Reference) Has(tap string, d int) error {
	if r.Format == Statistics {
		var taps []string
		for _, s := range r.sets {
			if s.Class != nil {
				continue
			}
			if s.Tap == tap && s.Features == d {
				return nil
			}
			taps = append(taps, fmt.Sprintf("%s (%d)", s.Tap, s.Features))
		}
		return exitcode.Errorf(exitcode.Data, "%s: no statistics of tap %s (%d features), only of %s", r.Path, tap, d, strings.Join(taps, ", "))
	}
	p := r.normal
	if tap == spatialTap {
		if p = r.spatial; p == nil {
			return exitcode.Errorf(exitcode.Data, "%s: no statistics of the features of sFID (mu_s, sigma_s)", r.Path)
		}
	}
	switch {
	case p == nil && r.Features != nil && r.Features.D == d:
	case p == nil:
		return exitcode.Errorf(exitcode.Data, "%s: %d rows of %d features, the tap %s has %d", r.Path, r.Features.N, r.Features.D, tap, d)
	case p.D() != d:
		return exitcode.Errorf(exitcode.Data, "%s: statistics of %d features, the tap %s has %d", r.Path, p.D(), tap, d)
	}
	return nil
}

// Rows is the number of all pictures, 0 if it is not known.
func (r *Reference) Rows() int64 {
	for _, s := range r.sets {
		if s.Class == nil {
			return s.Rows
		}
	}
	switch {
	case r.Features != nil:
		return int64(r.Features.N)
	case r.normal != nil:
		return int64(r.normal.N)
	}
	return 0
}

// Normal is the distribution of all pictures by a tap of d features; see [Reference.Has]. Features become a distribution.
func (r *Reference) Normal(tap string, d int) (*stats.Normal, error) {
	if err := r.Has(tap, d); err != nil {
		return nil, err
	}
	switch {
	case r.Format == Statistics:
		for _, s := range r.sets {
			if s.Class == nil && s.Tap == tap && s.Features == d {
				return r.of(s)
			}
		}
	case tap == spatialTap:
		return r.spatial, nil
	case r.normal == nil:
		p, err := stats.NormalOf(*r.Features)
		if err != nil {
			return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", r.Path, err))
		}
		return p, nil
	}
	return r.normal, nil
}

// HasClasses says whether there are statistics of classes by a tap.
func (r *Reference) HasClasses(tap string) bool {
	return slices.ContainsFunc(r.sets, func(s iostats.Set) bool { return s.Class != nil && s.Tap == tap })
}

// Classes yields classes, their numbers of pictures and, from two on, their distributions by a tap, in the order of the file.
func (r *Reference) Classes(tap string, yield func(class, rows int64, p *stats.Normal) error) error {
	for _, s := range r.sets {
		if s.Class == nil || s.Tap != tap {
			continue
		}
		var p *stats.Normal
		if s.Rows >= 2 {
			var err error
			if p, err = r.of(s); err != nil {
				return err
			}
		}
		if err := yield(*s.Class, s.Rows, p); err != nil {
			return err
		}
	}
	return nil
}

// of is the distribution of a set; with its exact sums, it is that of the sums.
func (r *Reference) of(s iostats.Set) (*stats.Normal, error) {
	if s.State != nil {
		m := new(stats.Moments)
		err := m.UnmarshalBinary(s.State)
		if err == nil && (m.D() != s.Features || int64(m.N()) != s.Rows) {
			err = errors.New("state and row do not agree")
		}
		var p *stats.Normal
		if err == nil {
			p, err = m.Normal()
		}
		if err != nil {
			return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: tap %s: %w", r.Path, s.Tap, err))
		}
		return p, nil
	}
	if s.Covariance == nil {
		return nil, exitcode.Errorf(exitcode.Data, "%s: statistics of %d pictures, 2 needed", r.Path, s.Rows)
	}
	return r.distribution(int(s.Rows), s.Mean, square(s.Covariance, s.Features), []int{s.Features, s.Features})
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
		return r.distribution(0, mean, cov, shape)
	}
	if f.Has(featuresKey) && !f.Has("mu") {
		v, err := readFeatures(f, r.Path)
		r.Features = &v
		return err
	}
	if r.normal, err = read("mu", "sigma"); err != nil || !f.Has("mu_s") {
		return err
	}
	r.spatial, err = read("mu_s", "sigma_s")
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

func (r *Reference) distribution(n int, mean, cov []float64, shape []int) (*stats.Normal, error) {
	if len(shape) != 2 || shape[0] != len(mean) || shape[1] != len(mean) {
		return nil, exitcode.Errorf(exitcode.Data, "%s: covariance of shape %v for a mean of %d features", r.Path, shape, len(mean))
	}
	p, err := stats.NewNormal(n, mean, linalg.Of(shape[0], shape[1], cov))
	if err != nil {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", r.Path, err))
	}
	return p, nil
}

// readArrays reads the arrays mu and sigma, whose names begin with prefix. Others are told what the file should have.
func (r *Reference) readArrays(prefix, others string, open func(string, weights.Limits) (*weights.File, error)) error {
	f, err := open(r.Path, weights.Limits{})
	if err != nil {
		return err
	}
	defer f.Close()
	read := func(name string) ([]float64, []int, error) {
		t, ok := f.Lookup(prefix + name)
		if !ok {
			return nil, nil, exitcode.Errorf(exitcode.Data, "%s: no array %q; %s", r.Path, prefix+name, others)
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
	n := 0 // not known
	if s, ok := f.Metadata()["num_images"]; ok {
		if n, err = strconv.Atoi(s); err != nil || n < 2 {
			return exitcode.Errorf(exitcode.Data, "%s: num_images is %.20q", r.Path, s)
		}
	}
	r.normal, err = r.distribution(n, mean, cov, shape)
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
