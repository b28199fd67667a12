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

	params plan.Parameters // the source, when its tensors change
	made   map[any]*made   // by what was made: a slice's first element, packed weights
}

// made is something made of parameters that change.
type made struct {
	of      []string
	version uint64
	again   func() error
}

// versions is the sum of the versions of parameters: it grows when any of them changes, and is 0 when none ever does.
func (m *Model) versions(names []string) (v uint64) {
	for _, name := range names {
		v += m.params.Version(name)
	}
	return v
}

// changing says that something made of parameters, known by key, is to be made again when they change.
func (m *Model) changing(key any, of []*plan.Value, again func() error) {
	if m.params == nil {
		return
	}
	names := sources(of)
	if v := m.versions(names); v > 0 {
		m.made[key] = &made{names, v, again}
	}
}

// sources lists the names in the files of what parameters are made of.
func sources(vs []*plan.Value) (names []string) {
	for _, v := range vs {
		switch {
		case v == nil:
		case v.Product != nil:
			names = append(names, sources([]*plan.Value{v.Product.A, v.Product.B, v.Product.Plus})...)
		default:
			names = append(names, v.Name)
		}
	}
	return names
}

// refresh makes again what is out of date.
func (m *Model) refresh(list []*made) error {
	for _, e := range list {
		if v := m.versions(e.of); v != e.version {
			if err := e.again(); err != nil {
				return err
			}
			e.version = v
		}
	}
	return nil
}

// Bytes is the memory that weights take.
func (m *Model) Bytes() int64 { return m.bytes }

// Close frees the weights.
func (m *Model) Close() {
	for _, b := range m.raw {
		kernel.Free(b)
	}
	m.made = nil
	for _, w := range m.conv {
		w.Close()
	}
	for _, w := range m.linear {
		w.Close()
	}
	m.raw, m.conv, m.linear = nil, nil, nil
}

// load writes a parameter into dst: from the source, or computed from others.
func (m *Model) load(v *plan.Value, dst []float32) error {
	if v.Product != nil {
		return m.product(v.Product, dst)
	}
	if err := m.source.Load(v.Name, dst); err != nil {
		return fmt.Errorf("weight %s: %w", v.Name, err)
	}
	return nil
}

// vector returns a tensor unchanged, loaded once. One that changes is used where it is.
func (m *Model) vector(v *plan.Value) ([]float32, error) {
	if b, ok := m.raw[v.Name]; ok {
		return b, nil
	}
	if m.params != nil && v.Product == nil && m.params.Version(v.Name) > 0 {
		b, ok := m.source.View(v.Name)
		if !ok || len(b) != v.Elems() {
			return nil, fmt.Errorf("weight %s: have %d values, want %d", v.Name, len(b), v.Elems())
		}
		return b, nil
	}
	b := kernel.Alloc(v.Elems())
	if err := m.load(v, b); err != nil {
		kernel.Free(b)
		return nil, err
	}
	m.raw[v.Name] = b
	m.bytes += int64(4 * len(b))
	m.changing(&b[0], []*plan.Value{v}, func() error { return m.load(v, b) })
	return b, nil
}

// borrow calls use with the tensors' values, which are only valid meanwhile.
func (m *Model) borrow(vs []*plan.Value, use func(parts [][]float32) error) error {
	parts := make([][]float32, len(vs))
	for i, v := range vs {
		if view, ok := m.source.View(v.Name); ok && v.Product == nil {
			parts[i] = view
			continue
		}
		b := kernel.Alloc(v.Elems())
		defer kernel.Free(b)
		if err := m.load(v, b); err != nil {
			return err
		}
		parts[i] = b
	}
	err := use(parts)
	for _, v := range vs {
		if v.Product == nil {
			m.source.Release(v.Name)
		}
	}
	return err
}

// product computes A B or A^T B with the kernels: a product of the rows of one factor with the rows of the other's
// transpose.
func (m *Model) product(p *plan.Product, dst []float32) error {
	pool := m.backend.pool
	return m.borrow([]*plan.Value{p.A, p.B}, func(f [][]float32) error {
		rows := p.A.Shape[0]
		inner := p.A.Elems() / rows
		a := kernel.Alloc(len(f[0])) // kernels take memory outside the Go heap
		defer kernel.Free(a)
		copy(a, f[0])
		if p.TransposeA {
			t := kernel.Alloc(len(a))
			defer kernel.Free(t)
			pool.ToNHWC(1, rows, inner, a, t)
			a, rows, inner = t, inner, rows
		}
		cols := p.B.Elems() / inner
		b, t := kernel.Alloc(len(f[1])), kernel.Alloc(len(f[1]))
		defer kernel.Free(b)
		defer kernel.Free(t)
		copy(t, f[1])
		pool.ToNHWC(1, inner, cols, t, b)
		w, err := kernel.PackLinear(pool, inner, [][]float32{b}, false, kernel.FP32)
		if err != nil {
			return err
		}
		defer w.Close()
		e := kernel.Epilogue{}
		y := kernel.Alloc(len(dst))
		defer kernel.Free(y)
		if p.Plus != nil { // only with a vector B, whose product has one column
			plus, err := m.vector(p.Plus)
			if err != nil {
				return err
			}
			e.Residual = plus
		}
		shape := kernel.LinearShape{Rows: rows, In: inner, Out: cols}
		pool.ReserveLinear(shape, w)
		pool.Linear(shape, w, a, y, e)
		copy(dst, y)
		return nil
	})
}

