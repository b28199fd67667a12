package cpu

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Executable is a plan bound to an arena; every step is a kernel call with its slices cut.
type Executable struct {
	model *Model
	plan  *plan.Plan
	arena []float32
	calls []func() error
	in    [][]float32 // the caller's slices during Run
	out   [][]float32
}

// Compile implements [plan.Model].
func (m *Model) Compile(p *plan.Plan) (plan.Executable, error) {
	x := &Executable{model: m, plan: p, arena: kernel.Alloc(p.ArenaElems), calls: make([]func() error, 0, len(p.Steps))}
	for _, s := range p.Steps {
		call, err := x.compile(s)
		if err != nil {
			x.Close()
			return nil, fmt.Errorf("cpu: %s: step %s (%s): %w", p.Name, s.Name, s.Kind, err)
		}
		x.calls = append(x.calls, call)
	}
	return x, nil
}

// Close implements [plan.Executable].
func (x *Executable) Close() {
	b := x.model.backend
	b.mu.Lock()
	if b.last == x {
		b.last = nil
	}
	b.mu.Unlock()
	kernel.Free(x.arena)
	x.arena, x.calls = nil, nil
}

// Run implements [plan.Executable].
func (x *Executable) Run(in, out [][]float32) error {
	if err := fits("input", x.plan.Inputs, in); err != nil {
		return err
	}
	if err := fits("output", x.plan.Outputs, out); err != nil {
		return err
	}
	x.model.backend.mu.Lock()
	defer x.model.backend.mu.Unlock()
	x.model.backend.enter(x)
	x.in, x.out = in, out
	defer func() { x.in, x.out = nil, nil }()
	for i, call := range x.calls {
		if err := call(); err != nil {
			return fmt.Errorf("cpu: %s: step %s: %w", x.plan.Name, x.plan.Steps[i].Name, err)
		}
	}
	return nil
}

func fits(what string, ports []*plan.Value, data [][]float32) error {
	if len(ports) != len(data) {
		return fmt.Errorf("cpu: %d %ss given, the plan has %d", len(data), what, len(ports))
	}
	for i, p := range ports {
		if p.Elems() != len(data[i]) {
			return fmt.Errorf("cpu: %s %s: %d values given, shape %v has %d", what, p.Name, len(data[i]), p.Shape, p.Elems())
		}
	}
	return nil
}

// slice cuts an arena value's memory: from its first element to the end of what owns the memory, since the heads of merged
// projections are spread over whole rows.
func (x *Executable) slice(v *plan.Value) []float32 {
	if v == nil {
		return nil
	}
	r := v.Root()
	end := r.Offset + r.Elems()
	return x.arena[r.Offset+v.Start() : end : end]
}

// port finds the position of a port value.
func port(ports []*plan.Value, v *plan.Value) int {
	for i, p := range ports {
		if p == v {
			return i
		}
	}
	return -1
}

// do is a call that cannot fail.
func do(call func()) func() error {
	return func() error { call(); return nil }
}

