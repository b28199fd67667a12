package kernel

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// Several goroutines share a pool while another pool works, with pauses long enough for the threads to fall asleep.
func TestPoolConcurrent(t *testing.T) {
	eachISA(t, func(t *testing.T, ps []*Pool) {
		x := random(t, 1, 40000, 1)
		want := same(t, ps, len(x), func(p *Pool, y []float32) { p.SiLU(x, y) })
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				y := make([]float32, len(x))
				for i := range 20 {
					ps[1+g%2].SiLU(x, y)
					for k := range y {
						if y[k] != want[k] {
							t.Errorf("goroutine %d, run %d, element %d: %v, want %v", g, i, k, y[k], want[k])
							return
						}
					}
					if i%5 == g {
						time.Sleep(time.Millisecond)
					}
				}
			})
		}
		wg.Wait()
	})
}

// More threads than processors, and than there is work, change nothing.
func TestManyThreads(t *testing.T) {
	for _, isa := range Available() {
		p, err := NewPool(9, isa)
		if err != nil {
			t.Fatal(err)
		}
		one, err := NewPool(1, isa)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []ConvShape{
			{N: 2, H: 72, W: 72, C: 16, O: 16, KH: 3, KW: 3, Stride: 1, PadTop: 1, PadLeft: 1, OutH: 72, OutW: 72},
			{N: 1, H: 4, W: 4, C: 40, O: 24, KH: 3, KW: 3, Stride: 1, PadTop: 1, PadLeft: 1, OutH: 4, OutW: 4},
			{N: 1, H: 9, W: 9, C: 8, O: 100, KH: 3, KW: 3, Stride: 2, PadTop: 1, PadLeft: 1, OutH: 5, OutW: 5},
		} {
			t.Run(fmt.Sprintf("%v-%dx%d", isa, s.H, s.C), func(t *testing.T) {
				w, err := PackConv(p, s, random(t, 1, s.O*s.C*9, 0.1), FP32)
				if err != nil {
					t.Fatal(err)
				}
				defer w.Close()
				p.ReserveConv(s, w)
				x := random(t, 2, s.inLen(), 1)
				same(t, []*Pool{one, p}, s.outLen(), func(p *Pool, y []float32) { p.Conv(s, w, x, y, Epilogue{}) })
			})
		}
		a := PackedAttention(1, 20, 20, 2, 8, 1)
		p.ReserveAttention(a, FP32)
		qkv := random(t, 3, 20*16, 1)
		same(t, []*Pool{one, p}, 20*16, func(p *Pool, y []float32) { p.Attention(a, qkv, qkv, qkv, y, FP32) })
		p.Close()
		one.Close()
	}
}

func TestISANames(t *testing.T) {
	for _, isa := range Available() {
		if got, err := ParseISA(isa.String()); err != nil || got != isa {
			t.Errorf("%v is parsed as %v, %v", isa, got, err)
		}
	}
	if _, err := ParseISA("abacus"); err == nil {
		t.Error("an unknown name was accepted")
	}
}
