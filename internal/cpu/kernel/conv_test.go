package kernel

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// refConv is the definition of the convolution with its epilogue, in float64.
func refConv(s ConvShape, w, x []float32, e Epilogue) []float64 {
	y := make([]float64, s.outLen())
	inH, inW := s.H, s.W
	if s.Upsample {
		inH, inW = s.H/2, s.W/2
	}
	for n := range s.N {
		for oy := range s.OutH {
			for ox := range s.OutW {
				out := y[((n*s.OutH+oy)*s.OutW+ox)*s.O:][:s.O]
				for ky := range s.KH {
					for kx := range s.KW {
						iy, ix := oy*s.Stride+ky-s.PadTop, ox*s.Stride+kx-s.PadLeft
						if iy < 0 || iy >= s.H || ix < 0 || ix >= s.W {
							continue
						}
						if s.Upsample {
							iy, ix = iy/2, ix/2
						}
						in := x[((n*inH+iy)*inW+ix)*s.C:][:s.C]
						for o := range out {
							for c, v := range in {
								out[o] += float64(v) * float64(w[((o*s.C+c)*s.KH+ky)*s.KW+kx])
							}
						}
					}
				}
			}
		}
	}
	refEpilogue(y, s.O, s.OutH*s.OutW, e)
	return y
}

func refEpilogue(y []float64, o, rowsPerSample int, e Epilogue) {
	stride := e.SampleStride
	if stride == 0 {
		stride = o
	}
	for i := range y {
		if e.Bias != nil {
			y[i] += float64(e.Bias[i%o])
		}
		if e.SampleBias != nil {
			y[i] += float64(e.SampleBias[i/o/rowsPerSample*stride+i%o])
		}
		y[i] = refAct(e.Act, y[i])
		if e.Residual != nil {
			y[i] += float64(e.Residual[i])
		}
	}
}