// compile turns a step into a call.
func (x *Executable) compile(s *plan.Step) (func() error, error) {
	p := x.model.backend.pool
	var in []([]float32)
	for _, v := range s.In {
		if v.Place == plan.Arena {
			in = append(in, x.slice(v))
		}
	}
	var out []float32
	if s.Out.Root().Place == plan.Arena {
		out = x.slice(s.Out)
	}
	weights := func() (ws [][]float32, err error) {
		for _, v := range s.Weights {
			w, err := x.model.vector(v)
			if err != nil {
				return nil, err
			}
			ws = append(ws, w)
		}
		return ws, nil
	}
	switch s.Kind {
	case plan.Load:
		i := port(x.plan.Inputs, s.In[0])
		if n, h, w, c, ok := image(s.Out); ok {
			return do(func() { p.ToNHWC(n, c, h*w, x.in[i], out) }), nil
		}
		return do(func() { copy(out, x.in[i]) }), nil
	case plan.Store:
		o := port(x.plan.Outputs, s.Out)
		if n, h, w, c, ok := image(s.Out); ok {
			return do(func() { p.ToNCHW(n, c, h*w, in[0], x.out[o]) }), nil
		}
		return do(func() { copy(x.out[o], in[0]) }), nil
	case plan.Conv:
		return x.conv(s, in[0], out)
	case plan.Linear:
		return x.linear(s, in[0], out)
	case plan.GroupNorm:
		ws, err := weights()
		if err != nil {
			return nil, err
		}
		n, h, w, c, _ := image(s.In[0])
		shape := kernel.GroupNormShape{N: n, HW: h * w, C: c, Groups: s.Groups, Eps: s.Eps, SiLU: s.SiLU}
		ss, moments := x.slice(s.ScaleShift), x.slice(s.Moments)
		if ss != nil {
			shape.ScaleStride = s.ScaleShift.Stride()
		}
		return do(func() { p.GroupNorm(shape, in[0], ws[0], ws[1], moments, ss, out) }), nil
	case plan.GroupMoments:
		n, h, w, c, _ := image(s.In[0])
		shape := kernel.GroupNormShape{N: n, HW: h * w, C: c, Groups: s.Groups}
		return func() error { return p.GroupMoments(shape, w, in[0], in[1], out) }, nil
	case plan.PoolMoments:
		n, groups := s.Out.Rows(), s.Out.Cols()/2
		return do(func() { kernel.PoolMoments(n, groups, s.Groups, in[0], in[1], out) }), nil
	case plan.LayerNorm:
		ws, err := weights()
		if err != nil {
			return nil, err
		}
		rows, c := s.Out.Rows(), s.Out.Cols()
		return do(func() { p.LayerNorm(rows, c, s.Eps, in[0], ws[0], ws[1], out) }), nil
	case plan.Attention:
		q, k, v, o := s.In[0], s.In[1], s.In[2], s.Out
		n, tq, tk := o.Shape[0], q.Shape[1], k.Shape[1]
		shape := kernel.AttentionShape{
			N: n, Tq: tq, Tk: tk, Heads: s.Heads, D: o.Cols() / s.Heads, Scale: float32(s.Factor),
			QRow: q.Stride(), KRow: k.Stride(), VRow: v.Stride(), ORow: o.Stride(),
			QHead: s.QKVHead[0], KHead: s.QKVHead[1], VHead: s.QKVHead[2], OHead: s.QKVHead[3],
			QSample: tq * q.Stride(), KSample: tk * k.Stride(), VSample: tk * v.Stride(), OSample: tq * o.Stride(),
		}
		p.ReserveAttention(shape, kernel.FP32)
		return do(func() { p.Attention(shape, in[0], in[1], in[2], out, kernel.FP32) }), nil
	case plan.SiLU:
		return do(func() { p.SiLU(in[0], out) }), nil
	case plan.GELU:
		return do(func() { p.GELU(in[0], out) }), nil
	case plan.ReLU:
		return do(func() { p.ReLU(in[0], out) }), nil
	case plan.GEGLU:
		rows, c := s.Out.Rows(), s.Out.Cols()
		return do(func() { p.GEGLU(rows, c, in[0], out) }), nil
	case plan.Scale:
		f := float32(s.Factor)
		return do(func() { p.Scale(f, in[0], out) }), nil
	case plan.Add:
		return do(func() { p.Add(out, in...) }), nil
	case plan.AddSample, plan.Broadcast:
		n := s.Out.Shape[0]
		t, c := s.Out.Rows()/n, s.Out.Cols()
		if s.Kind == plan.Broadcast {
			return do(func() { p.Broadcast(n, t, c, in[0], s.In[0].Stride(), out) }), nil
		}
		return do(func() { p.AddRowsPerSample(n, t, c, in[0], in[1], s.In[1].Stride(), out) }), nil
	case plan.AddRows:
		n := s.Out.Shape[0]
		t, c := s.Out.Rows()/n, s.Out.Cols()
		if len(s.In) == 1 { // the rows are a parameter
			ws, err := weights()
			if err != nil {
				return nil, err
			}
			return do(func() { p.AddRows(n, t, c, in[0], ws[0], out) }), nil
		}
		return do(func() { p.AddRows(n, t, c, in[0], in[1], out) }), nil
	case plan.Modulate:
		n, h, w, c, _ := image(s.Out)
		return do(func() { p.Modulate(n, h*w, c, in[0], in[1], s.In[1].Stride(), out) }), nil
	case plan.Concat:
		rows := s.Out.Rows()
		widths := make([]int, len(s.In))
		for i, v := range s.In {
			widths[i] = v.Cols()
		}
		return do(func() { p.Concat(rows, widths, in, out) }), nil
	case plan.Slice:
		rows, n, ld := s.Out.Rows(), s.Out.Cols(), s.In[0].Stride()
		return do(func() { p.CopyColumns(rows, s.From, n, ld, in[0], out) }), nil
	case plan.Upsample:
		n, h, w, c, _ := image(s.In[0])
		return do(func() { p.Upsample2(n, h, w, c, in[0], out) }), nil
	case plan.AvgPool:
		n, h, w, c, _ := image(s.In[0])
		return do(func() { p.AvgPool2(n, h, w, c, in[0], out) }), nil
	case plan.AvgPool3, plan.MaxPool:
		shape := windowShape(s)
		if s.Kind == plan.AvgPool3 {
			return do(func() { p.AvgPool(shape, in[0], out) }), nil
		}
		return do(func() { p.MaxPool(shape, in[0], out) }), nil
	case plan.PixelMean:
		n, h, w, c, _ := image(s.In[0])
		return do(func() { p.PixelMean(n, h*w, c, in[0], out) }), nil
	case plan.Embed:
		ws, err := weights()
		if err != nil {
			return nil, err
		}
		dim := s.Out.Cols()
		return func() error { return p.Embed(in[0], dim, ws[0], out) }, nil
	case plan.TimeEmbedding:
		dim := s.Out.Cols()
		return do(func() { p.TimeEmbedding(in[0], dim, out) }), nil
	case plan.CodeIndex, plan.Quantize:
		ws, err := weights()
		if err != nil {
			return nil, err
		}
		rows, c, codes := s.In[0].Rows(), s.In[0].Cols(), s.Weights[0].Shape[0]
		if s.Kind == plan.CodeIndex {
			return do(func() { p.CodeIndex(rows, c, codes, in[0], ws[0], out) }), nil
		}
		idx := make([]float32, rows)
		return do(func() { p.Quantize(rows, c, codes, in[0], ws[0], idx, out) }), nil
	case plan.GaussianSample:
		rows, c := s.Out.Rows(), s.Out.Cols()
		return do(func() { p.GaussianSample(rows, c, in[0], in[1], out) }), nil
	}
	return nil, fmt.Errorf("no kernel for this step")
}

