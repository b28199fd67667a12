package linalg

import "fmt"

// Matrix is R x C, row major: element i, j is Data[i*Stride+j].
type Matrix struct {
	R, C, Stride int
	Data         []float64
}

// New makes a matrix of zeros.
func New(r, c int) Matrix { return Matrix{r, c, c, make([]float64, r*c)} }

// Of wraps row-major values.
func Of(r, c int, data []float64) Matrix {
	if len(data) != r*c {
		panic(fmt.Sprintf("linalg: %d values for %d x %d", len(data), r, c))
	}
	return Matrix{r, c, c, data}
}

// Row returns row i.
func (m Matrix) Row(i int) []float64 { return m.Data[i*m.Stride:][:m.C] }

// At returns element i, j.
func (m Matrix) At(i, j int) float64 { return m.Data[i*m.Stride+j] }

// Set sets element i, j.
func (m Matrix) Set(i, j int, v float64) { m.Data[i*m.Stride+j] = v }

// View is the block of r x c at row i and column j. It shares memory.
func (m Matrix) View(i, j, r, c int) Matrix {
	if i < 0 || j < 0 || r < 0 || c < 0 || i+r > m.R || j+c > m.C {
		panic(fmt.Sprintf("linalg: block %d x %d at %d, %d of %d x %d", r, c, i, j, m.R, m.C))
	}
	if r == 0 || c == 0 {
		return Matrix{r, c, c, nil}
	}
	at := i*m.Stride + j
	return Matrix{r, c, m.Stride, m.Data[at : at+(r-1)*m.Stride+c]}
}

// Clone copies a matrix into memory of its own without gaps.
func (m Matrix) Clone() Matrix {
	out := New(m.R, m.C)
	for i := range m.R {
		copy(out.Row(i), m.Row(i))
	}
	return out
}

// T returns a transposed copy.
func (m Matrix) T() Matrix {
	out := New(m.C, m.R)
	const block = 32
	for i0 := 0; i0 < m.R; i0 += block {
		for j0 := 0; j0 < m.C; j0 += block {
			for i := i0; i < min(i0+block, m.R); i++ {
				for j := j0; j < min(j0+block, m.C); j++ {
					out.Data[j*out.Stride+i] = m.Data[i*m.Stride+j]
				}
			}
		}
	}
	return out
}

// Trace is the sum of the diagonal.
func (m Matrix) Trace() float64 {
	sum := 0.0
	for i := range min(m.R, m.C) {
		sum += m.At(i, i)
	}
	return sum
}
