package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Params are the parameters that training changes. They stand one after the other in five arenas of one layout: values,
// gradients, the two moments of Adam and a running average. Views of single parameters, row-major in their shapes, are valid
// until Close. It is a [plan.WeightSource] of the present values, and not safe for concurrent use.
//
// Methods that take names mean all parameters when there is none. A name that is no parameter is a bug and panics.
type Params struct {
	backend plan.Backend
	list    []ir.Param
	index   map[string]int
	offset  []int // of each parameter in an arena
	elems   []int

	data, grad, first, second, average []float32

	version  []uint64 // grows with every change of the values
	empty    []bool   // the gradient is zero, whatever the arena holds
	averaged []bool

	of *Params // whose values these are, see Replica; nil for its own
}

// grain is the granularity of offsets in the arenas: one cache line of floats. What lies between parameters stays zero.
const grain = 16

// NewParams allocates the arenas, all zero. Memory that is never written, such as the averages of a training without them, takes
// nothing.
func NewParams(b plan.Backend, list []ir.Param) (*Params, error) {
	p := &Params{
		backend: b, list: slices.Clone(list), index: make(map[string]int, len(list)), version: make([]uint64, len(list)),
		empty: make([]bool, len(list)), averaged: make([]bool, len(list)),
	}
	total := 0
	for i, param := range list {
		if _, twice := p.index[param.Name]; twice {
			return nil, fmt.Errorf("parameter %s is listed twice", param.Name)
		}
		n := 1
		for _, d := range param.Shape {
			n *= d
		}
		if n < 1 {
			return nil, fmt.Errorf("parameter %s has shape %v", param.Name, param.Shape)
		}
		p.index[param.Name] = i
		p.offset, p.elems = append(p.offset, total), append(p.elems, n)
		p.version[i], p.empty[i] = 1, true
		total += (n + grain - 1) / grain * grain
	}
	for _, arena := range []*[]float32{&p.data, &p.grad, &p.first, &p.second, &p.average} {
		*arena = b.Alloc(total)
	}
	return p, nil
}

// Close frees the arenas.
func (p *Params) Close() {
	if p.of != nil {
		p.data = nil
	}
	for _, arena := range []*[]float32{&p.data, &p.grad, &p.first, &p.second, &p.average} {
		p.backend.Free(*arena)
		*arena = nil
	}
}

// List gives the names and shapes in the order of the arenas. It must not be changed.
func (p *Params) List() []ir.Param { return p.list }

// Has says whether there is a parameter of this name.
func (p *Params) Has(name string) bool { _, ok := p.index[name]; return ok }

// Elems is the number of values, what stands between parameters aside.
func (p *Params) Elems() int {
	n := 0
	for _, e := range p.elems {
		n += e
	}
	return n
}

func (p *Params) at(name string) int {
	i, ok := p.index[name]
	if !ok {
		panic("engine: " + name + " is no parameter of the training")
	}
	return i
}

