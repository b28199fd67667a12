package inspect

import (
	"fmt"
	"io"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// PlanOptions choose what is lowered.
type PlanOptions struct {
	Config string // the model's configuration
	Model  string // a file whose keys must fit, or ""
	Size   string // of images in pixels, "" for the model's own
	Batch  int    // rows
}

// Plans are the lowered networks of a model.
type Plans struct {
	Schema   string    `json:"schema"` // ldm-batch/network-plan/v1
	Device   string    `json:"device"`
	Networks []Network `json:"networks"`
}

// Network is one lowered network.
type Network struct {
	Name       string  `json:"name"`
	Steps      int     `json:"steps"`
	GFLOP      float64 `json:"gflop"`
	ArenaBytes int64   `json:"arena_bytes"`
	NaiveBytes int64   `json:"naive_bytes"` // what the arena would be without reuse
	Table      string  `json:"table"`
}

// Plan lowers the networks of a model: encoder, U-Net and decoder, as far as it has them. No weight is read.
func Plan(o PlanOptions) (*Plans, error) {
	if o.Batch < 1 || o.Batch > 4096 {
		return nil, exitcode.Errorf(exitcode.Usage, "batch %d is not in 1..4096", o.Batch)
	}
	var size spec.Extent
	if o.Size != "" {
		var err error
		if size, err = spec.ParseExtent(o.Size); err != nil {
			return nil, exitcode.With(exitcode.Usage, err)
		}
	}
	c, err := nn.LoadConfig(o.Config)
	if err != nil {
		return nil, err
	}
	if size == (spec.Extent{}) && c.Diffusion == nil && c.FirstStage == nil {
		return nil, exitcode.Errorf(exitcode.Usage, "%s: a U-Net alone has no size of its own; give --size", o.Config)
	}
	if c.FirstStage != nil {
		if f := c.FirstStage.Factor(); size.H%f != 0 || size.W%f != 0 {
			return nil, exitcode.Errorf(exitcode.Usage, "size %s is not a multiple of %d, the factor of the first stage", size, f)
		}
	}
	if o.Model != "" {
		f, err := weights.Open(o.Model, weights.Limits{})
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if _, err := nn.Bind(c, f, nn.Options{FirstStageOnly: c.UNet == nil}); err != nil {
			return nil, err
		}
	}
	backend, err := cpu.Open(cpu.DefaultOptions())
	if err != nil {
		return nil, err
	}
	defer backend.Close()
	p := &Plans{Schema: "ldm-batch/network-plan/v1", Device: backend.Name()}
	for _, build := range graphs(nn.New(c), size, o.Batch) {
		n, err := lower(build, backend.Kernel)
		if err != nil {
			return nil, err
		}
		p.Networks = append(p.Networks, n)
	}
	return p, nil
}

// graphs lists the networks of a model for images of a size.
func graphs(m *nn.Model, size spec.Extent, n int) []func() (*nn.Graph, error) {
	c := m.Config
	factor := 1
	if c.FirstStage != nil {
		factor = c.FirstStage.Factor()
	}
	if size == (spec.Extent{}) {
		switch {
		case c.Diffusion != nil:
			size = spec.Extent{H: c.Diffusion.ImageSize * factor, W: c.Diffusion.ImageSize * factor}
		case c.FirstStage != nil:
			size = spec.Extent{H: c.FirstStage.Resolution, W: c.FirstStage.Resolution}
		}
	}
	h, w := size.H/factor, size.W/factor
	var list []func() (*nn.Graph, error)
	if m.FirstStage != nil && c.FirstStage.Kind != nn.IdentityFirstStage {
		list = append(list, func() (*nn.Graph, error) { return m.EncoderGraph(n, size.H, size.W) })
	}
	if m.UNet != nil {
		tokens := 0
		if c.UNet.UseSpatialTransformer {
			tokens = 1
		}
		if x := c.Conditioner; x != nil && x.Kind == nn.BERTEmbedder {
			tokens = x.MaxSeqLen
		}
		list = append(list, func() (*nn.Graph, error) { return m.UNetGraph(n, h, w, tokens) })
	}
	if m.FirstStage != nil && c.FirstStage.Kind != nn.IdentityFirstStage {
		list = append(list, func() (*nn.Graph, error) { return m.DecoderGraph(n, h, w, nn.Quantized) })
	}
	return list
}

func lower(build func() (*nn.Graph, error), kernel func(*plan.Step) string) (n Network, err error) {
	defer func() {
		if r := recover(); r != nil { // building a graph of an impossible size panics
			err = exitcode.Errorf(exitcode.Usage, "%v", r)
		}
	}()
	g, err := build()
	if err != nil {
		return n, err
	}
	p, err := plan.Lower(g.Program)
	if err != nil {
		return n, err
	}
	var b strings.Builder
	if err := p.Write(&b, kernel); err != nil {
		return n, err
	}
	return Network{p.Name, len(p.Steps), float64(p.FLOP) / 1e9, 4 * int64(p.ArenaElems), 4 * int64(p.NaiveElems), b.String()}, nil
}

// Write prints the tables.
func (p *Plans) Write(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "device %s\n", p.Device); err != nil {
		return err
	}
	for _, n := range p.Networks {
		if _, err := fmt.Fprintf(w, "\n%s", n.Table); err != nil {
			return err
		}
	}
	return nil
}
