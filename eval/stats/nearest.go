package stats

import "math"

// Nearest finds for every row of a the nearest row of b and the distance to it; of several at one distance the first.
func Nearest(a, b Features) (rows []int, distances []float64, err error) {
	if err := checkPair(a, b, 1); err != nil {
		return nil, nil, err
	}
	rows, distances = make([]int, a.N), make([]float64, a.N)
	for i := range distances {
		distances[i] = math.Inf(1)
	}
	pairs(a, b, func(i, j0 int, dots []float64, xx float64, yy []float64) {
		for j, v := range dots {
			if d := squared(xx, yy[j], v); d < distances[i] {
				rows[i], distances[i] = j0+j, d
			}
		}
	})
	for i, d := range distances {
		distances[i] = math.Sqrt(d)
	}
	return rows, distances, nil
}

// Copies says of every generated row whether it is nearer to its nearest real row than that one is to any other real row:
// whether it is not authentic (Alaa et al. 2022). rows and distances are those of [Nearest].
func Copies(real Features, rows []int, distances []float64) ([]bool, error) {
	if err := real.check(2); err != nil {
		return nil, err
	}
	own := radii(real, 1)
	out := make([]bool, len(rows))
	for i, r := range rows {
		out[i] = distances[i] < math.Sqrt(own[r])
	}
	return out, nil
}