func (m *Model) packConv(s *plan.Step, shape kernel.ConvShape) (*kernel.ConvWeights, error) {
	shape.N, shape.LdY = 1, 0 // the algorithm follows from the layer, and packed weights fit every batch size
	key := fmt.Sprint(s.Weights[0].Name, shape)
	pack := func(oihw []float32) (*kernel.ConvWeights, error) {
		return kernel.PackConv(m.backend.pool, shape, oihw, kernel.FP32)
	}
	if s.Kind == plan.ConvGradInput {
		key += " gradient"
		pack = func(oihw []float32) (*kernel.ConvWeights, error) {
			return kernel.PackConvGradInput(m.backend.pool, shape, oihw)
		}
	}
	if w, ok := m.conv[key]; ok {
		return w, nil
	}
	var w *kernel.ConvWeights
	err := m.borrow(s.Weights, func(parts [][]float32) (err error) {
		w, err = pack(parts[0])
		return err
	})
	if err != nil {
		return nil, err
	}
	m.conv[key] = w
	m.bytes += w.Bytes()
	m.changing(w, s.Weights, func() error {
		return m.borrow(s.Weights, func(parts [][]float32) error { w.Repack(m.backend.pool, parts[0]); return nil })
	})
	return w, nil
}

// precision decides which products use bf16 when precision is mixed: the projections and feed-forward layers of transformer
// blocks, whose weights are matrices. What is stored as a convolution (1x1 and 3x3), attention itself, and products of few
// rows (embeddings of times and classes, which steer every pixel) stay in float32: with them in bf16 the error of a whole
// network passes 1e-2, and they are the smaller part of the work. The choice follows from the layer and the rows of one
// sample, so that it does not depend on the batch.
func (m *Model) precision(s *plan.Step) kernel.Precision {
	if s.Transposed || s.Out.Rows()/s.Out.Shape[0] < minMixedRows || len(s.Weights[0].Shape) > 2 {
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
	key := fmt.Sprint(strings.Join(names, "+"), " ", s.GEGLU, s.Transposed, prec)
	if w, ok := m.linear[key]; ok {
		return w, nil
	}
	var w *kernel.LinearWeights
	err := m.borrow(s.Weights, func(parts [][]float32) (err error) {
		if s.Transposed {
			w, err = kernel.PackLinearTransposed(m.backend.pool, s.In[0].Cols(), s.Out.Cols(), parts[0])
		} else {
			w, err = kernel.PackLinear(m.backend.pool, s.In[0].Cols(), parts, s.GEGLU, prec)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	m.linear[key] = w
	m.bytes += w.Bytes()
	m.changing(w, s.Weights, func() error {
		return m.borrow(s.Weights, func(parts [][]float32) error { w.Repack(m.backend.pool, parts...); return nil })
	})
	return w, nil
}

// bias returns the biases of a step's weight parts side by side, zeros for a part without, or nil when none has one.
func (m *Model) bias(s *plan.Step) ([]float32, error) {
	switch len(s.Bias) {
	case 0:
		return nil, nil
	case 1:
		return m.vector(s.Bias[0])
	}
	var names []string
	n := 0
	for i, v := range s.Bias {
		n += s.Weights[i].Shape[0]
		if v == nil {
			v = s.Weights[i]
		}
		names = append(names, v.Name)
	}
	key := strings.Join(names, "+")
	if b, ok := m.raw[key]; ok {
		return b, nil
	}
	b := kernel.Alloc(n)
	load := func() error {
		at := 0
		for i, v := range s.Bias {
			width := s.Weights[i].Shape[0]
			if v != nil {
				if err := m.load(v, b[at:at+width]); err != nil {
					return err
				}
			}
			at += width
		}
		return nil
	}
	if err := load(); err != nil {
		kernel.Free(b)
		return nil, err
	}
	m.raw[key] = b
	m.bytes += int64(4 * n)
	m.changing(&b[0], s.Bias, load)
	return b, nil
}
