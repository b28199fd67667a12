package plan

// deadCode drops steps whose result nobody reads, repeatedly.
func deadCode(l *lowering) error {
	for {
		u := l.users()
		gone := map[*Step]bool{}
		for _, s := range l.plan.Steps {
			if s.Out.Root().Place == Arena && len(u[s.Out.Root()]) == 0 {
				gone[s] = true
			}
		}
		if len(gone) == 0 {
			return nil
		}
		l.remove(gone)
	}
}

// cost counts the floating-point operations of the products, as multiplications and additions of the direct algorithm.
func cost(l *lowering) error {
	for _, s := range l.plan.Steps {
		switch s.Kind {
		case Conv:
			s.FLOP = 2 * int64(s.Out.Elems()) * int64(s.Weights[0].Elems()/s.Weights[0].Shape[0])
		case Linear:
			for _, w := range s.Weights {
				s.FLOP += 2 * int64(s.Out.Rows()) * int64(w.Elems())
			}
		case Attention:
			q, k := s.In[0], s.In[1]
			s.FLOP = 4 * int64(q.Elems()) * int64(k.Shape[1])
		case CodeIndex, Quantize:
			s.FLOP = 2 * int64(s.In[0].Rows()) * int64(s.Weights[0].Elems())
		}
		l.plan.FLOP += s.FLOP
	}
	return nil
}
