package reference

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
	"github.com/ldm-batch/ldm-batch/eval/stats"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/npz"
	iostats "github.com/ldm-batch/ldm-batch/io/stats"
)

// SetOf makes the row of all pictures by a tap, with its exact sums.
func SetOf(tap string, m *stats.Moments) (iostats.Set, error) {
	s := iostats.Set{Tap: tap, Features: m.D(), Rows: int64(m.N())}
	var cov linalg.Matrix
	var err error
	if m.N() > 0 {
		s.Mean = m.Mean()
	}
	if m.N() > 1 {
		if cov, err = m.Covariance(); err != nil {
			return s, err
		}
		s.Covariance = packed(cov)
	}
	s.State, err = m.MarshalBinary()
	return s, err
}

// ClassOf makes the row of one class by a tap.
func ClassOf(tap string, class int64, f stats.Features) (iostats.Set, error) {
	s := iostats.Set{Tap: tap, Features: f.D, Class: &class, Rows: int64(f.N)}
	if f.N == 0 {
		return s, nil
	}
	m := stats.NewMoments(f.D)
	if err := m.Add(f); err != nil {
		return s, fmt.Errorf("class %d: %w", class, err)
	}
	s.Mean = m.Mean()
	if f.N == 1 {
		return s, nil
	}
	cov, err := m.Covariance()
	if err != nil {
		return s, fmt.Errorf("class %d: %w", class, err)
	}
	s.Covariance = packed(cov)
	return s, nil
}

// packed is the upper triangle.
func packed(m linalg.Matrix) []float64 {
	out := make([]float64, 0, m.R*(m.R+1)/2)
	for i := range m.R {
		out = append(out, m.Row(i)[i:]...)
	}
	return out
}

// WriteNPZ writes mu and sigma as pytorch-fid does, float64 and compressed, and mu_s and sigma_s of the features of sFID as the
// ADM suite has them, if spatial is not nil.
func WriteNPZ(w io.Writer, all, spatial *stats.Moments) error {
	z := npz.NewWriter(w, true)
	for _, e := range []struct {
		mu, sigma string
		m         *stats.Moments
	}{{"mu", "sigma", all}, {"mu_s", "sigma_s", spatial}} {
		if e.m == nil {
			continue
		}
		cov, err := e.m.Covariance()
		if err != nil {
			return err
		}
		if err := z.Float64s(e.mu, e.m.Mean(), e.m.D()); err != nil {
			return err
		}
		if err := z.Float64s(e.sigma, cov.Data, cov.R, cov.C); err != nil {
			return err
		}
	}
	return z.Close()
}

// featuresKey is the name that clean-fid gives to features.
const featuresKey = "feats"

func readFeatures(f *npz.File, path string) (stats.Features, error) {
	a, err := f.Array(featuresKey)
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

// WriteFeatures writes features, N x D, as clean-fid keeps them for KID.
func WriteFeatures(w io.Writer, f stats.Features) error {
	z := npz.NewWriter(w, true)
	if err := z.Float32s(featuresKey, f.Data, f.N, f.D); err != nil {
		return err
	}
	return z.Close()
}

// WriteTorch writes a cache as torch-fidelity keeps it: a torch archive of a pickled dictionary of numpy arrays, mu in single and
// sigma in double precision.
func WriteTorch(w io.Writer, m *stats.Moments) error {
	cov, err := m.Covariance()
	if err != nil {
		return err
	}
	var mu, sigma []byte
	for _, v := range m.Mean() {
		mu = binary.LittleEndian.AppendUint32(mu, math.Float32bits(float32(v)))
	}
	for _, v := range cov.Data {
		sigma = binary.LittleEndian.AppendUint64(sigma, math.Float64bits(v))
	}
	var p bytes.Buffer
	p.WriteString("\x80\x02}(")
	text(&p, "mu")
	array(&p, "f4", mu, m.D())
	text(&p, "sigma")
	array(&p, "f8", sigma, m.D(), m.D())
	p.WriteString("u.")
	z := zip.NewWriter(w)
	for _, e := range []struct {
		name string
		data []byte
	}{{"data.pkl", p.Bytes()}, {"byteorder", []byte("little")}, {"version", []byte("3\n")}} {
		f, err := z.CreateHeader(&zip.FileHeader{Name: "archive/" + e.name, Method: zip.Store})
		if err != nil {
			return err
		}
		if _, err := f.Write(e.data); err != nil {
			return err
		}
	}
	return z.Close()
}

// text writes a string.
func text(p *bytes.Buffer, s string) {
	p.WriteByte('X')
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	p.WriteString(s)
}

// array writes the call that makes a numpy array: _reconstruct(ndarray, (0,), b"b"), whose state is (1, shape, dtype, False, data).
// Strings of bytes of this version of pickles are encode(string, "latin1").
func array(p *bytes.Buffer, dtype string, data []byte, shape ...int) {
	number := func(n int) {
		p.WriteByte('J')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	}
	encoded := func(b []byte) {
		p.WriteString("c_codecs\nencode\n")
		s := make([]byte, 0, 2*len(b))
		for _, c := range b {
			s = utf8.AppendRune(s, rune(c))
		}
		text(p, string(s))
		text(p, "latin1")
		p.WriteString("\x86R")
	}
	p.WriteString("cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85")
	encoded([]byte("b"))
	p.WriteString("\x87R(K\x01(")
	for _, n := range shape {
		number(n)
	}
	p.WriteString("tcnumpy\ndtype\n")
	text(p, dtype)
	p.WriteString("\x89\x88\x87R(K\x03")
	text(p, "<")
	p.WriteString("NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
	encoded(data)
	p.WriteString("tb")
}
