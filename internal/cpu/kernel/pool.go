package kernel

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Pool is a set of threads that run kernels of one instruction set. Its methods may be called from several goroutines; one
// kernel runs at a time.
type Pool struct {
	mu      sync.Mutex
	k       kernels
	isa     ISA
	threads int
	windows []window  // of the current call of GroupMoments
	kernel  []float32 // the turned or transposed weights that are being packed
	one     [1][]float32
}

const maxThreads = 256

// NewPool starts threads-1 threads (the caller of a kernel works too); 0 threads means one for each processor that Go may use, and
// more than 256 means 256.
// An isa that this processor or this build cannot run is an error of class unavailable.
func NewPool(threads int, isa ISA) (*Pool, error) {
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	threads = min(threads, maxThreads)
	if isa != Generic && !runnable(isa) {
		return nil, exitcode.Errorf(exitcode.Unavailable, "instruction set %v is not available on this processor or in this build", isa)
	}
	k, err := newKernels(isa, threads)
	if err != nil {
		return nil, fmt.Errorf("start %d %v threads: %w", threads, isa, err)
	}
	return &Pool{k: k, isa: isa, threads: threads}, nil
}

// Close ends the threads and frees the scratch memory. The pool must be idle and is unusable afterwards.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.k != nil {
		p.k.close()
		p.k = nil
		Free(p.kernel)
		p.kernel = nil
	}
}

// Threads is the number of threads that work on a kernel.
func (p *Pool) Threads() int { return p.threads }

// ISA is the instruction set that the pool was made for.
func (p *Pool) ISA() ISA { return p.isa }

// Peak measures the rate of independent multiply-adds in GFLOPS over all threads, the yardstick for benchmarks.
func (p *Pool) Peak() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.k.peak()
}

// checkPrecision reports a precision that the pool's instruction set lacks.
func (p *Pool) checkPrecision(prec Precision) error {
	if prec == Mixed && !p.isa.BF16() {
		return exitcode.Errorf(exitcode.Unavailable, "mixed precision needs bf16 dot products (AVX512_BF16), which instruction set %v lacks", p.isa)
	}
	return nil
}

// kernels is what an implementation provides. Arguments were checked; strides were filled in; nil slices mean absent.
type kernels interface {
	close()
	peak() float64
	packConv(s ConvShape, oihw []float32, prec Precision, direct bool) packed
	packLinear(in int, parts [][]float32, geglu bool, prec Precision) packed
	reserveConv(s ConvShape, w packed)
	reserveLinear(s LinearShape, w *LinearWeights)
	reserveAttention(s AttentionShape, prec Precision)
	conv(s ConvShape, w packed, x, y []float32, e Epilogue)
	linear(s LinearShape, w *LinearWeights, x, y []float32, e Epilogue)
	attention(s AttentionShape, q, k, v, o []float32, prec Precision)
	groupNorm(s GroupNormShape, x, gamma, beta, moments, scaleShift, y []float32)
	groupMoments(s GroupNormShape, width int, windows []window, x, y []float32)
	layerNorm(rows, c int, eps float64, x, gamma, beta, y []float32)
	activate(a Act, x, y []float32)
	scale(f float32, x, y []float32)
	add(dst, a, b []float32)
	geglu(rows, c int, x, y []float32)
	addRowsPerSample(n, t, c int, x, v []float32, ldv int, y []float32)
	addRows(n, t, c int, x, pos, y []float32)
	modulate(n, t, c int, x, s []float32, lds int, y []float32)
	copyColumns(rows, n int, x []float32, ldx int, y []float32, ldy int)
	broadcast(n, t, c int, v []float32, ldv int, y []float32)
	upsample2(n, h, w, c int, x, y []float32)
	avgPool2(n, h, w, c int, x, y []float32)
	poolWindows(s WindowShape, average, relu bool, x, y []float32)
	pixelMean(n, hw, c int, x, y []float32)
	transpose(n, rows, cols int, x, y []float32)
	embed(ids []float32, dim int, table, y []float32)
	codeIndex(rows, c, v int, z, codebook, idx []float32)
	quantize(rows, c int, z, codebook, idx, y []float32)
	gaussianSample(rows, c int, moments, noise, y []float32)
	timeEmbedding(t []float32, dim int, freq, y []float32)
	gradients
}

// gradients is the part that only training needs.
type gradients interface {
	repackConv(s ConvShape, oihw []float32, w packed)
	repackLinear(in, out int, parts [][]float32, geglu bool, w packed)
	turnKernel(o, c, kh, kw int, t turn, oihw, y []float32)
	convSpread(s ConvShape, w packed, sp spread, x, y []float32)
	zeroSpread(n, h, w, c int, sp spread, y []float32)
	convGradWeight(s ConvShape, x, dy, dw []float32)
	linearGradWeight(rows, in, out, ldx, ldy int, x, dy, dw []float32)
	columnSums(n, rows, c, ld int, x, y []float32)
	groupNormGrad(s GroupNormShape, x, gamma, beta, dy, dx, dgamma, dbeta []float32)
	layerNormGrad(rows, c int, eps float64, x, gamma, dy, dx, dgamma, dbeta []float32)
	attentionGrad(s AttentionShape, q, k, v, dy, dq, dk, dv []float32)
	activateGrad(a Act, x, dy, dx []float32)
	leakyReLU(slope float32, x, y []float32)
	leakyReLUGrad(slope float32, x, dy, dx []float32)
	gegluGrad(rows, c int, x, dy, dx []float32)
	modulateGradX(n, t, c int, s []float32, lds int, dy, dx []float32)
	modulateGradS(n, t, c int, x, dy, ds []float32)
	upsample2Grad(n, h, w, c int, dy, dx []float32)
	avgPool2Grad(n, h, w, c int, dy, dx []float32)
	maxPoolGrad(s WindowShape, x, dy, dx []float32)
	avgPoolGrad(s WindowShape, dy, dx []float32)
	pixelMeanGrad(n, hw, c int, dy, dx []float32)
	padColumns(rows, from, n, width int, x, y []float32)
	embedGrad(ids []float32, dim int, dy, dtable []float32)
	gaussianSampleGrad(rows, c int, moments, noise, dy, dm []float32)
	dot(a, b []float32) float64
	squareDistance(a, b []float32) float64
	scaleDifference(f float32, a, b, y []float32)
	sampleError(n, size, power int, x, target, y []float32)
	sampleErrorGrad(n, size, power int, x, target, dy, dx []float32)
	adamW(c adamStep, w, g, m, v, ema []float32)
}

// packed is what packing gives: the algorithm, the packed floats (bf16 pairs count as one), and two implementation-defined
// sizes.
type packed struct {
	algo string
	data []float32
	kind int
	prec Precision
}
