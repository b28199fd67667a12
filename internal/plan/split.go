package plan

// splitBytes is what the operands and the result of a step may take without running over parts of the batch: half of what the last
// cache of a small server holds.
const splitBytes = 16 << 20

// splitOpt runs consecutive steps over one part of the batch after the other where their values are too large to stay in the caches for
// the whole batch but not for a part. The arena shrinks as well. Samples do not depend on each other, so no bit changes.
func splitOpt(l *lowering) error {
	if len(l.options.Gradients) > 0 {
		return nil // gradients read whole batches
	}
	var steps []*Step
	for rest := l.plan.Steps; len(rest) > 0; {
		n, parts := 0, 0
		for ; n < len(rest); n++ {
			k := partsOf(rest[n])
			if k == 0 || rest[n].Out.Shape[0] != rest[0].Out.Shape[0] {
				break
			}
			parts = max(parts, k)
		}
		if n < 2 {
			n = 1
			steps = append(steps, rest[0])
		} else {
			steps = append(steps, l.split(rest[:n], parts)...)
		}
		rest = rest[n:]
	}
	l.plan.Steps = steps
	return nil
}

// partsOf is in how many parts a step's batch goes so that the values fit in the caches. It is 0 where they do anyway, where those of a
// single sample do not, and for steps that do more than treat each image alone.
func partsOf(s *Step) int {
	switch s.Kind {
	case Conv, Linear, MaxPool, AvgPool, AvgPool3, Concat, ReLU:
	default:
		return 0
	}
	samples, bytes := s.Out.Shape[0], 0
	for _, v := range append(s.operands(), s.Out) {
		if v.Place != Arena || len(v.Shape) != 4 || v.Flat || v.Shape[0] != samples {
			return 0
		}
		bytes += 4 * v.Elems()
	}
	if bytes <= splitBytes || bytes > splitBytes*samples {
		return 0
	}
	part := splitBytes * samples / bytes
	return (samples + part - 1) / part
}

// split repeats steps for every part of the batch. Values that only these steps use become as small as a part.
func (l *lowering) split(steps []*Step, parts int) []*Step {
	samples, small := steps[0].Out.Shape[0], l.within(steps)
	var out []*Step
	for i := range parts {
		from, to := samples*i/parts, samples*(i+1)/parts
		values := map[*Value]*Value{}
		var of func(v *Value) *Value
		of = func(v *Value) *Value {
			if v == nil || values[v] != nil {
				return values[v]
			}
			c := l.value(v.Name, Arena, append([]int{to - from}, v.Shape[1:]...))
			switch {
			case small[v] && v.Base != nil:
				c.Base, c.ColOffset, c.RowStride = of(v.Base), v.ColOffset, v.RowStride
			case !small[v]:
				c.Base, c.ColOffset = v, from*v.Rows()/samples*v.Stride()
			}
			values[v] = c
			return c
		}
		for _, s := range steps {
			c := *s
			c.In = make([]*Value, len(s.In))
			for i, v := range s.In {
				c.In[i] = of(v)
			}
			c.Out, c.Residual = of(s.Out), of(s.Residual)
			c.Out.producer = &c
			out = append(out, &c)
		}
	}
	return out
}

// within finds the values that no other than these steps use, and the ranges of columns of such values.
func (l *lowering) within(steps []*Step) map[*Value]bool {
	own := map[*Step]bool{}
	for _, s := range steps {
		own[s] = true
	}
	in := map[*Value]bool{}
	for _, s := range steps {
		in[s.Out.Root()] = true
	}
	for _, s := range l.plan.Steps {
		for _, v := range append(s.operands(), s.outputs()...) {
			r := v.Root()
			if !own[s] || v != r && v.Base != r {
				delete(in, r)
			}
		}
	}
	for _, s := range steps {
		for _, v := range append(s.operands(), s.Out) {
			if in[v.Root()] {
				in[v] = true
			}
		}
	}
	return in
}
