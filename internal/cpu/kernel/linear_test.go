package kernel

import (
	"fmt"
	"math"
	"testing"
)

func sqrt(x float64) float64 { return math.Sqrt(x) }

func refLinear(s LinearShape, w, x []float32) []float64 {
	y := make([]float64, s.Rows*s.Out)
	for r := range s.Rows {
		for o := range s.Out {
			var sum float64
			for i := range s.In {
				sum += float64(x[r*s.LdX+i]) * float64(w[o*s.In+i])
			}
			y[r*s.Out+o] = sum
		}
	}
	return y
}

// pick copies the rows of a strided matrix.
func pick(x []float32, rows, cols, ld int) []float32 {
	var y []float32
	for r := range rows {
		y = append(y, x[r*ld:][:cols]...)
	}
	return y
}

func TestLinear(t *testing.T) {
	cases := []struct {
		s     LinearShape
		parts []int
	}{
		{LinearShape{Rows: 1, In: 1, Out: 1}, []int{1}},
		{LinearShape{Rows: 1, In: 192, Out: 768}, []int{768}},
		{LinearShape{Rows: 7, In: 33, Out: 31}, []int{31}},
		{LinearShape{Rows: 64, In: 96, Out: 96 * 3}, []int{96, 96, 96}},
		{LinearShape{Rows: 65, In: 100, Out: 77, LdX: 103, LdY: 81}, []int{13, 64}},
		{LinearShape{Rows: 60, In: 2000, Out: 48, RowsPerSample: 20}, []int{48}},
		{LinearShape{Rows: 28, In: 64, Out: 32, LdY: 96, RowsPerSample: 14}, []int{32}},
		{LinearShape{Rows: 130, In: 257, Out: 129}, []int{129}},
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for i, c := range cases {
			s := c.s.withDefaults()
			t.Run(fmt.Sprintf("%dx%d-%d", s.Rows, s.In, s.Out), func(t *testing.T) {
				w := random(t, 1, s.Out*s.In, 1/sqrt(float64(s.In)))
				x := random(t, 2, s.Rows*s.LdX, 1)
				residual := random(t, 3, s.Rows*s.LdY, 1)
				samples := (s.Rows + s.RowsPerSample - 1) / s.RowsPerSample
				e := []Epilogue{
					{Bias: random(t, 4, s.Out, 1), SampleBias: random(t, 5, samples*(s.Out+3), 1), SampleStride: s.Out + 3, Act: SiLU, Residual: residual},
					{Bias: random(t, 4, s.Out, 1)},
					{SampleBias: random(t, 5, samples*s.Out, 1), Residual: residual},
					{Bias: random(t, 4, s.Out, 1), Act: GELU},
				}[i%4]
				var parts [][]float32
				at := 0
				for _, o := range c.parts {
					parts = append(parts, w[at*s.In:(at+o)*s.In])
					at += o
				}
				want := refLinear(s, w, x)
				dense := e
				if e.Residual != nil {
					dense.Residual = pick(residual, s.Rows, s.Out, s.LdY)
				}
				refEpilogue(want, s.Out, s.RowsPerSample, dense)
				for _, prec := range []Precision{FP32, Mixed} {
					if prec == Mixed && !ps[0].ISA().BF16() {
						continue
					}
					lw, err := PackLinear(ps[1], s.In, parts, false, prec)
					if err != nil {
						t.Fatal(err)
					}
					defer lw.Close()
					y := same(t, ps, s.Rows*s.LdY, func(p *Pool, y []float32) {
						for i := range y {
							y[i] = 7 // between the rows of a strided output nothing may change
						}
						p.Linear(s, lw, x, y, e)
					}, x, w, residual)
					near(t, pick(y, s.Rows, s.Out, s.LdY), want, []float64{1e-6, 2e-2}[prec])
					for r := range s.Rows {
						for _, v := range y[r*s.LdY+s.Out : (r+1)*s.LdY] {
							if v != 7 {
								t.Fatalf("wrote between rows, after row %d", r)
							}
						}
					}
					// Each row by itself gives the same bits.
					for _, r := range []int{0, s.Rows / 2, s.Rows - 1} {
						f := e
						if e.SampleBias != nil {
							f.SampleBias = e.SampleBias[r/s.RowsPerSample*max(e.SampleStride, s.Out):]
						}
						if e.Residual != nil {
							f.Residual = residual[r*s.LdY:]
						}
						single, check := guarded(t, s.Out)
						ps[r%3].Linear(LinearShape{Rows: 1, In: s.In, Out: s.Out}, lw, x[r*s.LdX:], single, f)
						check()
						identical(t, fmt.Sprintf("row %d alone", r), single, y[r*s.LdY:][:s.Out])
					}
				}
			})
		}
	})
}

func TestLinearGEGLU(t *testing.T) {
	cases := []LinearShape{
		{Rows: 1, In: 3, Out: 1}, {Rows: 33, In: 40, Out: 24}, {Rows: 64, In: 96, Out: 4 * 96}, {Rows: 20, In: 65, Out: 37, LdX: 70, LdY: 40},
		{Rows: 29, In: 700, Out: 16},
	}
	eachISA(t, func(t *testing.T, ps []*Pool) {
		for _, s := range cases {
			s := s.withDefaults()
			t.Run(fmt.Sprintf("%dx%d-%d", s.Rows, s.In, s.Out), func(t *testing.T) {
				w := random(t, 1, 2*s.Out*s.In, 1/sqrt(float64(s.In)))
				x := random(t, 2, s.Rows*s.LdX, 1)
				bias := random(t, 3, 2*s.Out, 1)
				residual := random(t, 4, s.Rows*s.LdY, 1)
				both := s
				both.Out *= 2
				h := refLinear(both, w, x)
				want := make([]float64, s.Rows*s.Out)
				for r := range s.Rows {
					for o := range s.Out {
						v, g := h[r*2*s.Out+o]+float64(bias[o]), h[r*2*s.Out+s.Out+o]+float64(bias[s.Out+o])
						want[r*s.Out+o] = v*refAct(GELU, g) + float64(residual[r*s.LdY+o])
					}
				}
				for _, prec := range []Precision{FP32, Mixed} {
					if prec == Mixed && !ps[0].ISA().BF16() {
						continue
					}
					lw, err := PackLinear(ps[1], s.In, [][]float32{w}, true, prec)
					if err != nil {
						t.Fatal(err)
					}
					defer lw.Close()
					y := same(t, ps, s.Rows*s.LdY, func(p *Pool, y []float32) {
						p.Linear(s, lw, x, y, Epilogue{Bias: bias, Residual: residual})
					}, x, w, bias, residual)
					near(t, pick(y, s.Rows, s.Out, s.LdY), want, []float64{1e-6, 2e-2}[prec])
				}
			})
		}
	})
}

func TestPackLinearErrors(t *testing.T) {
	p, err := NewPool(1, Generic)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, c := range []struct {
		in    int
		parts [][]float32
		geglu bool
	}{
		{0, [][]float32{make([]float32, 4)}, false}, {3, nil, false}, {3, [][]float32{make([]float32, 4)}, false},
		{2, [][]float32{make([]float32, 6)}, true}, {2, [][]float32{make([]float32, 4), make([]float32, 4)}, true},
	} {
		if _, err := PackLinear(p, c.in, c.parts, c.geglu, FP32); err == nil {
			t.Errorf("%d inputs, %d parts, geglu %v were accepted", c.in, len(c.parts), c.geglu)
		}
	}
}
