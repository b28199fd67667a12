package plan

// collapseOpt rewrites attention over a single key: softmax over one score is exactly 1, so every query receives the value
// row itself, the query path is dead, and a projection of it can be computed once for each sample.
func collapseOpt(l *lowering) error {
	for _, s := range l.plan.Steps {
		if s.Kind == Attention && s.In[1].Shape[1] == 1 {
			*s = Step{Kind: Broadcast, Name: s.Name, In: []*Value{s.In[2]}, Out: s.Out}
			s.Out.producer = s
		}
	}
	if err := deadCode(l); err != nil {
		return err
	}
	// Push projections through the broadcast: linear(broadcast(v)) = broadcast(linear(v)).
	u := l.users()
	gone := map[*Step]bool{}
	for _, b := range l.plan.Steps {
		if b.Kind != Broadcast {
			continue
		}
		lin := sole(u, b.Out)
		if lin == nil || lin.Kind != Linear || lin.Transposed || lin.In[0].Root() != b.Out || !whole(lin.In[0]) {
			continue
		}
		small := l.value(lin.Name, Arena, []int{lin.Out.Shape[0], 1, lin.Out.Cols()})
		wide := lin.Out
		b.Kind, b.Weights, b.Bias, b.Out, small.producer = Linear, lin.Weights, lin.Bias, small, b
		*lin = Step{Kind: Broadcast, Name: lin.Name, In: []*Value{small}, Out: wide}
	}
	// x + broadcast(v) adds one row to every token of a sample.
	u = l.users()
	for _, b := range l.plan.Steps {
		if b.Kind != Broadcast {
			continue
		}
		add := sole(u, b.Out)
		if add == nil || add.Kind != Add || len(add.In) != 2 || add.In[0].Root() == add.In[1].Root() {
			continue
		}
		x := add.In[0]
		if x.Root() == b.Out {
			x = add.In[1]
		}
		add.Kind, add.In = AddSample, []*Value{x, b.In[0]}
		gone[b] = true
	}
	l.remove(gone)
	return nil
}

// fuseNormOpt folds Modulate and SiLU into the GroupNorm before them.
func fuseNormOpt(l *lowering) error {
	u := l.users()
	gone := map[*Step]bool{}
	for _, s := range l.plan.Steps {
		if s.Kind != GroupNorm {
			continue
		}
		if m := sole(u, s.Out); m != nil && !s.Batch && m.Kind == Modulate && m.In[0] == s.Out && l.before(m.In[1], s) {
			s.ScaleShift, s.Name = m.In[1], m.Name
			l.take(s, m, gone)
		}
		if a := sole(u, s.Out); a != nil && a.Kind == SiLU && a.In[0] == s.Out {
			s.SiLU, s.Name = true, a.Name
			l.take(s, a, gone)
		}
	}
	l.remove(gone)
	return nil
}

// fuseGEGLUOpt folds GEGLU into the Linear before it.
func fuseGEGLUOpt(l *lowering) error {
	u := l.users()
	gone := map[*Step]bool{}
	for _, s := range l.plan.Steps {
		if s.Kind != Linear || len(s.Weights) != 1 || s.Transposed {
			continue
		}
		if g := sole(u, s.Out); g != nil && g.Kind == GEGLU {
			s.GEGLU, s.Name = true, g.Name
			l.take(s, g, gone)
		}
	}
	l.remove(gone)
	return nil
}

// fuseUpsampleOpt lets a 3x3 convolution read its input as the nearest-neighbour doubling.
func fuseUpsampleOpt(l *lowering) error {
	u := l.users()
	gone := map[*Step]bool{}
	for _, s := range l.plan.Steps {
		if s.Kind != Upsample {
			continue
		}
		if c := sole(u, s.Out); c != nil && c.Kind == Conv && c.In[0] == s.Out && c.Window.Stride == 1 && c.Window.KH == 3 && c.Window.KW == 3 {
			c.In[0], c.Window.Upsample = s.In[0], true
			gone[s] = true
		}
	}
	l.remove(gone)
	return nil
}

// averageLastOpt computes the product of an average as the average of the product where that has fewer channels. The weights of an
// average add up to 1, so that a bias stays what it is.
func averageLastOpt(l *lowering) error {
	u := l.users()
	for _, avg := range l.plan.Steps {
		if avg.Kind != AvgPool3 {
			continue
		}
		lin := sole(u, avg.Out)
		if lin == nil || lin.Kind != Linear || lin.Transposed || len(lin.Weights) != 1 || lin.In[0] != avg.Out || lin.Out.Cols() >= avg.Out.Cols() {
			continue
		}
		small, out := l.value(lin.Name, Arena, lin.Out.Shape), lin.Out
		first, last := *lin, *avg
		first.In, first.Out, last.In, last.Out = avg.In, small, []*Value{small}, out
		*avg, *lin = first, last
		small.producer, out.producer = avg, lin
	}
	return nil
}

