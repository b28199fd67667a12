//go:build unix

package kernel

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

var peaks = struct {
	sync.Mutex
	m map[string]float64
}{m: map[string]float64{}}

// bench runs f on the detected instruction set (or the one named in LDM_ISA) with 1 and 2 threads. It reports the rate by the wall
// clock, the rate per thread by the process's own clock, which other processes disturb less, and the latter in percent of the rate
// of the inner product loop on data in the first-level cache. Both are those of the fastest run.
func bench(b *testing.B, name string, flop int64, f func(b *testing.B, p *Pool) func()) {
	isa := Detect()
	if s := os.Getenv("LDM_ISA"); s != "" {
		var err error
		if isa, err = ParseISA(s); err != nil {
			b.Fatal(err)
		}
	}
	for _, threads := range []int{1, 2} {
		b.Run(name+"/threads="+strconv.Itoa(threads), func(b *testing.B) {
			p, err := NewPool(threads, isa)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			key := fmt.Sprint(isa, threads)
			peaks.Lock()
			if peaks.m[key] == 0 {
				for range 3 {
					peaks.m[key] = max(peaks.m[key], p.Peak()/float64(threads))
				}
			}
			peak := peaks.m[key]
			peaks.Unlock()
			run := f(b, p)
			run()
			wall, cpu := time.Hour, time.Hour
			for b.Loop() {
				w, c := time.Now(), cpuTime()
				run()
				cpu, wall = min(cpu, cpuTime()-c), min(wall, time.Since(w))
			}
			if flop > 0 && cpu > 0 {
				rate := float64(flop) / cpu.Seconds() / 1e9
				b.ReportMetric(float64(flop)/wall.Seconds()/1e9, "GFLOPS")
				b.ReportMetric(rate, "GFLOPS/thread")
				b.ReportMetric(100*rate/peak, "%peak")
			}
		})
	}
}

// cpuTime is the processor time of the process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkConv(b *testing.B) {
	type layer struct{ n, c, o, hw, k, stride int }
	for _, l := range []layer{
		{1, 192, 192, 64, 3, 1}, {1, 384, 384, 32, 3, 1}, {4, 384, 384, 32, 3, 1}, {1, 576, 576, 16, 3, 1}, {4, 576, 576, 16, 3, 1},
		{1, 960, 960, 8, 3, 1}, {4, 960, 960, 8, 3, 1}, {1, 512, 512, 64, 3, 1}, {1, 256, 256, 128, 3, 1}, {1, 128, 128, 256, 3, 1},
		{1, 3, 192, 64, 3, 1}, {1, 192, 3, 64, 3, 1}, {1, 384, 384, 32, 3, 2}, {1, 768, 384, 32, 1, 1},
	} {
		s := ConvShape{N: l.n, H: l.hw, W: l.hw, C: l.c, O: l.o, KH: l.k, KW: l.k, Stride: l.stride, PadTop: l.k / 2, PadLeft: l.k / 2,
			OutH: (l.hw-1)/l.stride + 1, OutW: (l.hw-1)/l.stride + 1}
		bench(b, fmt.Sprintf("%dx%d-%dx%d-k%ds%d", l.n, l.c, l.o, l.hw, l.k, l.stride), s.FLOP(), func(b *testing.B, p *Pool) func() {
			x, y := random(b, 1, s.inLen(), 1), random(b, 2, s.outLen(), 1)
			e := Epilogue{Bias: random(b, 3, s.O, 1)}
			w, err := PackConv(p, s, random(b, 4, s.O*s.C*s.KH*s.KW, 0.02), FP32)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(w.Close)
			return func() { p.Conv(s, w, x, y, e) }
		})
	}
}

func BenchmarkLinear(b *testing.B) {
	for _, l := range []struct {
		rows, in, out int
		geglu         bool
	}{{4096, 192, 576, false}, {1024, 384, 3072, false}, {1024, 384, 1536, true}, {1024, 1536, 384, false}, {256, 576, 576, false}, {64, 960, 960, false}, {1, 768, 960, false}} {
		columns := l.out
		if l.geglu {
			columns *= 2
		}
		bench(b, fmt.Sprintf("%dx%d-%d-geglu=%v", l.rows, l.in, l.out, l.geglu), 2*int64(l.rows*l.in*columns), func(b *testing.B, p *Pool) func() {
			x, y := random(b, 1, l.rows*l.in, 1), random(b, 2, l.rows*l.out, 1)
			e := Epilogue{Bias: random(b, 3, columns, 1)}
			w, err := PackLinear(p, l.in, [][]float32{random(b, 4, columns*l.in, 0.02)}, l.geglu, FP32)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(w.Close)
			s := LinearShape{Rows: l.rows, In: l.in, Out: l.out}
			return func() { p.Linear(s, w, x, y, e) }
		})
	}
}

