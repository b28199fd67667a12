package plan

// fuseGradientsOpt makes one step of the gradients that one step forward gives: those of a normalisation's input and parameters,
// with the gradient of a SiLU after it; and it lets the gradients of a convolution read and write the small image of a doubling
// before it. What forward fusion would not store is then read by nobody else.
func fuseGradientsOpt(l *lowering) error {
	l.pairNorms()
	l.fuseNormGradients()
	l.fuseDoublings()
	return nil
}

// affine are the steps that give the gradients of a normalisation's parameters.
var affine = map[Kind]Kind{GroupNormGrad: GroupNormGradParams, LayerNormGrad: LayerNormGradParams}

// pairNorms lets the gradient of a normalisation's input give those of its parameters as well.
func (l *lowering) pairNorms() {
	u := l.users()
	gone := map[*Step]bool{}
	for _, s := range l.plan.Steps {
		params := affine[s.Kind]
		if params == "" {
			continue
		}
		for _, p := range u[s.In[1].Root()] {
			if p.Kind == params && !gone[p] && p.In[0] == s.In[0] && p.In[1] == s.In[1] {
				s.Affine = p.Out
				s.Affine.producer = s
				gone[p] = true
				break
			}
		}
	}
	// The pair stands where its first part stood: whoever read the other comes later, since both have the same operands.
	l.remove(gone)
}

// fuseNormGradients computes the gradient of a SiLU after a group normalisation with that of the normalisation.
func (l *lowering) fuseNormGradients() {
	u := l.users()
	gone := map[*Step]bool{}
	for _, s := range l.plan.Steps {
		if s.Kind != GroupNormGrad || s.Affine == nil {
			continue
		}
		silu := s.In[1].Root().producer
		if silu == nil || silu.Kind != SiLUGrad || !whole(s.In[1]) || sole(u, silu.Out) != s {
			continue
		}
		norm := silu.In[0].Root().producer
		if norm == nil || norm.Kind != GroupNorm || !whole(silu.In[0]) || norm.In[0].Root() != s.In[0].Root() || norm.ScaleShift != nil ||
			norm.Moments != nil || norm.SiLU || norm.Batch != s.Batch || norm.Groups != s.Groups || norm.Eps != s.Eps || norm.Weights[0] != s.Weights[0] {
			continue
		}
		s.SiLU, s.Weights = true, norm.Weights
		s.In = []*Value{s.In[0], silu.In[1]}
		gone[silu] = true
	}
	l.remove(gone)
}

// fuseDoublings lets gradients of a 3x3 convolution skip the nearest-neighbour doubling before it, as [fuseUpsampleOpt] does
// forward. The gradient of a doubling is four times the mean of four.
func (l *lowering) fuseDoublings() {
	u := l.users()
	gone := map[*Step]bool{}
	for _, s := range l.plan.Steps {
		w := s.Window
		if w.Stride != 1 || w.KH != 3 || w.KW != 3 {
			continue
		}
		switch s.Kind {
		case ConvGradWeight:
			if up := s.In[0].Root().producer; up != nil && up.Kind == Upsample && whole(s.In[0]) {
				s.In = []*Value{up.In[0], s.In[1]}
				s.Window.Upsample = true
			}
		case ConvGradInput:
			pool := sole(u, s.Out)
			if pool == nil || pool.Kind != AvgPool {
				continue
			}
			if scale := sole(u, pool.Out); scale != nil && scale.Kind == Scale && scale.Factor == 4 && whole(scale.In[0]) {
				s.Window.Upsample = true
				gone[pool] = true
				l.take(s, scale, gone)
			}
		}
	}
	l.remove(gone)
}

// directOpt lets steps add what they compute to the gradient of a parameter, where nobody else reads it.
func directOpt(l *lowering) error {
	u := l.users()
	gone := map[*Step]bool{}
	for _, a := range l.plan.Steps {
		if a.Kind != Accumulate || !whole(a.In[0]) {
			continue
		}
		r := a.In[0].Root()
		if s := r.producer; s != nil && s.Out == r && r.Place == Arena && sole(u, r) == a && s.Affine == nil {
			s.Name = a.Name
			l.take(s, a, gone)
		}
	}
	l.remove(gone)
	return nil
}

// outputsOpt hands out results as soon as they are there, so that their memory is free again.
func outputsOpt(l *lowering) error {
	writer := map[*Value]*Step{}
	for _, s := range l.plan.Steps {
		for _, v := range s.outputs() {
			writer[v.Root()] = s
		}
	}
	after := map[*Step][]*Step{}
	var rest []*Step
	for _, s := range l.plan.Steps {
		if s.Kind == Store || s.Kind == Accumulate {
			if p := writer[s.In[0].Root()]; p != nil {
				after[p] = append(after[p], s)
				continue
			}
		}
		rest = append(rest, s)
	}
	l.plan.Steps = nil
	for _, s := range rest {
		l.plan.Steps = append(append(l.plan.Steps, s), after[s]...)
	}
	return nil
}
