package linalg

import "math"

// Factor returns F (n x r) with F F' = s up to rounding, for a symmetric positive semidefinite s of rank r: the number of
// pivots above n * 2^-52 of the largest diagonal element. Rows pivots[0], pivots[1] ... of F are lower triangular; these are
// rows 0, 1 ... where s has full rank and is not close to losing it.
func Factor(s Matrix) (f Matrix, pivots []int) {
	n := s.R
	top := 0.0
	for i := range n {
		top = max(top, s.At(i, i))
	}
	floor := float64(n) * 2 * epsilon * top
	// Without pivoting the rounding of a singular matrix can grow to many times the floor; small pivots are left to the other.
	if l := s.Clone(); n > 0 && top > 0 && cholesky(l, 1024*floor) {
		for i := range n {
			pivots = append(pivots, i)
		}
		return l, pivots
	}
	return pivoted(s.Clone(), floor)
}

// cholesky overwrites s by its lower triangular factor, from the lower triangle, zeros above it. It stops and returns false
// at a pivot that is not above the floor.
func cholesky(s Matrix, floor float64) bool {
	const block, wide = 64, 256
	n := s.R
	for k := 0; k < n; k += block {
		b := min(block, n-k)
		for j := k; j < k+b; j++ {
			row := s.Row(j)
			v := row[j]
			for _, x := range row[k:j] {
				v -= x * x
			}
			if !(v > floor) {
				return false
			}
			v = math.Sqrt(v)
			row[j] = v
			clear(row[j+1:])
			// Column j of the rows below.
			a := row[k:j]
			for i := j + 1; i < n; i++ {
				r := s.Row(i)
				sum := r[j]
				for t, x := range r[k:j] {
					sum -= x * a[t]
				}
				r[j] = sum / v
			}
		}
		for j := k + b; j < n; j += wide {
			w := min(wide, n-j)
			AddProduct(s.View(j, j, n-j, w), -1, s.View(j, k, n-j, b), Plain, s.View(j, k, w, b), Transposed)
		}
	}
	return true
}

// pivoted is the factor by the largest pivot first; s is overwritten. Rows of the trailing matrix stay where they are.
func pivoted(s Matrix, floor float64) (f Matrix, pivots []int) {
	n := s.R
	diagonal := make([]float64, n)
	done := make([]bool, n)
	for i := range diagonal {
		diagonal[i] = s.At(i, i)
	}
	var columns []Matrix // blocks of rows; row k is column k of the factor
	for end := false; !end; {
		block := New(panel, n)
		k := 0
		for ; k < panel; k++ {
			p := -1
			for i, v := range diagonal {
				if !done[i] && v > floor && (p < 0 || v > diagonal[p]) {
					p = i
				}
			}
			if end = p < 0; end {
				break
			}
			col := block.Row(k)
			copy(col, s.Row(p))
			for t := range k {
				x := block.At(t, p)
				for j, v := range block.Row(t) {
					col[j] -= x * v
				}
			}
			v := math.Sqrt(diagonal[p])
			for j := range col {
				if done[j] {
					col[j] = 0
					continue
				}
				col[j] /= v
				diagonal[j] -= col[j] * col[j]
			}
			col[p] = v
			done[p] = true
			pivots = append(pivots, p)
		}
		block = block.View(0, 0, k, n)
		columns = append(columns, block)
		if !end {
			AddProduct(s, -1, block, Transposed, block, Plain)
		}
	}
	f = New(n, len(pivots))
	at := 0
	for _, b := range columns {
		for k := range b.R {
			for i, v := range b.Row(k) {
				f.Set(i, at, v)
			}
			at++
		}
	}
	return f, pivots
}
