package nn

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// groups is the number of groups of every group normalisation in these networks.
const groups = 32

// scope names the parameters of a module: a key prefix and the list that declarations are added to. Modules declare their
// parameters when they are made, in state-dict order; graphs ask for them when a module is applied, in any order.
type scope struct {
	prefix string
	list   *[]ir.Param
}

// at is the scope of a child module, its name given by a format.
func (s scope) at(format string, args ...any) scope {
	return scope{s.prefix + fmt.Sprintf(format, args...) + ".", s.list}
}

func (s scope) weight(name string, shape ...int) weight {
	p := ir.Param{Name: s.prefix + name, Shape: shape}
	*s.list = append(*s.list, p)
	return weight(p)
}

// weight is a declared parameter; the zero weight stands for an absent bias.
type weight ir.Param

// in returns the parameter as a tensor of the graph that x belongs to, or nil for an absent bias.
func (w weight) in(x *ir.Tensor) *ir.Tensor {
	if w.Name == "" {
		return nil
	}
	return x.Graph().Param(w.Name, w.Shape...)
}

type conv struct {
	w, b weight
	o    ir.Conv
}

// conv declares a convolution with bias from ci to co channels and a square kernel.
func (s scope) conv(ci, co, kernel int, o ir.Conv) conv {
	return conv{s.weight("weight", co, ci, kernel, kernel), s.weight("bias", co), o}
}

// conv3 and conv1 keep the image size.
func (s scope) conv3(ci, co int) conv { return s.conv(ci, co, 3, ir.Same(3)) }
func (s scope) conv1(ci, co int) conv { return s.conv(ci, co, 1, ir.Same(1)) }

func (c conv) apply(x *ir.Tensor) *ir.Tensor { return ir.Conv2D(x, c.w.in(x), c.b.in(x), c.o) }

type linear struct{ w, b weight }

// linear declares a fully connected layer; ones are the trailing dimensions of the weight when it was stored as a
// convolution with kernel size 1.
func (s scope) linear(ci, co int, ones ...int) linear {
	l := s.linearNoBias(ci, co, ones...)
	l.b = s.weight("bias", co)
	return l
}

func (s scope) linearNoBias(ci, co int, ones ...int) linear {
	return linear{w: s.weight("weight", append([]int{co, ci}, ones...)...)}
}

func (l linear) apply(x *ir.Tensor) *ir.Tensor { return ir.Linear(x, l.w.in(x), l.b.in(x)) }

type groupNorm struct {
	gamma, beta weight
	eps         float64
}

func (s scope) groupNorm(c int, eps float64) groupNorm {
	return groupNorm{s.weight("weight", c), s.weight("bias", c), eps}
}

func (n groupNorm) apply(x *ir.Tensor) *ir.Tensor {
	return ir.GroupNorm(x, n.gamma.in(x), n.beta.in(x), groups, n.eps)
}

type layerNorm struct{ gamma, beta weight }

func (s scope) layerNorm(c int) layerNorm {
	return layerNorm{s.weight("weight", c), s.weight("bias", c)}
}

func (n layerNorm) apply(x *ir.Tensor) *ir.Tensor {
	return ir.LayerNorm(x, n.gamma.in(x), n.beta.in(x), 1e-5)
}

// size returns the height and width of images (N,C,H,W).
func size(x *ir.Tensor) (h, w int) { return x.Dim(2), x.Dim(3) }
