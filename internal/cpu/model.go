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
		w, err = kernel.PackConv(m.backend.pool, shape, parts[0], m.backend.prec)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.conv[key] = w
	m.bytes += w.Bytes()
	return w, nil
}

func (m *Model) packLinear(s *plan.Step) (*kernel.LinearWeights, error) {
	var names []string
	for _, v := range s.Weights {
		names = append(names, v.Name)
	}
	key := fmt.Sprint(strings.Join(names, "+"), " ", s.GEGLU)
	if w, ok := m.linear[key]; ok {
		return w, nil
	}
	var w *kernel.LinearWeights
	err := m.borrow(s.Weights, func(parts [][]float32) (err error) {
		w, err = kernel.PackLinear(m.backend.pool, s.In[0].Cols(), parts, s.GEGLU, m.backend.prec)
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
