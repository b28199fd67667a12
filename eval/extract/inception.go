package extract

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/inception"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Taps of the Inception-v3 that scores are made of.
const (
	Pool     = string(inception.Pool3)    // FID, KID, precision and recall
	Unbiased = string(inception.Unbiased) // inception score
	Spatial  = string(inception.Spatial)  // sFID
)

// InceptionName is the name of the network.
const InceptionName = "inception-v3-fid"

// published are the files in which networks are known to be distributed, by SHA-256.
var published = map[string]string{
	"6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2": "the state dict of pytorch-fid and torch-fidelity",
	"f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4": "the TorchScript archive of StyleGAN and clean-fid",
	"397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0": "torchvision's VGG16 of ImageNet, IMAGENET1K_V1",
}

// Inception is the network of FID.
type Inception struct {
	protocol eval.Protocol
	model    *inception.Model
	session  *engine.Session
	double   *nn.Double // in its place, if features are computed in double precision
	taps     []Tap
	identity Identity
}

// OpenInception opens a file of weights; see [inception.Open] for the formats. taps are names of [inception.Taps].
func OpenInception(path string, p eval.Protocol, b plan.Backend, taps []string) (*Inception, error) {
	m, err := inception.Open(path)
	if err != nil {
		return nil, err
	}
	x, err := NewInception(m, p, b, taps)
	if err != nil {
		m.Close()
		return nil, err
	}
	return x, nil
}

// NewInception is [OpenInception] for weights that are open; they are closed with the network.
func NewInception(m *inception.Model, p eval.Protocol, b plan.Backend, taps []string) (*Inception, error) {
	if len(taps) == 0 {
		return nil, fmt.Errorf("extractor %s: no tap is asked for", InceptionName)
	}
	x := &Inception{protocol: p, model: m, identity: Identity{
		Name: InceptionName, SHA256: m.SHA256, Path: m.Path, Known: published[m.SHA256], Resize: string(p.Resize), Protocol: p.Name, FID: true,
		Words: fmt.Sprintf("Inception-v3 of 2015 with %d logits, taps %v", inception.Classes, taps),
	}}
	list := make([]inception.Tap, len(taps))
	for i, t := range taps {
		list[i] = inception.Tap(t)
	}
	g, err := x.graph(1, list)()
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, err)
	}
	for i, node := range g.Program.Outputs {
		d := 1
		for _, n := range g.Program.Nodes[node].Shape[1:] {
			d *= n
		}
		x.taps = append(x.taps, Tap{taps[i], d})
	}
	x.session = engine.NewWeights(m, b)
	return x, nil
}

func (x *Inception) graph(n int, taps []inception.Tap) func() (*nn.Graph, error) {
	return func() (*nn.Graph, error) { return inception.Graph(n, taps...) }
}

// UseDouble implements [Auditable].
func (x *Inception) UseDouble() error {
	g, err := x.graph(1, x.list())()
	if err != nil {
		return err
	}
	x.double, err = nn.NewDouble(g, func(name string, _ int) ([]float64, error) { return x.model.Values(name) })
	return err
}

// list are the names of the taps.
func (x *Inception) list() []inception.Tap {
	var list []inception.Tap
	for _, t := range x.taps {
		list = append(list, inception.Tap(t.Name))
	}
	return list
}

// Identity implements [Network].
func (x *Inception) Identity() Identity { return x.identity }

// Taps implements [Network].
func (x *Inception) Taps() []Tap { return x.taps }

// NewPreparer implements [Network].
func (x *Inception) NewPreparer() (Preparer, error) { return eval.NewPreparer(x.protocol) }

// Inputs implements [Network].
func (x *Inception) Inputs() int { return 3 * eval.Side * eval.Side }

// Features implements [Network].
func (x *Inception) Features(inputs []float32, n int) ([][]float32, error) {
	if err := checkInputs(x, inputs, n); err != nil {
		return nil, err
	}
	if x.double != nil {
		return runDouble(x.double, inputs, n, x.taps)
	}
	return run(x.session, "inception", n, inputs, x.taps, x.graph(n, x.list()))
}

// Close implements [Network].
func (x *Inception) Close() {
	x.session.Close()
	x.model.Close()
}
