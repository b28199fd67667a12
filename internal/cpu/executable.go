package cpu

import (
	"fmt"
	"slices"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Executable is a plan bound to an arena; every step is a kernel call with its slices cut.
type Executable struct {
	model *Model
	plan  *plan.Plan
	arena *arena
	calls []func() error
	in    [][]float32 // the caller's slices during Run
	out   [][]float32

	made []*made   // what the steps use that changes with parameters
	term []float32 // a further term of a gradient, before it is added
}

// Compile implements [plan.Model].
func (m *Model) Compile(p *plan.Plan) (plan.Executable, error) {
	term := 0
	for _, s := range p.Steps {
		if s.Out.Place == plan.Gradient && s.Kind != plan.Accumulate {
			term = max(term, s.Out.Elems())
		}
	}
	x := &Executable{
		model: m, plan: p, arena: m.backend.arena(p.ArenaElems), calls: make([]func() error, 0, len(p.Steps)), term: kernel.Alloc(term),
	}
	for _, s := range p.Steps {
		call, err := x.call(s)
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
	if x.arena == nil {
		return
	}
	x.model.backend.leave(x.arena)
	kernel.Free(x.term)
	x.arena, x.term, x.calls = nil, nil, nil
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
	x.model.backend.enter(x.arena)
	if err := x.model.refresh(x.made); err != nil {
		return fmt.Errorf("cpu: %s: %w", x.plan.Name, err)
	}
	x.in, x.out = in, out
	defer func() { x.in, x.out = nil, nil }()
	for i, call := range x.calls {
		var begin time.Time
		if x.model.backend.observe != nil {
			begin = time.Now()
		}
		if err := call(); err != nil {
			return fmt.Errorf("cpu: %s: step %s: %w", x.plan.Name, x.plan.Steps[i].Name, err)
		}
		if x.model.backend.observe != nil {
			x.model.backend.observe(x.plan.Steps[i], time.Since(begin))
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
	return x.arena.data[r.Offset+v.Start() : end : end]
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

// depends notes that the executable uses something that may change with parameters.
func (x *Executable) depends(key any) {
	if e := x.model.made[key]; e != nil && !slices.Contains(x.made, e) {
		x.made = append(x.made, e)
	}
}

// vector is [Model.vector].
func (x *Executable) vector(v *plan.Value) ([]float32, error) {
	b, err := x.model.vector(v)
	if err == nil && len(b) > 0 {
		x.depends(&b[0])
	}
	return b, err
}

// vectors returns parameters unchanged.
func (x *Executable) vectors(vs []*plan.Value) (ws [][]float32, err error) {
	for _, v := range vs {
		w, err := x.vector(v)
		if err != nil {
			return nil, err
		}
		ws = append(ws, w)
	}
	return ws, nil
}

// call turns a step into a call. What is computed for the gradient of a parameter is written there when it is the first term, else
// beside and added.
func (x *Executable) call(s *plan.Step) (func() error, error) {
	if s.Out.Place != plan.Gradient {
		var out []float32
		if s.Out.Root().Place == plan.Arena {
			out = x.slice(s.Out)
		}
		return x.compile(s, out)
	}
	if x.model.params == nil {
		return nil, fmt.Errorf("the weights of the model do not change")
	}
	p, name := x.model.backend.pool, s.Out.Name
	g := x.model.params.Gradient(name)
	if len(g) != s.Out.Elems() {
		return nil, fmt.Errorf("the gradient of %s has %d values, want %d", name, len(g), s.Out.Elems())
	}
	if s.Kind == plan.Accumulate {
		in := x.slice(s.In[0])[:len(g)]
		return do(func() {
			if x.model.params.StartGradient(name) {
				p.Add(g, in)
			} else {
				p.Add(g, g, in)
			}
		}), nil
	}
	if len(x.term) < len(g) {
		return nil, fmt.Errorf("no memory for another term of %d values", len(g))
	}
	term := x.term[:len(g)]
	first, err := x.compile(s, g)
	if err != nil {
		return nil, err
	}
	more, err := x.compile(s, term)
	if err != nil {
		return nil, err
	}
	return func() error {
		if x.model.params.StartGradient(name) {
			return first()
		}
		if err := more(); err != nil {
			return err
		}
		p.Add(g, g, term)
		return nil
	}, nil
}

// compile turns a step that writes to out into a call.
func (x *Executable) compile(s *plan.Step, out []float32) (func() error, error) {
	p := x.model.backend.pool
	var in []([]float32)
	for _, v := range s.In {
		switch v.Root().Place {
		case plan.Arena:
			in = append(in, x.slice(v))
		case plan.Param:
			w, err := x.vector(v)
			if err != nil {
				return nil, err
			}
			in = append(in, w)
		}
	}
	weights := func() ([][]float32, error) { return x.vectors(s.Weights) }
	switch s.Kind {
	case plan.Load:
		i := port(x.plan.Inputs, s.In[0])
		if n, h, w, c, ok := image(s.Out); ok {
			return do(func() { p.ToNHWC(n, c, h*w, x.in[i], out) }), nil
		}
		return do(func() { copy(out, x.in[i]) }), nil
	case plan.Store:
		o := port(x.plan.Outputs, s.Out)
		if n, h, w, c, ok := image(s.In[0]); ok {
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
		shape := normShape(s)
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
		shape := attentionShape(s, s.Out)
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
		shape.LdY = s.Out.Stride()
		if s.Kind == plan.AvgPool3 {
			relu := s.Act == plan.ActReLU
			return do(func() { p.AvgPool(shape, relu, in[0], out) }), nil
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
	return x.compileGradient(s, in, out)
}

func (x *Executable) epilogue(s *plan.Step) (kernel.Epilogue, error) {
	b, err := x.model.bias(s)
	if err != nil {
		return kernel.Epilogue{}, err
	}
	if len(b) > 0 {
		x.depends(&b[0])
	}
	e := kernel.Epilogue{Bias: b, Residual: x.slice(s.Residual), Act: kernel.Act(s.Act)}
	if s.SampleBias != nil {
		e.SampleBias, e.SampleStride = x.slice(s.SampleBias), s.SampleBias.Stride()
	}
	return e, nil
}

func (x *Executable) conv(s *plan.Step, in, out []float32) (func() error, error) {
	shape := convShape(s)
	shape.LdY = s.Out.Stride()
	w, err := x.model.packConv(s, shape)
	if err != nil {
		return nil, err
	}
	x.depends(w)
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
	x.depends(w)
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

// normShape describes a group normalisation, or its gradient, to the kernels. Statistics over a batch are those of one sample of
// more pixels.
func normShape(s *plan.Step) kernel.GroupNormShape {
	n, h, w, c, _ := image(s.In[0])
	hw := h * w
	if s.Batch {
		n, hw = 1, n*hw
	}
	return kernel.GroupNormShape{N: n, HW: hw, C: c, Groups: s.Groups, Eps: s.Eps, SiLU: s.SiLU}
}

// attentionShape describes an attention with result o, or the gradient of one, to the kernels.
func attentionShape(s *plan.Step, o *plan.Value) kernel.AttentionShape {
	q, k, v := s.In[0], s.In[1], s.In[2]
	n, tq, tk := q.Shape[0], q.Shape[1], k.Shape[1]
	return kernel.AttentionShape{
		N: n, Tq: tq, Tk: tk, Heads: s.Heads, D: o.Cols() / s.Heads, Scale: float32(s.Factor),
		QRow: q.Stride(), KRow: k.Stride(), VRow: v.Stride(), ORow: o.Stride(),
		QHead: s.QKVHead[0], KHead: s.QKVHead[1], VHead: s.QKVHead[2], OHead: s.QKVHead[3],
		QSample: tq * q.Stride(), KSample: tk * k.Stride(), VSample: tk * v.Stride(), OSample: tq * o.Stride(),
	}
}

// convShape describes a convolution step to the kernels.
func convShape(s *plan.Step) kernel.ConvShape { return convShapeOf(s, s.In[0], s.Out) }

// convShapeOf describes a convolution of x to y with the window of a step.
func convShapeOf(s *plan.Step, x, y *plan.Value) kernel.ConvShape {
	n, h, w, c, _ := image(x)
	if s.Window.Upsample {
		h, w = 2*h, 2*w
	}
	_, oh, ow, oc, _ := image(y)
	return kernel.ConvShape{
		N: n, H: h, W: w, C: c, OutH: oh, OutW: ow, O: oc,
		KH: s.Window.KH, KW: s.Window.KW, Stride: s.Window.Stride, PadTop: s.Window.Top, PadLeft: s.Window.Left,
		Upsample: s.Window.Upsample,
	}
}

// windowShape describes a pooling step to the kernels.
func windowShape(s *plan.Step) kernel.WindowShape { return windowShapeOf(s, s.In[0], s.Out) }

// windowShapeOf describes a pooling of x to y with the window of a step.
func windowShapeOf(s *plan.Step, x, y *plan.Value) kernel.WindowShape {
	n, h, w, c, _ := image(x)
	_, oh, ow, _, _ := image(y)
	shape := kernel.WindowShape{N: n, H: h, W: w, C: c, OutH: oh, OutW: ow, Kernel: s.Window.KH, Stride: s.Window.Stride, Pad: s.Window.Top}
	if s.Kind == plan.AvgPool3 || s.Kind == plan.AvgPool3Grad {
		shape.Kernel, shape.Stride, shape.Pad = 3, 1, 1
	}
	return shape
}

// image splits the shape of a value that is an image.
func image(v *plan.Value) (n, h, w, c int, ok bool) {
	if len(v.Shape) != 4 || v.Flat {
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
