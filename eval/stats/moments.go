package stats

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
)

// Moments are the exact sums of features and of their products over a set of rows. Sums over parts of a set, made in any
// order and merged in any order, are equal bit for bit. It is for one goroutine.
type Moments struct {
	d, n     int
	sum      []sum192 // of x * 2^60
	products []uint64 // of x y * 2^120; three words each, upper triangle row by row
	pending  []float32
}

const (
	fraction = 60 // bits behind the point
	limit    = 1 << 16
	digit    = 22
	digits   = 4       // of 22 bits each
	rows     = 128     // of a block
	most     = 1 << 36 // rows of a set; sums stay below 2^188
	tile     = 256
)

// NewMoments is the state of no row of d features. It takes 12 d^2 bytes.
func NewMoments(d int) *Moments {
	return &Moments{d: d, sum: make([]sum192, d), products: make([]uint64, 3*d*(d+1)/2)}
}

// D is the number of features.
func (m *Moments) D() int { return m.d }

// N is the number of rows.
func (m *Moments) N() int { return m.n + len(m.pending)/max(1, m.d) }

// Add takes rows up. An error leaves the state as it was.
func (m *Moments) Add(f Features) error {
	if f.D != m.d {
		return fmt.Errorf("rows of %d features added to moments of %d", f.D, m.d)
	}
	if err := f.check(0); err != nil {
		return err
	}
	if m.N()+f.N > most {
		return fmt.Errorf("more than %d rows", int64(most))
	}
	for i, v := range f.Data {
		if v >= limit || v <= -limit {
			return fmt.Errorf("row %d, feature %d is %v, beyond %d", i/f.D, i%f.D, v, limit)
		}
	}
	for data := f.Data; len(data) > 0; {
		n := min(len(data), rows*m.d-len(m.pending))
		m.pending = append(m.pending, data[:n]...)
		data = data[n:]
		if len(m.pending) == rows*m.d {
			m.flush()
		}
	}
	return nil
}

// Merge adds the rows of o, which is not changed but for bringing its sums up to date.
func (m *Moments) Merge(o *Moments) error {
	if o.d != m.d {
		return fmt.Errorf("moments of %d features merged into those of %d", o.d, m.d)
	}
	if m.N()+o.N() > most {
		return fmt.Errorf("more than %d rows", int64(most))
	}
	m.flush()
	o.flush()
	m.n += o.n
	for i := range m.sum {
		m.sum[i].plus(o.sum[i])
	}
	for i := 0; i < len(m.products); i += 3 {
		(*sum192)(m.products[i:]).plus(sum192(o.products[i:]))
	}
	return nil
}

// at is the place of the product of features i and i.
func (m *Moments) at(i int) int { return 3 * (i*m.d - i*(i-1)/2) }

// flush adds the pending rows to the sums.
func (m *Moments) flush() {
	d, n := m.d, len(m.pending)/max(1, m.d)
	if n == 0 {
		return
	}
	// Digits q0 2^66 + q1 2^44 + q2 2^22 + q3 of x * 2^60, and which of them a tile of features has at all.
	var q [digits]linalg.Matrix
	for k := range q {
		q[k] = linalg.New(n, d)
	}
	tiles := (d + tile - 1) / tile
	used := make([][digits]bool, tiles)
	for i := range n {
		for j, v := range m.pending[i*d:][:d] {
			x := math.RoundToEven(float64(v) * (1 << fraction))
			u := &used[j/tile]
			unit := float64(1<<(digit*(digits-2))) * (1 << digit)
			for k := range q {
				a := math.RoundToEven(x / unit)
				if a != 0 {
					q[k].Data[i*d+j] = a
					u[k] = true
				}
				x -= a * unit
				unit /= 1 << digit
			}
		}
	}
	m.n += n
	m.pending = m.pending[:0]
	for j := range d {
		for k := range q {
			s := 0.0
			for i := range n {
				s += q[k].Data[i*d+j]
			}
			m.sum[j].add(int64(s), uint(digit*(digits-1-k)))
		}
	}
	// Tiles of the upper triangle; the products of digits k and l count 2^(22 (6-k-l)).
	parallel(tiles*(tiles+1)/2, func(t int) {
		ti := 0
		for ; t >= tiles-ti; ti++ {
			t -= tiles - ti
		}
		tj := ti + t
		i0, j0 := ti*tile, tj*tile
		h, w := min(tile, d-i0), min(tile, d-j0)
		acc := linalg.New(h, w)
		for order := 0; order <= 2*(digits-1); order++ {
			clear(acc.Data)
			some := false
			for k := range q {
				l := order - k
				if l < 0 || l >= digits || !used[ti][k] || !used[tj][l] {
					continue
				}
				some = true
				linalg.AddProduct(acc, 1, q[k].View(0, i0, n, h), linalg.Transposed, q[l].View(0, j0, n, w), linalg.Plain)
			}
			if !some {
				continue
			}
			shift := uint(digit * (2*(digits-1) - order))
			for i := range h {
				from := max(0, i0+i-j0)
				p := m.products[m.at(i0+i)+3*(j0+from-i0-i):]
				for j, v := range acc.Row(i)[from:] {
					(*sum192)(p[3*j:]).add(int64(v), shift)
				}
			}
		}
	})
}

