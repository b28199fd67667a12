package kernel

import (
	"cmp"
	"fmt"
)

// WindowShape describes a pooling over square windows: x is (N,H,W,C) and y (N,OutH,OutW,C), both NHWC. Pixels of the padding,
// which is the same on all sides but for what the output leaves out, do not count.
type WindowShape struct {
	N, H, W, C          int
	OutH, OutW          int
	Kernel, Stride, Pad int
	LdY                 int // floats from one pixel of y to the next, of the forward pass only; 0 is C
}

func (s WindowShape) ldY() int { return cmp.Or(s.LdY, s.C) }

// check panics when a window has no pixel.
func (s WindowShape) check() {
	last := func(out, in int) bool { return (out-1)*s.Stride-s.Pad < in }
	if s.Kernel < 1 || s.Stride < 1 || s.Pad < 0 || s.Pad >= s.Kernel || !last(s.OutH, s.H) || !last(s.OutW, s.W) {
		panic(fmt.Sprintf("kernel: pooling %+v has windows without a pixel", s))
	}
}

// MaxPool computes the largest values of windows. NaN is larger than any number.
func (p *Pool) MaxPool(s WindowShape, x, y []float32) { p.windowed(s, false, false, x, y) }

// AvgPool computes the means of windows, with relu those that are positive and 0 for the others.
func (p *Pool) AvgPool(s WindowShape, relu bool, x, y []float32) { p.windowed(s, true, relu, x, y) }

func (p *Pool) windowed(s WindowShape, average, relu bool, x, y []float32) {
	if s.N*s.OutH*s.OutW*s.C == 0 {
		return
	}
	s.check()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.poolWindows(s, average, relu, x[:s.N*s.H*s.W*s.C], y[:(s.N*s.OutH*s.OutW-1)*s.ldY()+s.C])
}

// PixelMean computes the means y (n,c) of all pixels of x (n,hw,c), with compensated sums.
func (p *Pool) PixelMean(n, hw, c int, x, y []float32) {
	if n*hw*c == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.k.pixelMean(n, hw, c, x[:n*hw*c], y[:n*c])
}

func (g *plain) poolWindows(s WindowShape, average, relu bool, x, y []float32) {
	g.parallel(s.N*s.OutH, func(r int) {
		image := x[r/s.OutH*s.H*s.W*s.C:]
		top, bottom := clip(r%s.OutH, s, s.H)
		for o := range s.OutW {
			left, right := clip(o, s, s.W)
			out := y[(r*s.OutW+o)*s.ldY():][:s.C]
			copy(out, image[(top*s.W+left)*s.C:])
			for row := top; row < bottom; row++ {
				for col := left; col < right; col++ {
					if row == top && col == left {
						continue
					}
					for i, v := range image[(row*s.W+col)*s.C:][:s.C] {
						switch {
						case average:
							out[i] += v
						case v > out[i] || v != v:
							out[i] = v
						}
					}
				}
			}
			if average {
				count := float32((bottom - top) * (right - left))
				for i := range out {
					out[i] /= count
				}
			}
			if relu {
				for i, v := range out {
					out[i] = act(ReLU, v)
				}
			}
		}
	})
}

// clip is the range of pixels of the o-th window along one axis.
func clip(o int, s WindowShape, size int) (from, to int) {
	from = o*s.Stride - s.Pad
	return max(from, 0), min(from+s.Kernel, size)
}

func (g *plain) pixelMean(n, hw, c int, x, y []float32) {
	g.parallel(n, func(n int) {
		for i := range c {
			sum := 0.0
			for p := range hw {
				sum += float64(x[(n*hw+p)*c+i])
			}
			y[n*c+i] = float32(sum / float64(hw))
		}
	})
}
