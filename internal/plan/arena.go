package plan

import "sort"

// align is the granularity of arena offsets: one cache line of floats.
const align = 16

// arena decides which outputs may overwrite an operand, how long every value lives, and where it stands.
func arena(l *lowering) error {
	for _, s := range l.plan.Steps {
		for _, o := range s.outputs() {
			if o.Place == Arena {
				l.plan.NaiveElems += roundUp(o.Elems())
			}
		}
	}
	l.plan.ArenaElems = layout(l.plan.Steps, true)
	return nil
}

// life is when a root is written first and read last.
type life struct{ first, last int }

// layout computes the size of an arena, and with place also sets the offsets and the bases of values in it.
func layout(steps []*Step, place bool) int {
	lives := map[*Value]*life{}
	of := func(v *Value) *life {
		l := lives[v]
		if l == nil {
			l = &life{first: -1}
			lives[v] = l
		}
		return l
	}
	for i, s := range steps {
		for _, v := range s.operands() {
			of(v.Root()).last = i
		}
	}
	taken := map[*Value]*Value{} // outputs by the root whose memory they take over
	root := func(v *Value) *Value {
		r := v.Root()
		for taken[r] != nil {
			r = taken[r]
		}
		return r
	}
	var roots []*Value
	for i, s := range steps {
		for _, o := range s.outputs() {
			r := o.Root()
			if r.Place != Arena || taken[r] != nil {
				continue
			}
			l := of(r)
			if l.first >= 0 { // written in parts
				l.last = max(l.last, i)
				continue
			}
			l.first, l.last = i, max(l.last, i)
			if v := overwritten(s, i, lives); o == s.Out && v != nil {
				// The output takes over the memory: both names mean one root from here on.
				v = root(v)
				taken[r], of(v).last = v, l.last
				continue
			}
			roots = append(roots, r)
		}
	}
	// Largest first, each at the lowest offset that is free during its whole life.
	sort.SliceStable(roots, func(i, j int) bool { return roots[i].Elems() > roots[j].Elems() })
	total := 0
	offset := map[*Value]int{}
	var placed []*Value
	for _, r := range roots {
		mine := lives[r]
		var busy []*Value
		for _, p := range placed {
			if l := lives[p]; l.first <= mine.last && mine.first <= l.last {
				busy = append(busy, p)
			}
		}
		sort.Slice(busy, func(i, j int) bool { return offset[busy[i]] < offset[busy[j]] })
		size, at := roundUp(r.Elems()), 0
		for _, p := range busy {
			if offset[p]-at >= size {
				break
			}
			at = max(at, offset[p]+roundUp(p.Elems()))
		}
		offset[r] = at
		placed = append(placed, r)
		total = max(total, at+size)
	}
	if place {
		for r, at := range offset {
			r.Offset = at
		}
		for r, v := range taken {
			r.Base = v
		}
	}
	return total
}

// overwritten returns the operand whose memory the step's output may take: same size, read element by element at the
// position that is written, by no later step, and not by the step's other operands.
func overwritten(s *Step, i int, lives map[*Value]*life) *Value {
	if s.Out.Base != nil {
		return nil
	}
	for _, v := range replaceable(s) {
		if v == nil || !whole(v) || v.Elems() != s.Out.Elems() {
			continue
		}
		r := v.Root()
		if r.Place != Arena || lives[r].last != i {
			continue
		}
		reads := 0
		for _, o := range s.operands() {
			if o.Root() == r {
				reads++
			}
		}
		if reads == 1 {
			return r
		}
	}
	return nil
}

// replaceable lists the operands that the kernel of a step may overwrite with its output.
func replaceable(s *Step) []*Value {
	switch s.Kind {
	case Conv, Linear:
		return []*Value{s.Residual}
	case Add:
		return s.In[:2]
	case AddSample, AddRows, Modulate, ScaleBy, ShiftChannels, ScaleChannels:
		return s.In[:1]
	case GroupNormGrad, LayerNormGrad, ModulateGradX:
		return s.In[1:2]
	case SiLUGrad, GELUGrad, ReLUGrad, LeakyReLUGrad, AbsGrad, SquareGrad, ExpGrad, SoftplusGrad, ReciprocalGrad:
		return s.In[1:2]
	case SiLU, GELU, ReLU, LeakyReLU, Abs, Square, Exp, Softplus, Reciprocal, Offset, Scale:
		return s.In
	}
	return nil
}

func roundUp(n int) int { return (n + align - 1) / align * align }