func TestConv(t *testing.T) {
	square := func(n, h, w, c, o, k, stride, pad int) ConvShape {
		return ConvShape{N: n, H: h, W: w, C: c, O: o, KH: k, KW: k, Stride: stride, PadTop: pad, PadLeft: pad,
			OutH: (h+2*pad-k)/stride + 1, OutW: (w+2*pad-k)/stride + 1}
	}
	up := square(2, 16, 12, 32, 32, 3, 1, 1)
	up.Upsample = true
	up2 := square(2, 8, 6, 48, 32, 3, 1, 1)
	up2.Upsample = true
	upOdd := square(2, 6, 10, 5, 7, 3, 1, 1)
	upOdd.Upsample = true
	line := func(n, h, w, c, o, kh, kw, padTop, padLeft int) ConvShape {
		return ConvShape{N: n, H: h, W: w, C: c, O: o, KH: kh, KW: kw, Stride: 1, PadTop: padTop, PadLeft: padLeft,
			OutH: h + 2*padTop - kh + 1, OutW: w + 2*padLeft - kw + 1}
	}
	upFive := square(2, 16, 18, 20, 24, 5, 1, 2)
	upFive.Upsample = true
	asym := ConvShape{N: 2, H: 9, W: 12, C: 16, O: 24, KH: 3, KW: 3, Stride: 2, OutH: 4, OutW: 6}
	cases := []ConvShape{
		square(2, 16, 16, 64, 64, 3, 1, 1),  // F(4,3), even tiles
		square(3, 18, 15, 32, 96, 3, 1, 1),  // F(4,3), ragged tiles
		square(1, 33, 17, 48, 40, 3, 1, 1),  // F(4,3), odd everything
		square(2, 17, 19, 20, 28, 3, 1, 1),  // channels that are no multiple of 8 or 16
		square(2, 16, 16, 33, 35, 3, 1, 1),  // odd channels
		square(2, 64, 68, 16, 24, 3, 1, 1),  // enough tiles for blocks of each thread's own
		square(3, 8, 8, 64, 48, 3, 1, 1),    // F(2,3)
		square(2, 7, 5, 40, 36, 3, 1, 1),    // F(2,3), ragged
		square(5, 1, 1, 32, 32, 3, 1, 1),    // one pixel
		square(2, 2, 3, 64, 64, 3, 1, 1),    // smaller than a tile
		square(2, 12, 12, 3, 64, 3, 1, 1),   // first layer of a network
		square(2, 12, 12, 64, 3, 3, 1, 1),   // last layer
		square(1, 5, 7, 1, 1, 3, 1, 1),      // smallest channels
		square(2, 9, 9, 24, 40, 1, 1, 0),    // 1x1
		square(2, 16, 16, 32, 48, 3, 2, 1),  // stride 2
		square(2, 15, 13, 17, 19, 3, 2, 1),  // stride 2, odd
		square(2, 35, 37, 24, 40, 3, 2, 0),  // Winograd with stride 2
		square(1, 36, 34, 33, 17, 3, 2, 1),  // with padding, odd channels
		square(3, 64, 62, 16, 20, 3, 2, 1),  // blocks of each thread's own
		square(2, 9, 8, 12, 20, 4, 2, 1),    // discriminator kernel
		square(1, 8, 8, 6, 5, 4, 1, 1),      // even kernel
		square(1, 11, 11, 9, 9, 5, 1, 2),    // 5x5
		square(1, 4, 4, 700, 24, 3, 1, 1),   // sums longer than a stretch
		square(2, 19, 21, 20, 36, 3, 1, 0),  // F(4,3) without padding
		square(1, 16, 15, 16, 16, 3, 1, 2),  // F(4,3) with more padding than taps can use
		square(2, 9, 8, 33, 17, 3, 1, 0),    // F(2,3) without padding
		square(2, 16, 15, 24, 40, 5, 1, 2),  // F(4,5)
		square(3, 34, 31, 17, 33, 5, 1, 0),  // F(4,5) without padding, blocks of each thread's own
		line(2, 17, 17, 32, 48, 1, 7, 0, 3), // F(4,7) in rows
		line(2, 17, 17, 32, 48, 7, 1, 3, 0), // and in columns
		line(3, 20, 37, 17, 35, 1, 7, 0, 0), // without padding, odd channels
		line(3, 37, 19, 35, 17, 7, 1, 0, 0),
		line(2, 2, 3, 16, 16, 1, 7, 0, 3),   // smaller than a tile
		line(2, 64, 64, 16, 20, 7, 1, 3, 0), // blocks of each thread's own
		line(2, 8, 8, 40, 72, 1, 3, 0, 1),   // F(4,3) in rows
		line(2, 8, 8, 40, 72, 3, 1, 1, 0),   // and in columns
		{N: 1, H: 4, W: 4, C: 600, O: 17, KH: 1, KW: 1, Stride: 1, OutH: 4, OutW: 4},
		{N: 2, H: 5, W: 6, C: 8, O: 16, KH: 1, KW: 3, Stride: 1, PadLeft: 1, OutH: 5, OutW: 6},
		{N: 2, H: 34, W: 36, C: 16, O: 24, KH: 3, KW: 3, Stride: 2, OutH: 17, OutW: 18}, // padding behind alone
		asym, up, up2, upOdd, upFive,
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for i, s := range cases {
			t.Run(fmt.Sprintf("%dx%dx%dx%d-%d-k%dx%ds%dp%dx%d-up%v", s.N, s.H, s.W, s.C, s.O, s.KH, s.KW, s.Stride, s.PadTop, s.PadLeft, s.Upsample), func(t *testing.T) {
				fan := float64(s.C * s.KH * s.KW)
				w := random(t, 1, s.O*s.C*s.KH*s.KW, 1/sqrt(fan))
				x := random(t, 2, s.inLen(), 1)
				residual := random(t, 3, s.outLen(), 1)
				stride := s.O + 5
				epilogues := []Epilogue{
					{Bias: random(t, 4, s.O, 1)},
					{Bias: random(t, 4, s.O, 1), SampleBias: random(t, 5, s.N*stride, 1), SampleStride: stride, Residual: residual},
					{Bias: random(t, 4, s.O, 1), Act: SiLU, Residual: residual},
					{SampleBias: random(t, 5, s.N*s.O, 1), Act: GELU},
					{},
					{Bias: random(t, 4, s.O, 1), Act: ReLU},
				}
				e := epilogues[i%len(epilogues)]
				cw, err := PackConv(ps[1], s, w, FP32)
				if err != nil {
					t.Fatal(err)
				}
				defer cw.Close()
				tol := 1e-6
				if cw.Algorithm() != "direct" {
					tol = 3e-6
				}
				y := same(t, ps, s.outLen(), func(p *Pool, y []float32) { p.Conv(s, cw, x, y, e) }, x, w, residual, e.Bias, e.SampleBias)
				near(t, y, refConv(s, w, x, e), tol)
				checkSamples(t, ps, s, cw, x, y, e)
				if e.Residual == nil {
					apart := s
					apart.LdY = s.O + 3
					wide := same(t, ps, apart.outLen(), func(p *Pool, y []float32) { p.Conv(apart, cw, x, y, e) })
					identical(t, "pixels apart", columns(t, wide, s.O, apart.LdY), y)
				}
				if e.Residual != nil { // in place
					inPlace := same(t, ps, s.outLen(), func(p *Pool, y []float32) {
						copy(y, residual)
						e := e
						e.Residual = y
						p.Conv(s, cw, x, y, e)
					})
					identical(t, "in place", inPlace, y)
				}
				if ps[0].ISA().BF16() {
					mixed, err := PackConv(ps[1], s, w, Mixed)
					if err != nil {
						t.Fatal(err)
					}
					defer mixed.Close()
					y := same(t, ps, s.outLen(), func(p *Pool, y []float32) { p.Conv(s, mixed, x, y, e) }, x)
					near(t, y, refConv(s, w, x, e), 1e-2)
					checkSamples(t, ps, s, mixed, x, y, e)
				}
			})
		}
	})
}

