// Package formula computes weights from tensor names and shapes.
//
// Concept: networks too large to store with reference vectors have weights that any implementation can compute: element i
// of a tensor takes splitmix64(FNV-1a(name) + i), whose upper 24 bits are u, a multiple of 2^-24 in [0, 1), and a rule maps
// u to the value in float64 with one rounding per operation, then to float32. The rules keep activations near unit size.
// Data flow: a list of names and shapes ([ParseKeys]) -> [Source] -> tensors that are computed when read, as a
// [weights.File], so that a network cannot tell them from stored ones.
// Values depend on nothing but name, shape, rule and gain; they are computed in parallel.
package formula

import (
	"math"
	"runtime"
	"strings"
	"sync"
)

// Kind is a rule from u in [0, 1) to a value.
type Kind uint8

// The rules. Weight is for convolution and linear weights (and embeddings and codebooks): any tensor of 2 or more dimensions.
const (
	Weight      Kind = iota // (2u-1)·(gain·sqrt(6/fan_in)), fan_in = product of all sizes but the first
	Bias                    // (2u-1)·0.1
	NormWeight              // 0.5 + u
	NormBias                // (2u-1)·0.2
	RunningMean             // (2u-1)·0.2
	RunningVar              // 0.5 + u
	Zero                    // 0, an integer counter
	NonNegative             // u·0.1
	Image                   // 2u-1, an input
)

// Hash is FNV-1a (64 bit) of the name.
func Hash(name string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return h
}

// splitmix64 is one output of the generator of that name (Steele, Lea and Flood 2014) for state x.
func splitmix64(x uint64) uint64 {
	z := x + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// KindOf is the rule of a state dict entry, by its last name part and its rank. weightRank gives the rank of another
// entry, or false where there is none: a bias beside a one-dimensional weight belongs to a norm.
func KindOf(name string, rank int, weightRank func(name string) (int, bool)) Kind {
	prefix, last := "", name
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		prefix, last = name[:i+1], name[i+1:]
	}
	switch {
	case last == "num_batches_tracked":
		return Zero
	case last == "running_mean":
		return RunningMean
	case last == "running_var":
		return RunningVar
	case rank >= 2:
		return Weight
	case last == "weight":
		return NormWeight
	case last == "bias":
		if r, ok := weightRank(prefix + "weight"); ok && r == 1 {
			return NormBias
		}
	}
	return Bias
}

// Fill computes the values of a tensor, row-major, into dst, which has one entry per element of shape.
func Fill(dst []float32, name string, kind Kind, shape []int, gain float64) {
	const unit = 1.0 / (1 << 24) // 2u-1 and u are integers times this, exactly
	h := Hash(name)
	var scale float64
	switch kind {
	case Weight:
		fan := 1
		for _, s := range shape[min(1, len(shape)):] {
			fan *= s
		}
		scale = gain * math.Sqrt(6/float64(fan))
	case Bias, NonNegative:
		scale = 0.1
	case NormBias, RunningMean:
		scale = 0.2
	case Image:
		scale = 1
	}
	scale *= unit // a power of two: the product with it rounds as the one without
	parallel(len(dst), func(from, to int) {
		d, x := dst[from:to], h+uint64(from)
		switch kind {
		case Zero:
			clear(d)
		case NormWeight, RunningVar:
			for i := range d {
				d[i] = float32(0.5 + float64(splitmix64(x+uint64(i))>>40)*unit)
			}
		case NonNegative:
			for i := range d {
				d[i] = float32(float64(splitmix64(x+uint64(i))>>40) * scale)
			}
		default:
			for i := range d {
				d[i] = float32(float64(int64(splitmix64(x+uint64(i))>>40)*2-1<<24) * scale)
			}
		}
	})
}

// Label computes n integers in [0, k): floor(u·k).
func Label(name string, k, n int) []int {
	h := Hash(name)
	out := make([]int, n)
	for i := range out {
		out[i] = int(math.Floor(float64(splitmix64(h+uint64(i))>>40) / (1 << 24) * float64(k)))
	}
	return out
}

// parallel splits [0, n) among the processors.
func parallel(n int, f func(from, to int)) {
	const grain = 1 << 18
	workers := min(runtime.GOMAXPROCS(0), n/grain)
	if workers <= 1 {
		f(0, n)
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { f(n*w/workers, n*(w+1)/workers) })
	}
	wg.Wait()
}
