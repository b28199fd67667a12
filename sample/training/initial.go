package training

import (
	"math"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/sample"
)

// Initial are the weights that a training from scratch begins with: each a function of the seed and its name. They follow the
// distributions of the reference: convolutions and linear layers are uniform within 1/sqrt(fan-in), the last layer of every
// residual and attention block and of the U-Net is zero, embeddings are standard normal, those of the text encoder narrower.
func Initial(list []ir.Param, seed uint64) ([]*weights.Tensor, error) {
	shapes := map[string][]int{}
	for _, p := range list {
		shapes[p.Name] = p.Shape
	}
	var out []*weights.Tensor
	for _, p := range list {
		values := make([]float32, volume(p.Shape))
		prefix, last := "", p.Name
		if i := strings.LastIndexByte(p.Name, '.'); i >= 0 {
			prefix, last = p.Name[:i+1], p.Name[i+1:]
		}
		weight := shapes[prefix+"weight"]
		switch {
		case zeroed(p.Name):
		case strings.Contains(p.Name, "token_emb.") || strings.Contains(p.Name, "pos_emb."):
			normal(values, seed, p.Name, 0.02)
		case strings.HasSuffix(prefix, "embedding.") || strings.HasSuffix(prefix, "label_emb."):
			normal(values, seed, p.Name, 1)
		case len(weight) == 1 && last == "weight": // of a normalisation
			for i := range values {
				values[i] = 1
			}
		case len(weight) > 1:
			uniform(values, seed, p.Name, 1/math.Sqrt(float64(volume(weight[1:]))))
		}
		t, err := tensor.FromFloat32(p.Name, p.Shape, values)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// zeroed says whether a parameter of the U-Net begins at zero.
func zeroed(name string) bool {
	name, ok := strings.CutPrefix(name, nn.UNetPrefix)
	return ok && (strings.Contains(name, ".out_layers.3.") || strings.Contains(name, ".proj_out.") || strings.HasPrefix(name, "out.2."))
}

func normal(dst []float32, seed uint64, name string, std float32) {
	sample.Normal(seed, name, sample.StreamInitial, dst)
	for i := range dst {
		dst[i] *= std
	}
}

func uniform(dst []float32, seed uint64, name string, bound float64) {
	next := sample.Uint64(seed, name, sample.StreamInitial)
	for i := range dst {
		dst[i] = float32((2*float64(next()>>11)/(1<<53) - 1) * bound)
	}
}

func volume(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
