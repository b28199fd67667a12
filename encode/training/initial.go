package training

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
)

// Initialize begins with random weights that follow from the seed, each from its name, with the distributions of the reference:
// convolutions are uniform within 1/sqrt(fan-in), those of the discriminator are normal with a deviation of 0.02 but for their
// biases, its normalisations are normal around 1, and the codebook is uniform within 1/n.
func (t *Trainer) Initialize(seed uint64) {
	shapes := map[string][]int{}
	for _, p := range t.params.List() {
		shapes[p.Name] = p.Shape
	}
	for _, p := range t.params.List() {
		h := fnv.New64a()
		h.Write([]byte(p.Name))
		r := rand.New(rand.NewPCG(seed, h.Sum64()))
		values := t.params.Data(p.Name)
		uniform := func(bound float64) {
			for i := range values {
				values[i] = float32((2*r.Float64() - 1) * bound)
			}
		}
		normal := func(mean, deviation float64) {
			for i := range values {
				values[i] = float32(mean + deviation*r.NormFloat64())
			}
		}
		prefix, last := p.Name[:strings.LastIndexByte(p.Name, '.')+1], p.Name[strings.LastIndexByte(p.Name, '.')+1:]
		weight := shapes[prefix+"weight"]
		adversary := strings.HasPrefix(p.Name, discriminatorPrefix)
		switch {
		case p.Name == logVarKey:
			values[0] = float32(t.net.loss.LogVar)
		case last == "scale":
			fill(values, 1)
		case last == "loc":
			fill(values, 0)
		case prefix == "quantize.embedding.":
			uniform(1 / float64(p.Shape[0]))
		case len(weight) == 1 && last == "bias": // of a normalisation
			fill(values, 0)
		case len(weight) == 1 && adversary:
			normal(1, 0.02)
		case len(weight) == 1:
			fill(values, 1)
		case adversary && last == "weight":
			normal(0, 0.02)
		default:
			uniform(1 / math.Sqrt(float64(weight[1]*weight[2]*weight[3])))
		}
	}
	for i := range t.norms {
		n := &t.norms[i]
		fill(n.mean, 0)
		fill(n.variance, 1)
		n.counter = 0
	}
	t.params.Changed()
}

// SetPosterior sets the log-variance that the posterior of a KL autoencoder begins with. The reference begins near 0, with noise that
// drowns the small means of random weights; a run of few steps learns more from less of it, such as -6. It has no meaning for VQ.
func (t *Trainer) SetPosterior(logVar float64) {
	b := t.params.Data("quant_conv.bias") // means, then log-variances
	fill(b[len(b)/2:], float32(logVar))
	t.params.Changed("quant_conv.bias")
}

func fill(dst []float32, v float32) {
	for i := range dst {
		dst[i] = v
	}
}
