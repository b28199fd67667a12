package cpu

import (
	"fmt"
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// compileLoss turns a step of a loss into a call. in are the slices of its operands.
func (x *Executable) compileLoss(s *plan.Step, in [][]float32, out []float32) (func() error, error) {
	p := x.model.backend.pool
	n := s.Out.Elems()
	out = out[:n]
	if f, ok := functions[s.Kind]; ok {
		return do(func() { f(s.Factor, in[0][:n], out) }), nil
	}
	if f, ok := slopes[s.Kind]; ok {
		return do(func() { f(s.Factor, in[0][:n], in[1][:n], out) }), nil
	}
	switch s.Kind {
	case plan.SiLUGrad:
		return do(func() { p.SiLUGrad(in[0], in[1], out) }), nil
	case plan.GELUGrad:
		return do(func() { p.GELUGrad(in[0], in[1], out) }), nil
	case plan.ReLUGrad:
		return do(func() { p.ReLUGrad(in[0], in[1], out) }), nil
	case plan.LeakyReLU:
		return do(func() { p.LeakyReLU(float32(s.Factor), in[0], out) }), nil
	case plan.LeakyReLUGrad:
		return do(func() { p.LeakyReLUGrad(float32(s.Factor), in[0], in[1], out) }), nil
	case plan.Copy:
		return do(func() { p.Add(out, in[0]) }), nil
	case plan.One:
		return do(func() { out[0] = 1 }), nil
	case plan.Zero:
		return do(func() { clear(out) }), nil
	case plan.ScaleBy:
		return do(func() { p.Scale(in[1][0], in[0], out) }), nil
	case plan.Dot:
		n := s.In[0].Elems()
		return do(func() { p.Dot(in[0][:n], in[1], out) }), nil
	case plan.MeanSquare:
		n := s.In[0].Elems()
		return do(func() { p.MeanSquare(in[0][:n], in[1], out) }), nil
	case plan.MeanSquareGrad:
		return do(func() { p.MeanSquareGrad(in[0], in[1], in[2], out) }), nil
	case plan.ShiftChannels:
		return do(func() { p.AddRows(s.Out.Rows(), 1, s.Out.Cols(), in[0], in[1], out) }), nil
	case plan.ScaleChannels:
		return do(func() { scaleChannels(in[0][:n], in[1][:s.Out.Cols()], out) }), nil
	case plan.ChannelDot:
		v := s.In[0]
		sums := make([]float64, v.Cols())
		return do(func() { channelDot(in[0][:v.Elems()], in[1], sums, out) }), nil
	case plan.BatchMoments:
		v := s.In[0]
		return do(func() { batchMoments(in[0][:v.Elems()], v.Cols(), out) }), nil
	case plan.BatchNormGiven:
		ws, err := x.vectors(s.Weights)
		if err != nil {
			return nil, err
		}
		c := s.Out.Cols()
		shape := normShape(s)
		shape.N, shape.HW, shape.Groups = 1, shape.N*shape.HW, c
		moments := make([]float32, 2*c)
		return do(func() {
			copy(moments, in[1][:c])
			copy(moments[c:], in[2][:c])
			p.GroupNorm(shape, in[0], ws[0], ws[1], moments, nil, out)
		}), nil
	case plan.UnitDistance, plan.UnitDistanceGrad:
		ws, err := x.vectors(s.Weights)
		if err != nil {
			return nil, err
		}
		d := distance{n: s.In[0].Shape[0], hw: s.In[0].Rows() / s.In[0].Shape[0], w: ws[0], eps: s.Eps}
		if s.Kind == plan.UnitDistance {
			return do(func() { d.distance(in[0], in[1], out) }), nil
		}
		return do(func() { d.gradient(in[0], in[1], in[2], out) }), nil
	case plan.GaussianKL:
		v := s.In[0]
		return do(func() { out[0] = float32(gaussianKL(in[0][:v.Elems()], v.Cols()/2)) }), nil
	case plan.GaussianKLGrad:
		return do(func() { gaussianKLGrad(in[0][:n], s.Out.Cols()/2, in[1][0], out) }), nil
	case plan.Sum:
		each := s.In[0].Elems() / n
		return do(func() {
			for i := range out {
				sum := 0.0
				for _, v := range in[0][i*each : (i+1)*each] {
					sum += float64(v)
				}
				out[i] = float32(sum)
			}
		}), nil
	case plan.Fill:
		each := n / s.In[0].Elems()
		return do(func() {
			for i := range n / each {
				part := out[i*each : (i+1)*each]
				for j := range part {
					part[j] = in[0][i]
				}
			}
		}), nil
	case plan.CrossEntropy, plan.CrossEntropyGrad:
		c := classification{classes: s.In[0].Cols()}
		if s.Kind == plan.CrossEntropy {
			return func() error { return c.loss(in[0], in[1][:n], out) }, nil
		}
		return func() error { return c.gradient(in[0], in[1][:s.In[1].Elems()], in[2], out) }, nil
	case plan.NormRatio:
		a, b := s.In[0].Elems(), s.In[1].Elems()
		return do(func() {
			ratio := math.Sqrt(sumSquares(in[0][:a])) / (math.Sqrt(sumSquares(in[1][:b])) + s.Eps)
			out[0] = float32(min(ratio, s.Factor))
		}), nil
	}
	return nil, fmt.Errorf("no kernel for this step")
}

// functions compute y of x, element by element; f is the step's factor.
var functions = map[plan.Kind]func(f float64, x, y []float32){
	plan.Abs: each(func(_ float64, x float64) float64 { return math.Abs(x) }),
	plan.Square: func(_ float64, x, y []float32) {
		for i, v := range x {
			y[i] = v * v
		}
	},
	plan.Exp:        each(func(_ float64, x float64) float64 { return math.Exp(x) }),
	plan.Softplus:   each(func(_ float64, x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }),
	plan.Reciprocal: each(func(_ float64, x float64) float64 { return 1 / x }),
	plan.Offset:     each(func(f float64, x float64) float64 { return x + f }),
}

func each(g func(f, x float64) float64) func(f float64, x, y []float32) {
	return func(f float64, x, y []float32) {
		for i, v := range x {
			y[i] = float32(g(f, float64(v)))
		}
	}
}

// slopes compute dx of x and dy, element by element.
var slopes = map[plan.Kind]func(f float64, x, dy, dx []float32){
	plan.AbsGrad: func(_ float64, x, dy, dx []float32) {
		for i, v := range x {
			d := dy[i]
			switch {
			case v < 0:
				d = -d
			case v == 0:
				d = 0
			}
			dx[i] = d
		}
	},
	plan.SquareGrad: func(_ float64, x, dy, dx []float32) {
		for i, v := range x {
			dx[i] = 2 * v * dy[i]
		}
	},
	plan.ExpGrad:        slope(math.Exp),
	plan.SoftplusGrad:   slope(func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }),
	plan.ReciprocalGrad: slope(func(x float64) float64 { return -1 / (x * x) }),
}

