package cpu

import (
	"fmt"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Model holds one network's weights in the layouts of the kernels. It is packed by the first plan that needs a weight.
type Model struct {
	backend *Backend
	source  plan.WeightSource
	raw     map[string][]float32 // small tensors as they are: norms, biases, tables
	conv    map[string]*kernel.ConvWeights
	linear  map[string]*kernel.LinearWeights
	bytes   int64
}

// Bytes is the memory that weights take.
func (m *Model) Bytes() int64 { return m.bytes }

// Close frees the weights.
func (m *Model) Close() {
	for _, b := range m.raw {
		kernel.Free(b)
	}
	for _, w := range m.conv {
		w.Close()
	}
	for _, w := range m.linear {
		w.Close()
	}
	m.raw, m.conv, m.linear = nil, nil, nil
}

// vector returns a tensor unchanged, loaded once.
func (m *Model) vector(v *plan.Value) ([]float32, error) {
	if b, ok := m.raw[v.Name]; ok {
		return b, nil
	}
	b := kernel.Alloc(v.Elems())
	if err := m.source.Load(v.Name, b); err != nil {
		kernel.Free(b)
		return nil, fmt.Errorf("weight %s: %w", v.Name, err)
	}
	m.raw[v.Name] = b
	m.bytes += int64(4 * len(b))
	return b, nil
}

// borrow calls use with the tensor's values, which are only valid meanwhile.
func (m *Model) borrow(vs []*plan.Value, use func(parts [][]float32) error) error {
	parts := make([][]float32, len(vs))
	for i, v := range vs {
		if view, ok := m.source.View(v.Name); ok {
			parts[i] = view
			continue
		}
		b := kernel.Alloc(v.Elems())
		defer kernel.Free(b)
		if err := m.source.Load(v.Name, b); err != nil {
			return fmt.Errorf("weight %s: %w", v.Name, err)
		}
		parts[i] = b
	}
	return use(parts)
}

func (m *Model) packConv(s *plan.Step, shape kernel.ConvShape) (*kernel.ConvWeights, error) {
	shape.N = 1 // the algorithm follows from the layer, and packed weights fit every batch size
	key := fmt.Sprint(s.Weights[0].Name, shape)
	if w, ok := m.conv[key]; ok {
		return w, nil
	}
	var w *kernel.ConvWeights
	err := m.borrow(s.Weights, func(parts [][]float32) (err error) {
		w, err = kernel.PackConv(m.backend.pool, shape, parts[0], kernel.FP32)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.conv[key] = w
	m.bytes += w.Bytes()
	return w, nil
}

// precision decides which products use bf16 when precision is mixed: the projections and feed-forward layers of transformer
// blocks, whose weights are matrices. What is stored as a convolution (1x1 and 3x3), attention itself, and products of few
// rows (embeddings of times and classes, which steer every pixel) stay in float32: with them in bf16 the error of a whole
// network passes 1e-2, and they are the smaller part of the work. The choice follows from the layer and the rows of one
// sample, so that it does not depend on the batch.
func (m *Model) precision(s *plan.Step) kernel.Precision {
	if s.Out.Rows()/s.Out.Shape[0] < minMixedRows || len(s.Weights[0].Shape) > 2 {
		return kernel.FP32
	}
	return m.backend.prec
}

// minMixedRows is the fewest rows of one sample whose products may use bf16.
const minMixedRows = 16

func (m *Model) packLinear(s *plan.Step) (*kernel.LinearWeights, error) {
	var names []string
	for _, v := range s.Weights {
		names = append(names, v.Name)
	}
	prec := m.precision(s)
	key := fmt.Sprint(strings.Join(names, "+"), " ", s.GEGLU, prec)
	if w, ok := m.linear[key]; ok {
		return w, nil
	}
	var w *kernel.LinearWeights
	err := m.borrow(s.Weights, func(parts [][]float32) (err error) {
		w, err = kernel.PackLinear(m.backend.pool, s.In[0].Cols(), parts, s.GEGLU, prec)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.linear[key] = w
	m.bytes += w.Bytes()
	return w, nil
}

// bias returns the biases of a step's weight parts side by side, or nil.
func (m *Model) bias(s *plan.Step) ([]float32, error) {
	switch len(s.Bias) {
	case 0:
		return nil, nil
	case 1:
		return m.vector(s.Bias[0])
	}
	var names []string
	n := 0
	for _, v := range s.Bias {
		names = append(names, v.Name)
		n += v.Elems()
	}
	key := strings.Join(names, "+")
	if b, ok := m.raw[key]; ok {
		return b, nil
	}
	b := kernel.Alloc(n)
	at := 0
	for _, v := range s.Bias {
		if err := m.source.Load(v.Name, b[at:at+v.Elems()]); err != nil {
			kernel.Free(b)
			return nil, fmt.Errorf("weight %s: %w", v.Name, err)
		}
		at += v.Elems()
	}
	m.raw[key] = b
	m.bytes += int64(4 * n)
	return b, nil
}