func (x *Executable) epilogue(s *plan.Step) (kernel.Epilogue, error) {
	b, err := x.model.bias(s)
	if err != nil {
		return kernel.Epilogue{}, err
	}
	e := kernel.Epilogue{Bias: b, Residual: x.slice(s.Residual), Act: kernel.Act(s.Act)}
	if s.SampleBias != nil {
		e.SampleBias, e.SampleStride = x.slice(s.SampleBias), s.SampleBias.Stride()
	}
	return e, nil
}

func (x *Executable) conv(s *plan.Step, in, out []float32) (func() error, error) {
	shape := convShape(s)
	w, err := x.model.packConv(s, shape)
	if err != nil {
		return nil, err
	}
	e, err := x.epilogue(s)
	if err != nil {
		return nil, err
	}
	p := x.model.backend.pool
	p.ReserveConv(shape, w)
	return do(func() { p.Conv(shape, w, in, out, e) }), nil
}

func (x *Executable) linear(s *plan.Step, in, out []float32) (func() error, error) {
	w, err := x.model.packLinear(s)
	if err != nil {
		return nil, err
	}
	e, err := x.epilogue(s)
	if err != nil {
		return nil, err
	}
	rows := s.Out.Rows()
	shape := kernel.LinearShape{
		Rows: rows, In: s.In[0].Cols(), Out: s.Out.Cols(), RowsPerSample: rows / s.Out.Shape[0],
		LdX: s.In[0].Stride(), LdY: s.Out.Stride(),
	}
	p := x.model.backend.pool
	p.ReserveLinear(shape, w)
	return do(func() { p.Linear(shape, w, in, out, e) }), nil
}

// convShape describes a convolution step to the kernels.
func convShape(s *plan.Step) kernel.ConvShape {
	n, h, w, c, _ := image(s.In[0])
	if s.Window.Upsample {
		h, w = 2*h, 2*w
	}
	_, oh, ow, oc, _ := image(s.Out)
	return kernel.ConvShape{
		N: n, H: h, W: w, C: c, OutH: oh, OutW: ow, O: oc,
		KH: s.Window.KH, KW: s.Window.KW, Stride: s.Window.Stride, PadTop: s.Window.Top, PadLeft: s.Window.Left,
		Upsample: s.Window.Upsample,
	}
}

// windowShape describes a pooling step to the kernels.
func windowShape(s *plan.Step) kernel.WindowShape {
	n, h, w, c, _ := image(s.In[0])
	_, oh, ow, _, _ := image(s.Out)
	shape := kernel.WindowShape{N: n, H: h, W: w, C: c, OutH: oh, OutW: ow, Kernel: s.Window.KH, Stride: s.Window.Stride, Pad: s.Window.Top}
	if s.Kind == plan.AvgPool3 {
		shape.Kernel, shape.Stride, shape.Pad = 3, 1, 1
	}
	return shape
}

// image splits the shape of an image value.
func image(v *plan.Value) (n, h, w, c int, ok bool) {
	if len(v.Shape) != 4 {
		return 0, 0, 0, 0, false
	}
	return v.Shape[0], v.Shape[2], v.Shape[3], v.Shape[1], true
}

// Kernel names what runs a step on this backend, for printed plans.
func (b *Backend) Kernel(s *plan.Step) string {
	switch s.Kind {
	case plan.Conv:
		return "conv"
	case plan.Linear:
		return "gemm"
	case plan.Attention:
		return "attention.flash"
	}
	return string(s.Kind)
}
