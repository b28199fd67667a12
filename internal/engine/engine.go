// Package engine runs the networks of a model on a device, and trains them there.
//
// Concept: a [Session] is a model on a backend; it lowers and compiles a graph the first time a size is asked for and keeps
// the last few sizes. All sizes share packed weights. A [Training] does the same with objectives, whose graphs hold the gradients
// by [Params]: parameters in one arena, beside arenas of gradients, moments and running averages.
//
// Data flow: named inputs in, outputs out, each row-major in the shapes of package nn (images NCHW). Outputs are reused: they
// are valid until the next run of the same network. A [Step] adds gradients to those of the parameters, [Params.Update] changes the
// parameters, and what is packed of them follows at the next run.
//
// Ownership: a Session owns its compiled networks and packed weights until Close; the model and the backend stay the
// caller's. So do the parameters of a Training. None of them is safe for concurrent use.
//
// Errors: those of graph building, lowering and weights, with the network's name. Values that are not finite are errors of class
// internal that name the tensor.
package engine

import (
	"fmt"
	"math"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// kept is how many compiled networks and sizes a session keeps; each holds an arena. A batch takes up to seven: conditioner,
// encoder, two forms of guidance of which each is a whole and a shallow U-Net, and decoder.
const kept = 8

// Session is a model on a backend.
type Session struct {
	Model *nn.Model // nil for a network that is no latent diffusion model

	device   plan.Model
	networks map[string]*Network
	recent   []string // keys, most recent last
	seconds  map[string]float64
}

// New starts a session.
func New(m *nn.Model, b plan.Backend) *Session {
	s := NewWeights(m, b)
	s.Model = m
	return s
}

// NewWeights starts a session of any weights, for graphs that are given to [Session.Network].
func NewWeights(w plan.WeightSource, b plan.Backend) *Session {
	return &Session{device: b.NewModel(w), networks: map[string]*Network{}, seconds: map[string]float64{}}
}

// Close frees compiled networks and packed weights.
func (s *Session) Close() {
	for _, n := range s.networks {
		n.exec.Close()
	}
	s.networks, s.recent = nil, nil
	s.device.Close()
}

// Seconds is the time spent running, by the name of the network.
func (s *Session) Seconds() map[string]float64 { return s.seconds }

// WeightBytes is the memory that packed weights take.
func (s *Session) WeightBytes() int64 { return s.device.Bytes() }

// Network is a compiled graph.
type Network struct {
	Plan    *plan.Plan
	graph   *nn.Graph
	exec    plan.Executable
	session *Session
	in, out [][]float32
}

// Network returns the compiled graph of a key, building it the first time. The key must name everything that the graph
// depends on.
func (s *Session) Network(key string, build func() (*nn.Graph, error)) (*Network, error) {
	if n, ok := s.networks[key]; ok {
		s.touch(key)
		return n, nil
	}
	g, err := build()
	if err != nil {
		return nil, err
	}
	p, err := plan.Lower(g.Program)
	if err != nil {
		return nil, err
	}
	for len(s.recent) >= kept {
		old := s.recent[0]
		s.networks[old].exec.Close()
		delete(s.networks, old)
		s.recent = s.recent[1:]
	}
	x, err := s.device.Compile(p)
	if err != nil {
		return nil, err
	}
	n := &Network{Plan: p, graph: g, exec: x, session: s}
	for _, v := range p.Outputs {
		n.out = append(n.out, make([]float32, v.Elems()))
	}
	s.networks[key] = n
	s.touch(key)
	return n, nil
}

func (s *Session) touch(key string) {
	for i, k := range s.recent {
		if k == key {
			s.recent = append(s.recent[:i], s.recent[i+1:]...)
			break
		}
	}
	s.recent = append(s.recent, key)
}

// Encoder compiles [nn.Model.EncoderGraph].
func (s *Session) Encoder(n, h, w int) (*Network, error) {
	return s.Network(fmt.Sprint("encoder ", n, h, w), func() (*nn.Graph, error) { return s.Model.EncoderGraph(n, h, w) })
}

// Decoder compiles [nn.Model.DecoderGraph].
func (s *Session) Decoder(n, h, w int, q nn.Quantization) (*Network, error) {
	return s.Network(fmt.Sprint("decoder ", n, h, w, q), func() (*nn.Graph, error) { return s.Model.DecoderGraph(n, h, w, q) })
}

// UNet compiles [nn.Model.UNetGraph].
func (s *Session) UNet(n, h, w, contextTokens int) (*Network, error) {
	return s.Network(fmt.Sprint("unet ", n, h, w, contextTokens), func() (*nn.Graph, error) { return s.Model.UNetGraph(n, h, w, contextTokens) })
}

// UNetFull compiles [nn.Model.UNetBranchGraph].
func (s *Session) UNetFull(n, h, w, contextTokens, branch int) (*Network, error) {
	return s.Network(fmt.Sprint("unet.full ", n, h, w, contextTokens, branch), func() (*nn.Graph, error) {
		return s.Model.UNetBranchGraph(n, h, w, contextTokens, branch)
	})
}

// UNetShallow compiles [nn.Model.UNetShallowGraph].
func (s *Session) UNetShallow(n, h, w, contextTokens, branch int) (*Network, error) {
	return s.Network(fmt.Sprint("unet.shallow ", n, h, w, contextTokens, branch), func() (*nn.Graph, error) {
		return s.Model.UNetShallowGraph(n, h, w, contextTokens, branch)
	})
}

// Conditioner compiles [nn.Model.ConditionerGraph].
func (s *Session) Conditioner(n, h, w int) (*Network, error) {
	return s.Network(fmt.Sprint("conditioner ", n, h, w), func() (*nn.Graph, error) { return s.Model.ConditionerGraph(n, h, w) })
}

// Quantizer compiles [nn.Model.QuantizeGraph].
func (s *Session) Quantizer(n, h, w int) (*Network, error) {
	return s.Network(fmt.Sprint("quantize ", n, h, w), func() (*nn.Graph, error) { return s.Model.QuantizeGraph(n, h, w) })
}

// Codes compiles [nn.Model.CodesGraph].
func (s *Session) Codes(n, h, w int) (*Network, error) {
	return s.Network(fmt.Sprint("codes ", n, h, w), func() (*nn.Graph, error) { return s.Model.CodesGraph(n, h, w) })
}

// Run computes the outputs of named inputs. The result is valid until the next run of this network.
func (n *Network) Run(in map[string][]float32) ([][]float32, error) {
	n.in = n.in[:0]
	for _, v := range n.Plan.Inputs {
		x, ok := in[v.Name]
		if !ok {
			return nil, fmt.Errorf("%s: input %s is missing", n.Plan.Name, v.Name)
		}
		n.in = append(n.in, x)
	}
	start := time.Now()
	err := n.exec.Run(n.in, n.out)
	n.session.seconds[n.Plan.Name] += time.Since(start).Seconds()
	if err != nil {
		return nil, err
	}
	return n.out, nil
}

// Shape returns the shape of an output.
func (n *Network) Shape(output int) []int { return n.Plan.Outputs[output].Shape }

// Finite checks that no value is NaN or infinite; what names the tensor in the error, of class internal.
func Finite(what string, x []float32) error {
	for i, v := range x {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return exitcode.Errorf(exitcode.Internal, "%s: value %d of %d is %v", what, i, len(x), v)
		}
	}
	return nil
}
