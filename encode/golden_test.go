package encode

import (
	"fmt"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
)

// TestGoldenFirstStages compares every reference autoencoder, both ways, on every instruction set of this machine.
func TestGoldenFirstStages(t *testing.T) {
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		for _, isa := range kernel.Available() {
			if isa == kernel.Generic && len(kernel.Available()) > 1 {
				continue // builds without C compare this one
			}
			for _, prec := range []kernel.Precision{kernel.FP32, kernel.Mixed} {
				if prec == kernel.Mixed && !isa.BF16() {
					continue
				}
				compare(t, c, isa, prec)
			}
		}
	})
}

func compare(t *testing.T, c *goldencase.Case, isa kernel.ISA, prec kernel.Precision) {
	b, err := cpu.Open(cpu.Options{Threads: 2, ISA: isa, Precision: prec})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := engine.New(c.Model(nn.Options{}), b)
	defer s.Close()
	f, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	tol := 1e-5
	if prec == kernel.Mixed {
		tol = 1e-2
	}
	near := func(what string, got []float32, err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		golden.Near(t, fmt.Sprintf("first_stage/%s %s %v %v", c.Name, what, isa, prec), got, c.Values(want), tol)
	}
	image, shape := c.Tensor("image")
	n, h, w := shape[0], shape[2], shape[3]
	latent, decodes := "latent", "latent" // what the encoder gives, and what the reference decodes
	if f.Stochastic() {
		latent, decodes = "mode", "sample"
		z, err := f.Encode(image, n, h, w, Options{Noise: c.Values("noise")})
		near("sample", z, err, "sample")
	}
	z, err := f.Encode(image, n, h, w, Options{})
	near(latent, z, err, latent)
	z = c.Values(decodes) // errors of the two halves do not add up
	x, err := f.Decode(z, n, h/f.Factor(), w/f.Factor(), nn.Quantized)
	near("decoded", x, err, "decoded")
	if f.Stochastic() {
		return
	}
	x, err = f.Decode(z, n, h/f.Factor(), w/f.Factor(), nn.NotQuantized)
	near("decoded_not_quantized", x, err, "decoded_not_quantized")
	q, err := s.Quantizer(n, h/f.Factor(), w/f.Factor())
	if err != nil {
		t.Fatal(err)
	}
	out, err := q.Run(map[string][]float32{"z": z})
	if err != nil {
		t.Fatal(err)
	}
	near("quantized", out[0], err, "quantized")
	codes, err := s.Codes(n, h/f.Factor(), w/f.Factor())
	if err != nil {
		t.Fatal(err)
	}
	out, err = codes.Run(map[string][]float32{"z": z})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range c.Values("indices") {
		if out[0][i] != want {
			t.Fatalf("code %d is %g, want %g", i, out[0][i], want)
		}
	}
}