// fuseEpilogueOpt folds what follows a Conv or Linear into its epilogue, in the order a kernel applies it: bias for each
// sample, activation, residual. An addition goes to the later of its two producers, so that the other operand exists. Averages take a
// ReLU alone.
func fuseEpilogueOpt(l *lowering) error {
	for changed := true; changed; {
		changed = false
		u, at := l.users(), l.index()
		gone := map[*Step]bool{}
		for _, s := range l.plan.Steps {
			if s.Kind != Conv && s.Kind != Linear && s.Kind != AvgPool3 || gone[s] {
				continue
			}
			n := sole(u, s.Out)
			if n == nil || gone[n] || s.Kind == AvgPool3 && n.Kind != ReLU || s.Residual != nil && n.Kind != AddSample {
				continue
			}
			switch n.Kind {
			case AddSample:
				// With no activation the sample's row may join after a residual as well: it is one sum.
				if n.In[0].Root() != s.Out || !whole(n.In[0]) || s.SampleBias != nil || s.Act != NoAct || s.GEGLU || !l.before(n.In[1], s) {
					continue
				}
				s.SampleBias = n.In[1]
			case SiLU, GELU, ReLU:
				if s.Act != NoAct || s.GEGLU || !whole(n.In[0]) {
					continue
				}
				s.Act = acts[n.Kind]
			case Add:
				if len(n.In) != 2 || n.In[0].Root() == n.In[1].Root() {
					continue
				}
				mine, other := n.In[0], n.In[1]
				if mine.Root() != s.Out {
					mine, other = other, mine
				}
				if !whole(mine) || !whole(other) || other.Root().Place != Arena {
					continue
				}
				if p := other.Root().producer; p == nil || at[p] >= at[s] {
					continue
				}
				s.Residual = other
			default:
				continue
			}
			s.Name = n.Name
			l.take(s, n, gone)
			changed = true
			break // positions and users have changed
		}
		l.remove(gone)
	}
	return nil
}

// acts are the activations of an epilogue by the step that they stand for.
var acts = map[Kind]Act{SiLU: ActSiLU, GELU: ActGELU, ReLU: ActReLU}

// mergeOpt joins the projections of one input that feed one attention into a single product with the parts side by side;
// attention reads them as column ranges.
func mergeOpt(l *lowering) error {
	u := l.users()
	gone := map[*Step]bool{}
	for _, a := range l.plan.Steps {
		if a.Kind != Attention {
			continue
		}
		groups := map[*Value][]*Step{}
		for i := range a.In {
			if p := l.projection(u, a, i); p != nil {
				groups[p.In[0].Root()] = append(groups[p.In[0].Root()], p)
			}
		}
		for _, group := range groups {
			if len(group) > 1 && distinct(group) {
				l.merge(a.Name+".projections", group, gone)
			}
		}
	}
	l.remove(gone)
	return nil
}

// distinct says that no step is listed twice.
func distinct(group []*Step) bool {
	seen := map[*Step]bool{}
	for _, p := range group {
		if seen[p] {
			return false
		}
		seen[p] = true
	}
	return true
}

// merge makes the first step of the group compute all of them.
func (l *lowering) merge(name string, group []*Step, gone map[*Step]bool) {
	first, cols := group[0], 0
	at := l.index()
	for _, p := range group {
		cols += p.Out.Cols()
		if at[p] < at[first] {
			first = p
		}
	}
	samples := first.Out.Shape[0]
	merged := l.value(name, Arena, []int{samples, first.Out.Rows() / samples, cols})
	off := 0
	var weights, bias []*Value
	biased := false
	for _, p := range group {
		weights = append(weights, p.Weights...)
		if p.Bias == nil {
			bias = append(bias, nil)
		} else {
			bias, biased = append(bias, p.Bias...), true
		}
		p.Out.Base, p.Out.ColOffset, p.Out.RowStride, p.Out.producer = merged, off, cols, nil
		off += p.Out.Cols()
		gone[p] = p != first
	}
	if !biased {
		bias = nil
	}
	first.Name, first.Weights, first.Bias, first.Out, merged.producer = name, weights, bias, merged, first
}

// before says that v is available when s runs.
func (l *lowering) before(v *Value, s *Step) bool {
	p := v.Root().producer
	if p == nil {
		return true
	}
	at := l.index()
	return at[p] < at[s]
}

// take makes s produce what its follower n produced.
func (l *lowering) take(s, n *Step, gone map[*Step]bool) {
	s.Out = n.Out
	s.Out.producer = s
	gone[n] = true
}