// picked are the indices of parameters in the order of the arenas.
func (p *Params) picked(names []string) []int {
	var list []int
	if len(names) == 0 {
		for i := range p.list {
			list = append(list, i)
		}
		return list
	}
	for _, name := range names {
		list = append(list, p.at(name))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// ranges calls f with the parts of the arenas that parameters take, neighbours together.
func (p *Params) ranges(picked []int, f func(from, to int)) {
	for i := 0; i < len(picked); {
		j := i
		for j+1 < len(picked) && picked[j+1] == picked[j]+1 {
			j++
		}
		last := picked[j]
		f(p.offset[picked[i]], p.offset[last]+p.elems[last])
		i = j + 1
	}
}

func (p *Params) view(arena []float32, i int) []float32 {
	from, to := p.offset[i], p.offset[i]+p.elems[i]
	return arena[from:to:to]
}

// Data is a parameter's values. After writing to them call [Params.Changed].
func (p *Params) Data(name string) []float32 { return p.view(p.data, p.at(name)) }

// Changed says that values were written: what steps packed of them is made again.
func (p *Params) Changed(names ...string) {
	for _, i := range p.picked(names) {
		p.version[i]++
	}
}

// Init loads values from a source.
func (p *Params) Init(w plan.WeightSource, names ...string) error {
	for _, i := range p.picked(names) {
		if err := w.Load(p.list[i].Name, p.view(p.data, i)); err != nil {
			return fmt.Errorf("parameter %s: %w", p.list[i].Name, err)
		}
		p.version[i]++
	}
	return nil
}

// Grad is a parameter's gradient.
func (p *Params) Grad(name string) []float32 {
	i := p.at(name)
	p.fill(i)
	return p.view(p.grad, i)
}

// fill writes the zeros of a gradient that holds nothing.
func (p *Params) fill(i int) {
	if p.empty[i] {
		clear(p.view(p.grad, i))
		p.empty[i] = false
	}
}

// ZeroGrad forgets gradients.
func (p *Params) ZeroGrad(names ...string) {
	for _, i := range p.picked(names) {
		p.empty[i] = true
	}
}

// Moments are the running means of a parameter's gradient and of its square.
func (p *Params) Moments(name string) (m, v []float32) {
	i := p.at(name)
	return p.view(p.first, i), p.view(p.second, i)
}

// Average is a parameter's running average.
func (p *Params) Average(name string) []float32 { return p.view(p.average, p.at(name)) }

// StartAverage begins running averages with the present values.
func (p *Params) StartAverage(names ...string) {
	for _, i := range p.picked(names) {
		copy(p.view(p.average, i), p.view(p.data, i))
		p.averaged[i] = true
	}
}

// GradNorm is the Euclidean norm of the gradients of parameters together, the same bits for any number of threads. NaN or infinity
// in a gradient is an error of class internal that names the first parameter that has it.
func (p *Params) GradNorm(names ...string) (float64, error) {
	sum := 0.0
	for _, i := range p.picked(names) {
		if p.empty[i] {
			continue
		}
		s := p.backend.SumSquares(p.view(p.grad, i))
		if math.IsNaN(s) || math.IsInf(s, 0) {
			return s, exitcode.Errorf(exitcode.Internal, "the gradient of parameter %s is not finite", p.list[i].Name)
		}
		sum += s
	}
	return math.Sqrt(sum), nil
}

// ScaleGrad multiplies gradients.
func (p *Params) ScaleGrad(f float64, names ...string) {
	picked := p.picked(names)
	for _, i := range picked {
		p.fill(i)
	}
	p.ranges(picked, func(from, to int) { p.backend.Scale(float32(f), p.grad[from:to]) })
}

// Update makes a step of the optimiser. Parameters whose gradient is empty are updated with zeros, like any other.
func (p *Params) Update(c plan.Adam, names ...string) {
	picked := p.picked(names)
	for _, i := range picked {
		p.fill(i)
		p.version[i]++
	}
	p.ranges(picked, func(from, to int) {
		p.backend.Adam(c, p.data[from:to], p.grad[from:to], p.first[from:to], p.second[from:to], p.average[from:to])
	})
}

// UpdateAverage moves running averages towards the values: average -= (1-decay)(average-value).
func (p *Params) UpdateAverage(decay float64, names ...string) {
	p.ranges(p.picked(names), func(from, to int) {
		rest := float32(1 - decay)
		average, data := p.average[from:to], p.data[from:to]
		for i, w := range data {
			average[i] -= rest * (average[i] - w)
		}
	})
}

// Load implements [plan.WeightSource].
func (p *Params) Load(name string, dst []float32) error { return load(p, name, p.data, dst) }

// View implements [plan.WeightSource].
func (p *Params) View(name string) ([]float32, bool) {
	i, ok := p.index[name]
	if !ok {
		return nil, false
	}
	return p.view(p.data, i), true
}

// Release implements [plan.WeightSource].
func (p *Params) Release(string) {}

func load(p *Params, name string, arena, dst []float32) error {
	i, ok := p.index[name]
	if !ok {
		return fmt.Errorf("no parameter %s", name)
	}
	if len(dst) != p.elems[i] {
		return fmt.Errorf("parameter %s has %d values, want %d", name, p.elems[i], len(dst))
	}
	copy(dst, p.view(arena, i))
	return nil
}

// Averages gives the running averages where they were started, and the values of all other parameters.
func (p *Params) Averages() plan.WeightSource { return averages{p} }

type averages struct{ p *Params }

func (a averages) arena(name string) []float32 {
	if i, ok := a.p.index[name]; ok && a.p.averaged[i] {
		return a.p.average
	}
	return a.p.data
}

func (a averages) Load(name string, dst []float32) error {
	return load(a.p, name, a.arena(name), dst)
}

func (a averages) View(name string) ([]float32, bool) {
	i, ok := a.p.index[name]
	if !ok {
		return nil, false
	}
	return a.p.view(a.arena(name), i), true
}

func (a averages) Release(string) {}
