package extract

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Perceptual is the perceptual distance LPIPS of pairs of pictures, on VGG16.
type Perceptual struct {
	// Least is the least height and width of pictures.
	Least int

	model   *lpips.Model
	session *engine.Session
}

// OpenPerceptual opens files of weights; see [lpips.Open] for what they hold.
func OpenPerceptual(paths []string, b plan.Backend) (*Perceptual, error) {
	m, err := lpips.Open(paths...)
	if err != nil {
		return nil, err
	}
	return &Perceptual{Least: lpips.MinSize, model: m, session: engine.NewWeights(m, b)}, nil
}

// Words says which files the weights are from.
func (p *Perceptual) Words() string {
	var list []string
	for _, f := range p.model.Files {
		list = append(list, fmt.Sprintf("%s, sha256 %s", filepath.Base(f.Path), f.SHA256))
	}
	return strings.Join(list, "; ")
}

// Distances compares n pairs of images, n x 3 x h x w in [-1, 1] each.
func (p *Perceptual) Distances(a, b []float32, n, h, w int) ([]float64, error) {
	if len(a) != 3*n*h*w || len(b) != len(a) {
		return nil, fmt.Errorf("%d and %d values for %d images of %d x %d", len(a), len(b), n, h, w)
	}
	net, err := p.session.Network(fmt.Sprint("lpips ", n, h, w), func() (*nn.Graph, error) { return lpips.Graph(n, h, w) })
	if err != nil {
		return nil, err
	}
	y, err := net.Run(map[string][]float32{"a": a, "b": b})
	if err != nil {
		return nil, err
	}
	if err := engine.Finite("perceptual distance", y[0]); err != nil {
		return nil, err
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(y[0][i])
	}
	return out, nil
}

// Close frees the network.
func (p *Perceptual) Close() {
	p.session.Close()
	p.model.Close()
}