func slope(g func(x float64) float64) func(f float64, x, dy, dx []float32) {
	return func(_ float64, x, dy, dx []float32) {
		for i, v := range x {
			dx[i] = float32(g(float64(v)) * float64(dy[i]))
		}
	}
}

func scaleChannels(x, s, y []float32) {
	for at := 0; at < len(x); at += len(s) {
		for i, f := range s {
			y[at+i] = x[at+i] * f
		}
	}
}

func channelDot(x, dy []float32, sums []float64, y []float32) {
	clear(sums)
	for at := 0; at < len(x); at += len(sums) {
		for i := range sums {
			sums[i] += float64(x[at+i]) * float64(dy[at+i])
		}
	}
	for i, s := range sums {
		y[i] = float32(s)
	}
}

// batchMoments computes the means, then the biased variances, of the columns of x.
func batchMoments(x []float32, c int, y []float32) {
	rows := float64(len(x) / c)
	for i := range c {
		sum := 0.0
		for at := i; at < len(x); at += c {
			sum += float64(x[at])
		}
		mean, square := sum/rows, 0.0
		for at := i; at < len(x); at += c {
			d := float64(x[at]) - mean
			square += d * d
		}
		y[i], y[c+i] = float32(mean), float32(square/rows)
	}
}

// Bounds of a log-variance, as the graph defines them.
const minLogVar, maxLogVar = -30, 20

