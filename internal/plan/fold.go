package plan

// foldOpt rewrites self-attention with one head. Its scores are x Wq^T Wk x^T, so that with the product Wk^T Wq in place of Wq
// the keys are the input itself; and what follows the weighted sum of values, Wo, can be applied to Wv beforehand. Two of four
// projections disappear. Of the biases bk adds the same number to every score of a query, which softmax does not see, and the
// weights of a query sum to one, so that bv and bo can be added to the values.
func foldOpt(l *lowering) error {
	u := l.users()
	gone := map[*Step]bool{}
	for _, a := range l.plan.Steps {
		if a.Kind != Attention || a.Heads != 1 {
			continue
		}
		q, k, v := l.projection(u, a, 0), l.projection(u, a, 1), l.projection(u, a, 2)
		out := sole(u, a.Out)
		if out == nil || !foldable(a, q, k, v, out) {
			continue
		}
		c := q.Out.Cols()
		wq, wk, wv, wo := q.Weights[0], k.Weights[0], v.Weights[0], out.Weights[0]
		product := func(name string, p Product, shape []int) *Value {
			w := l.value(name, Param, shape)
			w.Product = &p
			return w
		}
		name := wk.Name + "^T*" + wq.Name
		q.Weights = []*Value{product(name, Product{A: wk, B: wq, TransposeA: true}, wq.Shape)}
		if q.Bias != nil {
			q.Bias = []*Value{product(name+".bias", Product{A: wk, B: q.Bias[0], TransposeA: true}, []int{c})}
		}
		name = wo.Name + "*" + wv.Name
		v.Weights = []*Value{product(name, Product{A: wo, B: wv}, wv.Shape)}
		bias := out.Bias
		if v.Bias != nil {
			p := Product{A: wo, B: v.Bias[0]}
			if bias != nil {
				p.Plus = bias[0]
			}
			bias = []*Value{product(name+".bias", p, []int{c})}
		}
		v.Bias = bias
		keys := l.value(a.Name+".keys", Arena, a.In[1].Shape)
		keys.Base = k.In[0]
		a.In[1] = keys
		gone[k] = true
		l.take(a, out, gone)
		a.Name = out.Name
	}
	l.remove(gone)
	return nil
}

// projection returns the product that makes an operand of an attention, if it makes nothing else.
func (l *lowering) projection(u map[*Value][]*Step, a *Step, operand int) *Step {
	v := a.In[operand]
	p := v.Root().producer
	if p == nil || p.Kind != Linear || !whole(v) || sole(u, v) != a || !plainLinear(p) {
		return nil
	}
	return p
}

// plainLinear says that a product has one weight and nothing fused but its bias.
func plainLinear(p *Step) bool {
	return len(p.Weights) == 1 && p.Residual == nil && p.SampleBias == nil && p.Act == NoAct && !p.GEGLU && !p.Transposed
}

// foldable says that all four projections are square and q, k and v have one input.
func foldable(a, q, k, v, out *Step) bool {
	for _, p := range []*Step{q, k, v, out} {
		if p == nil || p.Kind != Linear || !plainLinear(p) || p.Out.Cols() != a.Out.Cols() || p.In[0].Cols() != a.Out.Cols() || !whole(p.In[0]) {
			return false
		}
	}
	x := q.In[0].Root()
	return q != k && q != v && k != v && k.In[0].Root() == x && v.In[0].Root() == x
}