func BenchmarkAttention(b *testing.B) {
	for _, l := range [][4]int{{1, 1024, 1, 384}, {1, 256, 1, 576}, {1, 64, 1, 960}, {1, 4096, 1, 512}, {1, 1024, 8, 32}, {4, 64, 30, 32}} {
		n, t, heads, d := l[0], l[1], l[2], l[3]
		bench(b, fmt.Sprintf("%dx%d-%dx%d", n, t, heads, d), 4*int64(n*t*t*heads*d), func(b *testing.B, p *Pool) func() {
			size := n * t * heads * d
			q, k, v, o := random(b, 1, size, 1), random(b, 2, size, 1), random(b, 3, size, 1), random(b, 4, size, 1)
			s := PackedAttention(n, t, t, heads, d, 0.1)
			return func() { p.Attention(s, q, k, v, o, FP32) }
		})
	}
}

func BenchmarkGroupNorm(b *testing.B) {
	for _, l := range [][3]int{{1, 64, 192}, {1, 32, 384}, {4, 8, 960}, {1, 64, 512}, {1, 256, 128}} {
		s := GroupNormShape{N: l[0], HW: l[1] * l[1], C: l[2], Groups: 32, Eps: 1e-6, SiLU: true}
		bench(b, fmt.Sprintf("%dx%dx%d", l[0], l[2], l[1]), 0, func(b *testing.B, p *Pool) func() {
			size := s.N * s.HW * s.C
			x, y, g := random(b, 1, size, 1), random(b, 2, size, 1), random(b, 3, s.C, 1)
			b.SetBytes(int64(size) * 12) // read twice, written once
			return func() { p.GroupNorm(s, x, g, g, nil, nil, y) }
		})
	}
}

func BenchmarkCheap(b *testing.B) {
	const n = 1 << 20
	kernels := map[string]func(p *Pool, x, y []float32){
		"silu": func(p *Pool, x, y []float32) { p.SiLU(x, y) }, "gelu": func(p *Pool, x, y []float32) { p.GELU(x, y) },
		"add": func(p *Pool, x, y []float32) { p.Add(y, x, x) }, "to nhwc": func(p *Pool, x, y []float32) { p.ToNHWC(1, 256, n/256, x, y) },
		"layer norm": func(p *Pool, x, y []float32) { p.LayerNorm(n/512, 512, 1e-5, x, x, x, y) },
	}
	for _, name := range []string{"silu", "gelu", "add", "to nhwc", "layer norm"} {
		bench(b, name, 0, func(b *testing.B, p *Pool) func() {
			x, y := random(b, 1, n, 1), random(b, 2, n, 1)
			b.SetBytes(n * 8)
			return func() { kernels[name](p, x, y) }
		})
	}
}

func BenchmarkCodeIndex(b *testing.B) {
	const rows, c, v = 4096, 8, 16384
	bench(b, "4096-16384x8", 2*rows*c*v, func(b *testing.B, p *Pool) func() {
		z, book, idx := random(b, 1, rows*c, 1), random(b, 2, v*c, 1), random(b, 3, rows, 1)
		return func() { p.CodeIndex(rows, c, v, z, book, idx) }
	})
}

// BenchmarkPack reports the rate in bytes of checkpoint weights.
func BenchmarkPack(b *testing.B) {
	s := ConvShape{N: 1, H: 32, W: 32, C: 384, O: 384, KH: 3, KW: 3, Stride: 1, PadTop: 1, PadLeft: 1, OutH: 32, OutW: 32}
	bench(b, "winograd4", 0, func(b *testing.B, p *Pool) func() {
		w := random(b, 1, s.O*s.C*9, 1)
		b.SetBytes(int64(len(w)) * 4)
		return func() {
			cw, err := PackConv(p, s, w, FP32)
			if err != nil {
				b.Fatal(err)
			}
			cw.Close()
		}
	})
	bench(b, "linear", 0, func(b *testing.B, p *Pool) func() {
		w := random(b, 1, 1536*384, 1)
		b.SetBytes(int64(len(w)) * 4)
		return func() {
			lw, err := PackLinear(p, 384, [][]float32{w}, false, FP32)
			if err != nil {
				b.Fatal(err)
			}
			lw.Close()
		}
	})
}

// BenchmarkWake measures the cost of handing a tiny task to a pool.
func BenchmarkWake(b *testing.B) {
	bench(b, "add", 0, func(b *testing.B, p *Pool) func() {
		x, y := random(b, 1, 8192, 1), random(b, 2, 8192, 1)
		return func() { p.Add(y, x, x) }
	})
}
