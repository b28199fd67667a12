package inception

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// Classes is the number of logits: those of ImageNet and some that training never used.
const Classes = 1008

// bnEps is added to the variance of every normalisation.
const bnEps = 1e-3

// weightKey and biasKey are the entries of a layer that the graph takes the folded weight and bias by.
const (
	weightKey = ".conv.weight"
	biasKey   = ".bn.bias"
)

// normKeys are the entries of a layer's normalisation, in the order of the state dict.
var normKeys = []string{".bn.weight", biasKey, ".bn.running_mean", ".bn.running_var"}

const counterKey = ".bn.num_batches_tracked"

// Keys lists the state dict in the order in which it is saved, counters included.
func Keys() []ir.Param {
	var keys []ir.Param
	for _, p := range params() {
		base, ok := strings.CutSuffix(p.Name, weightKey)
		switch {
		case ok:
			keys = append(keys, p)
			for _, k := range normKeys {
				keys = append(keys, ir.Param{Name: base + k, Shape: p.Shape[:1]})
			}
			keys = append(keys, ir.Param{Name: base + counterKey, Shape: []int{}})
		case !strings.HasSuffix(p.Name, biasKey):
			keys = append(keys, p)
		}
	}
	return keys
}

// params lists the parameters of the graph.
func params() []ir.Param {
	g := ir.New("inception")
	if err := ir.Build(func() { apply(g.Input("image", 1, 3, Size, Size), func(string, *ir.Tensor) {}) }); err != nil {
		panic(err) // the network has no parameters that could be wrong
	}
	return g.Params()
}

// Model is the weights of a model file, as the graph wants them. It implements plan.WeightSource.
type Model struct {
	// SHA256 is the digest of the file in hexadecimal, and Path its name; both are empty unless it came from [Open].
	SHA256, Path string

	file    *weights.File
	tensors weights.Map
	graph   graphDef // instead of tensors, for a TensorFlow graph
}

// published matches names that end in the first digits of the file's digest, as published checkpoints are named.
var published = regexp.MustCompile(`-([0-9a-f]{8})\.[a-z]+$`)

// Open opens the weights in a file: a PyTorch checkpoint, TorchScript archive or safetensors with the state dict, the TorchScript
// archive of StyleGAN, or the TensorFlow graph that the network was first published as. Where the file's name ends in digits of its SHA-256, they must be right.
func Open(path string) (*Model, error) {
	digest, _, err := weights.SHA256(path)
	if err != nil {
		return nil, err
	}
	if m := published.FindStringSubmatch(filepath.Base(path)); m != nil && m[1] != digest[:8] {
		return nil, exitcode.Errorf(exitcode.Data, "model file %s: the SHA-256 begins with %s, the name says %s: damaged or renamed", path, digest[:8], m[1])
	}
	if isGraph, err := startsGraph(path); err != nil {
		return nil, err
	} else if isGraph {
		g, err := openGraphDef(path)
		if err != nil {
			return nil, err
		}
		if err := g.check(); err != nil {
			return nil, fmt.Errorf("model file %s: %w", path, err)
		}
		return &Model{SHA256: digest, Path: path, graph: g}, nil
	}
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		return nil, err
	}
	m, err := Bind(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	m.SHA256, m.Path, m.file = digest, path, f
	return m, nil
}

// startsGraph looks at the beginning of a file.
func startsGraph(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, err
	}
	return isGraphDef(head[:n]), nil
}

// Bind takes the weights of an open file. Names and shapes must match exactly; counters of batches may be absent.
func Bind(f *weights.File) (*Model, error) {
	if isScript(f) {
		m, err := bindScript(f)
		if err != nil {
			return nil, err
		}
		return &Model{tensors: m}, nil
	}
	var want []weights.Param
	var o weights.BindOptions
	for _, k := range Keys() {
		if strings.HasSuffix(k.Name, counterKey) {
			o.Ignore = append(o.Ignore, k.Name)
			continue
		}
		want = append(want, weights.Param(k))
	}
	b, err := weights.Bind(f, want, o)
	if err != nil {
		return nil, err
	}
	return &Model{tensors: b.Tensors}, nil
}

// Close closes the file of a model that came from [Open].
func (m *Model) Close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// Load writes a parameter of the graph into dst.
func (m *Model) Load(name string, dst []float32) error {
	v, err := m.Values(name)
	if err != nil {
		return err
	}
	if len(v) != len(dst) {
		return fmt.Errorf("weight %s has %d values, want %d", name, len(v), len(dst))
	}
	for i, x := range v {
		dst[i] = float32(x)
	}
	return nil
}

// View returns nothing: nearly every weight is computed.
func (m *Model) View(string) ([]float32, bool) { return nil, false }

// Release says that a weight will not be read soon.
func (m *Model) Release(name string) { m.tensors.Release(name) }

// Values is a parameter of the graph before it is rounded. With the normalisation y = (x - mean) * s + beta, where
// s = gamma/sqrt(var+eps), a layer's weight is w*s and its bias beta - mean*s.
func (m *Model) Values(name string) ([]float64, error) {
	v, err := m.stored(name)
	if err != nil {
		return nil, err
	}
	base, isWeight := strings.CutSuffix(name, weightKey)
	if !isWeight {
		var isBias bool
		if base, isBias = strings.CutSuffix(name, biasKey); !isBias {
			return v, nil
		}
	}
	gamma, err := m.stored(base + ".bn.weight")
	if err != nil {
		return nil, err
	}
	variance, err := m.stored(base + ".bn.running_var")
	if err != nil {
		return nil, err
	}
	mean, err := m.stored(base + ".bn.running_mean")
	if err != nil {
		return nil, err
	}
	per := len(v) / len(gamma)
	for o, g := range gamma {
		if !(variance[o] >= 0) {
			return nil, exitcode.Errorf(exitcode.Data, "weight %s.bn.running_var: entry %d is %v, want a variance", base, o, variance[o])
		}
		s := g / math.Sqrt(variance[o]+bnEps)
		if !isWeight {
			v[o] -= mean[o] * s
			continue
		}
		for i := range per {
			v[o*per+i] *= s
		}
	}
	return v, nil
}

// stored is an entry of the state dict.
func (m *Model) stored(name string) ([]float64, error) {
	var x []float32
	switch t, ok := m.tensors[name]; {
	case ok:
		var err error
		if x, err = t.Values(); err != nil {
			return nil, err
		}
	case m.graph != nil && m.graph[graphName(name)].shape != nil:
		x = m.graph.values(name)
	default:
		return nil, fmt.Errorf("no weight %s in the model", name)
	}
	v := make([]float64, len(x))
	for i := range x {
		v[i] = float64(x[i])
	}
	return v, nil
}
