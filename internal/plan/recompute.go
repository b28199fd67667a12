package plan

// recompute shrinks the arena below the budget by giving values up between two uses and computing them again before the second
// (activation checkpointing, Chen et al. 2016). The same kernel reads the same operands, so that no bit of a result changes.
//
// It looks at the step where most memory is live, and at every value that is kept across that step without being used there. Of
// those it gives up the one that saves most for the time that computing it again takes: cheap ones, such as normalisations
// and activations, go first, and whole blocks where these are not enough. What a value is computed from may be gone by then,
// and is computed again too, up to a limit. This repeats until the budget holds or nothing helps.
func recompute(l *lowering) error {
	if l.options.Budget <= 0 {
		return nil
	}
	// Offsets in the arena waste a little, which shows only when they are given out: aim lower then.
	budget := int(l.options.Budget / 4)
	target := budget
	for range recomputeRounds {
		r := &recomputation{lowering: l}
		for r.update(); r.peak > target; r.update() {
			if !r.step() {
				break
			}
		}
		size := layout(l.plan.Steps, false)
		if size <= budget || r.peak > target {
			return nil
		}
		target -= size - budget
	}
	return nil
}

const (
	recomputeRounds = 4
	// longestChain bounds how many steps computing one value again may take.
	longestChain = 16
	// The speeds that recomputing is weighed with: of products, in operations a second, and of everything else, in bytes. Only
	// their ratio matters.
	productSpeed = 60e9
	memorySpeed  = 6e9
)

// recomputation is what one look at the steps finds.
type recomputation struct {
	*lowering
	uses     map[*Value][]int // of every root in the arena: where it is written, then where it is read, in order
	producer map[*Value]*Step
	live     []int // floats that are live at each step
	peak, at int
}

func (r *recomputation) update() {
	steps := r.plan.Steps
	r.uses, r.producer = map[*Value][]int{}, map[*Value]*Step{}
	note := func(v *Value, i int) {
		root := v.Root()
		if list := r.uses[root]; root.Place == Arena && (len(list) == 0 || list[len(list)-1] != i) {
			r.uses[root] = append(list, i)
		}
	}
	for i, s := range steps {
		for _, v := range s.operands() {
			note(v, i)
		}
		for _, v := range s.outputs() {
			note(v, i)
			r.producer[v.Root()] = s
		}
	}
	change := make([]int, len(steps)+1)
	for v, list := range r.uses {
		change[list[0]] += v.Elems()
		change[list[len(list)-1]+1] -= v.Elems()
	}
	r.live = make([]int, len(steps))
	r.peak, r.at = 0, 0
	n := 0
	for i := range steps {
		n += change[i]
		r.live[i] = n
		if n > r.peak {
			r.peak, r.at = n, i
		}
	}
}

// step gives up one value, and reports whether there was one.
func (r *recomputation) step() bool {
	var best []*Step
	var bestScore float64
	bestUse := 0
	seen := map[*Value]bool{}
	for _, s := range r.plan.Steps { // in their order: the choice must not depend on that of a map
		v := s.Out.Root()
		if seen[v] || v.Place != Arena {
			continue
		}
		seen[v] = true
		use := r.nextUse(v)
		if use < 0 {
			continue
		}
		chain, ok := r.chain(v, use, nil)
		if !ok {
			continue
		}
		extra, seconds := 0, 0.0
		for _, c := range chain {
			if c.Out.Root() != v {
				extra += c.Out.Elems()
			}
			seconds += float64(c.flop())/productSpeed + float64(c.Bytes())/memorySpeed
		}
		if r.live[use]+extra >= r.peak {
			continue
		}
		if score := float64(v.Elems()) / seconds; score > bestScore {
			best, bestScore, bestUse = chain, score, use
		}
	}
	if best == nil {
		return false
	}
	r.insert(best, bestUse)
	return true
}

// nextUse is the first use after the peak of a value that is kept across it without a use there, else -1.
func (r *recomputation) nextUse(v *Value) int {
	list := r.uses[v]
	if list[0] >= r.at || list[len(list)-1] <= r.at {
		return -1
	}
	for _, i := range list {
		if i == r.at {
			return -1
		}
		if i > r.at {
			return i
		}
	}
	return -1
}

// chain appends the steps that compute a value again before step use, in order, after those of chain.
func (r *recomputation) chain(v *Value, use int, chain []*Step) ([]*Step, bool) {
	s := r.producer[v]
	if s == nil || s.Affine != nil || s.Out.Root() != v || !whole(s.Out) {
		return nil, false
	}
	for _, o := range s.operands() {
		root := o.Root()
		if root.Place != Arena || computes(chain, root) {
			continue
		}
		if list := r.uses[root]; list[0] < use && list[len(list)-1] >= use && root != v {
			continue // still there
		}
		var ok bool
		if chain, ok = r.chain(root, use, chain); !ok || len(chain) >= longestChain {
			return nil, false
		}
	}
	return append(chain, s), true
}

func computes(chain []*Step, v *Value) bool {
	for _, s := range chain {
		if s.Out.Root() == v {
			return true
		}
	}
	return false
}

// insert puts copies of the steps of a chain before step use, and lets everything from there on read what the last one writes.
func (r *recomputation) insert(chain []*Step, use int) {
	again := map[*Value]*Value{}
	copies := make([]*Step, len(chain))
	for i, s := range chain {
		c := *s
		c.In = append([]*Value(nil), s.In...)
		c.replace(again)
		c.Out = r.value(s.Out.Name, Arena, s.Out.Shape)
		c.Out.Flat = s.Out.Flat
		c.Out.producer = &c
		again[s.Out.Root()] = c.Out
		copies[i] = &c
	}
	last := chain[len(chain)-1].Out.Root()
	only := map[*Value]*Value{last: again[last]}
	for _, s := range r.plan.Steps[use:] {
		s.replace(only)
	}
	r.plan.Steps = append(append(append([]*Step(nil), r.plan.Steps[:use]...), copies...), r.plan.Steps[use:]...)
}

// replace exchanges the memory that operands are in.
func (s *Step) replace(by map[*Value]*Value) {
	for i := range s.In {
		s.In[i] = moved(s.In[i], by)
	}
	for _, v := range []**Value{&s.SampleBias, &s.Residual, &s.ScaleShift, &s.Moments} {
		*v = moved(*v, by)
	}
}

// moved returns the value with another root, or itself.
func moved(v *Value, by map[*Value]*Value) *Value {
	if v == nil {
		return nil
	}
	if to := by[v]; to != nil {
		return to
	}
	if v.Base == nil || by[v.Root()] == nil {
		return v
	}
	c := *v
	c.Base = moved(v.Base, by)
	return &c
}
