package cpu

import (
	"fmt"
	"runtime"
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

	mu   sync.Mutex // one plan runs at a time
	last *Executable
}

// largeArena is the size in floats from which an arena's pages are given back when another plan runs: an arena holds nothing
// between runs, and a process then needs the largest of them rather than their sum.
const largeArena = 16 << 20

// enter makes x the plan that runs. The caller holds the lock.
func (b *Backend) enter(x *Executable) {
	if l := b.last; l != nil && l != x && len(l.arena) >= largeArena {
		kernel.Forget(l.arena)
	}
	b.last = x
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
