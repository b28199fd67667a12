package plan

import "sort"

// align is the granularity of arena offsets: one cache line of floats.
const align = 16

// arena decides which outputs may overwrite an operand, how long every value lives, and where it stands.
func arena(l *lowering) error {
	steps := l.plan.Steps
	for i, s := range steps {
		for _, v := range s.operands() {
			v.Root().last = i
		}
	}
	for i, s := range steps {
		if r := s.Out.Root(); r.Place == Arena {
			r.first = i
			r.last = max(r.last, i)
			if v := overwritten(s, i); v != nil {
				// The output takes over the memory: both names mean one root from here on.
				r.Base, v.last = v, r.last
			}
		}
	}
	var roots []*Value
	seen := map[*Value]bool{}
	for _, s := range steps {
		r := s.Out.Root()
		if own := s.Out; own.Place == Arena {
			l.plan.NaiveElems += roundUp(own.Elems())
		}
		if r.Place == Arena && !seen[r] {
			seen[r] = true
			roots = append(roots, r)
		}
	}
	// Largest first, each at the lowest offset that is free during its whole life.
	sort.SliceStable(roots, func(i, j int) bool { return roots[i].Elems() > roots[j].Elems() })
	var placed []*Value
	for _, r := range roots {
		var busy []*Value
		for _, p := range placed {
			if p.first <= r.last && r.first <= p.last {
				busy = append(busy, p)
			}
		}
		sort.Slice(busy, func(i, j int) bool { return busy[i].Offset < busy[j].Offset })
		size, at := roundUp(r.Elems()), 0
		for _, p := range busy {
			if p.Offset-at >= size {
				break
			}
			at = max(at, p.Offset+roundUp(p.Elems()))
		}
		r.Offset = at
		placed = append(placed, r)
		l.plan.ArenaElems = max(l.plan.ArenaElems, at+size)
	}
	return nil
}

// overwritten returns the operand whose memory the step's output may take: same size, read element by element at the
// position that is written, by no later step, and not by the step's other operands.
func overwritten(s *Step, i int) *Value {
	var v *Value
	switch s.Kind {
	case SiLU, GELU, ReLU, Scale, Add, AddSample, AddRows, Modulate:
		v = s.In[0]
	case Conv, Linear:
		v = s.Residual
	}
	if v == nil || !whole(v) || s.Out.Base != nil || v.Elems() != s.Out.Elems() {
		return nil
	}
	r := v.Root()
	if r.Place != Arena || r.last != i {
		return nil
	}
	reads := 0
	for _, o := range s.operands() {
		if o.Root() == r {
			reads++
		}
	}
	if reads != 1 {
		return nil
	}
	return r
}

func roundUp(n int) int { return (n + align - 1) / align * align }
