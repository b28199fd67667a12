package engine

import (
	"sync"

	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Replica is the same parameters with gradients of its own, for one of several trainings that compute at the same time: values and
// their changes are those of p; moments and averages it has none. It takes one arena. Close it before p. While trainings of
// replicas run, nothing may change p.
func (p *Params) Replica(b plan.Backend) *Params {
	r := &Params{
		backend: b, list: p.list, index: p.index, offset: p.offset, elems: p.elems,
		data: p.data, version: p.version, empty: make([]bool, len(p.list)), of: p,
	}
	for i := range r.empty {
		r.empty[i] = true
	}
	r.grad = b.Alloc(len(p.grad))
	return r
}

// Gather adds the gradients of a replica to those of p and forgets them. Sums depend on the order of the calls alone.
func (p *Params) Gather(r *Params) {
	var wg sync.WaitGroup
	for i, empty := range r.empty {
		if empty {
			continue
		}
		from, to, first := p.view(r.grad, i), p.view(p.grad, i), p.empty[i]
		r.empty[i], p.empty[i] = true, false
		wg.Go(func() {
			if first {
				copy(to, from)
				return
			}
			for j, g := range from {
				to[j] += g
			}
		})
	}
	wg.Wait()
}
