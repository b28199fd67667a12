package cpu

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// Options configure a backend.
type Options struct {
	Threads   int              // 0: one for each processor that this process may use
	ISA       kernel.ISA       // instruction set; kernel.Detect() for the best
	Precision kernel.Precision // FP32 or Mixed

	Observe func(s *plan.Step, d time.Duration) // called after every step, for profiles; may be nil
}

// DefaultOptions uses every processor, the best instruction set and float32.
func DefaultOptions() Options {
	return Options{ISA: kernel.Detect(), Precision: kernel.FP32}
}

// Backend implements [plan.Backend].
type Backend struct {
	pool    *kernel.Pool
	prec    kernel.Precision
	observe func(s *plan.Step, d time.Duration)

	mu     sync.Mutex // one plan runs at a time
	arenas []*arena
	last   *arena
}

// arena is memory that plans run in. It holds nothing between runs, so plans share one where it is long enough.
type arena struct {
	data []float32
	used int // by how many plans
}

// largeArena is the size in floats from which an arena's pages are given back when a plan runs in another one: a process then needs
// the largest of them rather than their sum.
const largeArena = 16 << 20

// arena finds an arena of n floats for one more plan, the shortest that there is, or makes one.
func (b *Backend) arena(n int) *arena {
	b.mu.Lock()
	defer b.mu.Unlock()
	var best *arena
	for _, a := range b.arenas {
		if len(a.data) >= n && (best == nil || len(a.data) < len(best.data)) {
			best = a
		}
	}
	if best == nil {
		best = &arena{data: kernel.Alloc(n)}
		b.arenas = append(b.arenas, best)
	}
	best.used++
	return best
}

// leave tells that a plan does not need its arena any more.
func (b *Backend) leave(a *arena) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.used--; a.used > 0 {
		return
	}
	if b.last == a {
		b.last = nil
	}
	b.arenas = slices.DeleteFunc(b.arenas, func(o *arena) bool { return o == a })
	kernel.Free(a.data)
}

// enter makes a the arena that is in use. The caller holds the lock.
func (b *Backend) enter(a *arena) {
	if l := b.last; l != nil && l != a && len(l.data) >= largeArena {
		kernel.Forget(l.data)
	}
	b.last = a
}

// Open starts the thread pool.
func Open(o Options) (*Backend, error) {
	n := o.Threads
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if o.Precision == kernel.Mixed && !o.ISA.BF16() {
		return nil, exitcode.Errorf(exitcode.Unavailable, "precision mixed needs a processor with bf16 dot products (AVX512_BF16); this one runs %v; use fp32", o.ISA)
	}
	pool, err := kernel.NewPool(n, o.ISA)
	if err != nil {
		return nil, err
	}
	return &Backend{pool: pool, prec: o.Precision, observe: o.Observe}, nil
}

// Name says what runs: instruction set, threads, precision.
func (b *Backend) Name() string {
	return fmt.Sprintf("cpu %s, %d threads, %s", b.pool.ISA(), b.pool.Threads(), b.prec)
}

// Peak implements [plan.Backend].
func (b *Backend) Peak() float64 { return b.pool.Peak() }

// Close stops the thread pool. Models and executables must be closed before.
func (b *Backend) Close() { b.pool.Close() }

// NewModel implements [plan.Backend].
func (b *Backend) NewModel(w plan.WeightSource) plan.Model {
	m := &Model{backend: b, source: w, raw: map[string][]float32{}, conv: map[string]*kernel.ConvWeights{}, linear: map[string]*kernel.LinearWeights{}, made: map[any]*made{}}
	m.params, _ = w.(plan.Parameters)
	return m
}