// checkSamples runs each sample by itself and compares bit by bit.
func checkSamples(t *testing.T, ps []*Pool, s ConvShape, w *ConvWeights, x, y []float32, e Epilogue) {
	t.Helper()
	one := s
	one.N = 1
	in, out := s.inLen()/s.N, s.outLen()/s.N
	stride := e.SampleStride
	if stride == 0 {
		stride = s.O
	}
	for n := range s.N {
		f := e
		if e.SampleBias != nil {
			f.SampleBias = e.SampleBias[n*stride:]
		}
		if e.Residual != nil {
			f.Residual = e.Residual[n*out:]
		}
		single, check := guarded(t, out)
		ps[n%len(ps)].Conv(one, w, x[n*in:], single, f)
		check()
		identical(t, fmt.Sprintf("sample %d alone", n), single, y[n*out:][:out])
	}
}

func TestPackConvErrors(t *testing.T) {
	p, err := NewPool(1, Generic)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	good := ConvShape{H: 4, W: 4, C: 2, O: 2, KH: 3, KW: 3, Stride: 1, PadTop: 1, PadLeft: 1, OutH: 4, OutW: 4}
	if _, err := PackConv(p, good, make([]float32, 35), FP32); err == nil {
		t.Error("short weights were accepted")
	}
	if _, err := PackConv(p, good, make([]float32, 36), Mixed); exitcode.Of(err) != exitcode.Unavailable {
		t.Errorf("mixed precision in plain Go: %v", err)
	}
	for _, change := range []func(*ConvShape){
		func(s *ConvShape) { s.C = 0 }, func(s *ConvShape) { s.Stride = 0 }, func(s *ConvShape) { s.KH = 99 },
		func(s *ConvShape) { s.Upsample, s.H = true, 5 }, func(s *ConvShape) { s.PadTop = -1 },
	} {
		s := good
		change(&s)
		if _, err := PackConv(p, s, make([]float32, s.O*s.C*s.KH*s.KW), FP32); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
	_, err = NewPool(1, ISA(99))
	var class *exitcode.Error
	if !errors.As(err, &class) || class.Code != exitcode.Unavailable {
		t.Errorf("unknown instruction set: %v", err)
	}
}