// Mean is the mean of every feature.
func (m *Moments) Mean() []float64 {
	m.flush()
	mu := make([]float64, m.d)
	for i, s := range m.sum {
		mu[i] = s.float(-fraction) / float64(m.n)
	}
	return mu
}

// Covariance is the covariance matrix with divisor N-1.
func (m *Moments) Covariance() (linalg.Matrix, error) {
	m.flush()
	if m.n < 2 {
		return linalg.Matrix{}, fmt.Errorf("%d rows of features, 2 needed", m.n)
	}
	s := linalg.New(m.d, m.d)
	scale := float64(m.n) * float64(m.n-1)
	parallel(m.d, func(i int) {
		p := m.products[m.at(i):]
		for j := i; j < m.d; j++ {
			s.Set(i, j, centered(uint64(m.n), sum192(p[3*(j-i):]), m.sum[i], m.sum[j], -2*fraction)/scale)
		}
	})
	for i := range m.d {
		for j := range i {
			s.Set(i, j, s.At(j, i))
		}
	}
	return s, nil
}

// Normal is the normal distribution of the rows.
func (m *Moments) Normal() (*Normal, error) {
	s, err := m.Covariance()
	if err != nil {
		return nil, err
	}
	return NewNormal(m.n, m.Mean(), s)
}

// MarshalBinary returns the state: number of rows, number of features, sums, products, in little-endian words of 64 bits.
func (m *Moments) MarshalBinary() ([]byte, error) {
	m.flush()
	le := binary.LittleEndian
	b := make([]byte, 0, 16+24*len(m.sum)+8*len(m.products))
	b = le.AppendUint64(le.AppendUint64(b, uint64(m.n)), uint64(m.d))
	for _, s := range m.sum {
		for _, w := range s {
			b = le.AppendUint64(b, w)
		}
	}
	for _, w := range m.products {
		b = le.AppendUint64(b, w)
	}
	return b, nil
}

// UnmarshalBinary is the inverse of [Moments.MarshalBinary].
func (m *Moments) UnmarshalBinary(b []byte) error {
	le := binary.LittleEndian
	if len(b) < 16 {
		return errors.New("state of moments is cut off")
	}
	n, d := le.Uint64(b), le.Uint64(b[8:])
	if n > most || d > 1<<20 || uint64(len(b)) != 16+24*d+12*d*(d+1) {
		return fmt.Errorf("state of moments has %d bytes for %d rows of %d features", len(b), n, d)
	}
	*m = *NewMoments(int(d))
	m.n = int(n)
	b = b[16:]
	for i := range m.sum {
		for k := range m.sum[i] {
			m.sum[i][k] = le.Uint64(b)
			b = b[8:]
		}
	}
	for i := range m.products {
		m.products[i] = le.Uint64(b[8*i:])
	}
	return nil
}