func gaussianKL(moments []float32, c int) float64 {
	sum := 0.0
	for at := 0; at < len(moments); at += 2 * c {
		for i := range c {
			mean, lv := float64(moments[at+i]), min(max(float64(moments[at+c+i]), minLogVar), maxLogVar)
			sum += 0.5 * (mean*mean + math.Exp(lv) - 1 - lv)
		}
	}
	return sum
}

func gaussianKLGrad(moments []float32, c int, dy float32, dm []float32) {
	d := float64(dy)
	for at := 0; at < len(moments); at += 2 * c {
		for i := range c {
			dm[at+i] = float32(d * float64(moments[at+i]))
			lv, g := float64(moments[at+c+i]), 0.0
			if lv >= minLogVar && lv <= maxLogVar {
				g = d * 0.5 * (math.Exp(lv) - 1)
			}
			dm[at+c+i] = float32(g)
		}
	}
}

// classification compares logits with classes. It is small and computed in float64.
type classification struct{ classes int }

// each calls f with every row, its class, its largest value and the sum of exp(x - largest).
func (c classification) each(logits, ids []float32, f func(n, id int, x []float32, peak, sum float64)) error {
	for n, v := range ids {
		id := int(v)
		if !(v >= 0 && id < c.classes) || float32(id) != v {
			return fmt.Errorf("id %d: %v is not one of %d classes", n, v, c.classes)
		}
		x := logits[n*c.classes : (n+1)*c.classes]
		peak, sum := float64(slices.Max(x)), 0.0
		for _, v := range x {
			sum += math.Exp(float64(v) - peak)
		}
		f(n, id, x, peak, sum)
	}
	return nil
}

func (c classification) loss(logits, ids, y []float32) error {
	return c.each(logits, ids, func(n, id int, x []float32, peak, sum float64) {
		y[n] = float32(math.Log(sum) + peak - float64(x[id]))
	})
}

func (c classification) gradient(logits, ids, dy, dx []float32) error {
	return c.each(logits, ids, func(n, id int, x []float32, peak, sum float64) {
		d, y := float64(dy[n]), dx[n*c.classes:(n+1)*c.classes]
		for i, v := range x {
			p := math.Exp(float64(v)-peak) / sum
			if i == id {
				p--
			}
			y[i] = float32(d * p)
		}
	})
}

// distance compares features whose vectors at every pixel are scaled to unit length.
type distance struct {
	n, hw int
	w     []float32 // of channels
	eps   float64
}

func (d distance) distance(a, b, y []float32) {
	c := len(d.w)
	for n := range d.n {
		sum := 0.0
		for at := n * d.hw * c; at < (n+1)*d.hw*c; at += c {
			x, z := a[at:at+c], b[at:at+c]
			fx, fz := 1/(norm(x)+d.eps), 1/(norm(z)+d.eps)
			for i, w := range d.w {
				u := float64(x[i])*fx - float64(z[i])*fz
				sum += float64(w) * u * u
			}
		}
		y[n] = float32(sum / float64(d.hw))
	}
}

func (d distance) gradient(a, b, dy, da []float32) {
	c := len(d.w)
	for n := range d.n {
		f := 2 * float64(dy[n]) / float64(d.hw)
		for at := n * d.hw * c; at < (n+1)*d.hw*c; at += c {
			x, z, y := a[at:at+c], b[at:at+c], da[at:at+c]
			length := norm(x)
			if length == 0 {
				clear(y)
				continue
			}
			fx, fz, along := 1/(length+d.eps), 1/(norm(z)+d.eps), 0.0
			for i, w := range d.w {
				g := f * float64(w) * (float64(x[i])*fx - float64(z[i])*fz)
				along += g * float64(x[i])
			}
			along *= fx * fx / length
			for i, w := range d.w {
				g := f * float64(w) * (float64(x[i])*fx - float64(z[i])*fz)
				y[i] = float32(g*fx - float64(x[i])*along)
			}
		}
	}
}

func norm(x []float32) float64 { return math.Sqrt(sumSquares(x)) }

func sumSquares(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}
