package tile

// moments pools the means and variances of parts of images, in float64.
type moments struct {
	weight      float64
	means, devs [][]float64 // of each norm, N x groups: means, and weighted sums of squared deviations
}

// add joins the moments of further parts, for each norm a row of means and variances for every sample; an image has the given
// number of samples, which agree.
func (m *moments) add(n, samples int, weight float64, parts [][]float32) {
	if m.means == nil {
		for _, p := range parts {
			size := len(p) / (2 * samples)
			m.means, m.devs = append(m.means, make([]float64, size)), append(m.devs, make([]float64, size))
		}
	}
	total := m.weight + weight
	for k, p := range parts {
		groups := len(m.means[k]) / n
		for i := range m.means[k] {
			at := i/groups*samples*2*groups + i%groups
			d := float64(p[at]) - m.means[k][i]
			m.means[k][i] += d * weight / total
			m.devs[k][i] += weight*float64(p[at+groups]) + d*d*m.weight*weight/total
		}
	}
	m.weight = total
}

// whole is the moments of all parts: for each norm (N, 2*groups), means first.
func (m *moments) whole(n int) [][]float32 {
	out := make([][]float32, len(m.means))
	for k, means := range m.means {
		groups := len(means) / n
		out[k] = make([]float32, 2*len(means))
		for i, v := range means {
			at := i/groups*2*groups + i%groups
			out[k][at], out[k][at+groups] = float32(v), float32(m.devs[k][i]/m.weight)
		}
	}
	return out
}
