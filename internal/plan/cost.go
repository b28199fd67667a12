package plan

// deadCode drops steps whose result nobody reads, repeatedly.
func deadCode(l *lowering) error {
	for {
		u := l.users()
		gone, dead := map[*Step]bool{}, false
		for _, s := range l.plan.Steps {
			read := false
			for _, v := range s.outputs() {
				read = read || v.Root().Place != Arena || len(u[v.Root()]) > 0
			}
			gone[s] = !read
			dead = dead || !read
		}
		if !dead {
			return nil
		}
		l.remove(gone)
	}
}

// cost counts the floating-point operations of the products, as multiplications and additions of the direct algorithm.
func cost(l *lowering) error {
	for _, s := range l.plan.Steps {
		s.FLOP = s.flop()
		l.plan.FLOP += s.FLOP
	}
	return nil
}

func (s *Step) flop() int64 {
	var n int64
	switch s.Kind {
	case Conv:
		n = 2 * int64(s.Out.Elems()) * int64(s.Weights[0].Elems()/s.Weights[0].Shape[0])
	case Linear:
		for _, w := range s.Weights {
			n += 2 * int64(s.Out.Rows()) * int64(w.Elems())
		}
	case ConvGradInput:
		n = 2 * int64(s.In[0].Elems()) * int64(s.Weights[0].Elems()/s.Weights[0].Shape[0])
	case ConvGradWeight, LinearGradWeight:
		n = 2 * int64(s.In[1].Rows()) * int64(s.Out.Elems())
	case Attention:
		n = 4 * int64(s.In[0].Elems()) * int64(s.In[1].Shape[1])
	case AttentionGrad: // two products again, and four of their gradients
		n = 10 * int64(s.In[0].Elems()) * int64(s.In[1].Shape[1])
	case CodeIndex, Quantize:
		n = 2 * int64(s.In[0].Rows()) * int64(s.Weights[0].Elems())
	}
	return n
}
