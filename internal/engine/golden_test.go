package engine_test

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

// TestGoldenDenoisers compares every reference U-Net on every instruction set and precision of this machine.
func TestGoldenDenoisers(t *testing.T) {
	goldencase.Each(t, "denoiser", func(t *testing.T, c *goldencase.Case) {
		x, shape := c.Tensor("x")
		in := map[string][]float32{"x": x, "t": c.Values("t")}
		tokens := 0
		if c.Has("context") {
			ctx, s := c.Tensor("context")
			in["context"], tokens = ctx, s[1]
		}
		if c.Has("y") {
			in["y"] = c.Values("y")
		}
		for _, isa := range kernel.Available() {
			if isa == kernel.Generic && len(kernel.Available()) > 1 {
				continue // builds without C compare this one
			}
			for _, prec := range []kernel.Precision{kernel.FP32, kernel.Mixed} {
				if prec == kernel.Mixed && !isa.BF16() {
					continue
				}
				b, err := cpu.Open(cpu.Options{Threads: 2, ISA: isa, Precision: prec})
				if err != nil {
					t.Fatal(err)
				}
				s := engine.New(c.Model(nn.Options{}), b)
				net, err := s.UNet(shape[0], shape[2], shape[3], tokens)
				if err != nil {
					t.Fatal(err)
				}
				out, err := net.Run(in)
				if err != nil {
					t.Fatal(err)
				}
				tol := 1e-5
				if prec == kernel.Mixed {
					tol = 1e-2
				}
				golden.Near(t, fmt.Sprintf("denoiser/%s eps %v %v", c.Name, isa, prec), out[0], c.Values("eps"), tol)
				s.Close()
				b.Close()
			}
		}
	})
}
