package jobs

import (
	"fmt"
	"sync"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// needs computes the memory that networks take for a size, before anything of it is run.
type needs struct {
	model  *nn.Model
	gen    *sample.Generator
	guided bool
	limit  int64

	mu    sync.Mutex
	known map[[2]int]int64 // bytes for one row of a size
}

// most is how many rows of h x w pixels can be in one batch; an error if not even one fits.
func (n *needs) most(h, w int) (int, error) {
	bytes, err := n.row(h, w)
	if err != nil {
		return 0, err
	}
	if bytes > n.limit {
		return 0, exitcode.Errorf(exitcode.Data, "%dx%d pixels (height x width) need %s of memory, more than limits.memory, %s",
			h, w, spec.Size(bytes), spec.Size(n.limit))
	}
	return int(n.limit / max(bytes, 1)), nil
}

// row is the memory for one row: the larger arena of U-Net and decoder, and what goes in and out.
func (n *needs) row(h, w int) (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b, ok := n.known[[2]int{h, w}]; ok {
		return b, nil
	}
	double, tokens := 1, 0
	if n.guided {
		double = 2
	}
	if n.model.UNet.Config.UseSpatialTransformer {
		tokens = 1
	}
	_, lh, lw := n.gen.LatentShape(h, w)
	most := int64(0)
	for _, build := range []func() (*nn.Graph, error){
		func() (*nn.Graph, error) { return n.model.UNetGraph(double, lh, lw, tokens) },
		func() (*nn.Graph, error) { return n.model.DecoderGraph(1, lh, lw, nn.Quantized) },
	} {
		g, err := build()
		if err != nil {
			return 0, fmt.Errorf("memory of %dx%d pixels: %w", h, w, err)
		}
		p, err := plan.Lower(g.Program)
		if err != nil {
			return 0, fmt.Errorf("memory of %dx%d pixels: %w", h, w, err)
		}
		most = max(most, 4*int64(p.ArenaElems))
	}
	if n.known == nil {
		n.known = map[[2]int]int64{}
	}
	b := most + 2*3*4*int64(h)*int64(w)
	n.known[[2]int{h, w}] = b
	return b, nil
}
