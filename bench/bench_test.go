package bench

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
)

const (
	full  = "cin256-v2.yaml"
	small = "small.yaml"
)

// file makes generated weights for a configuration.
func file(tb testing.TB, config string) *weights.File {
	tb.Helper()
	c, err := nn.LoadConfig(config)
	if err != nil {
		tb.Fatal(err)
	}
	var keys []weights.Param
	for _, k := range nn.Keys(c) {
		keys = append(keys, weights.Param(k))
	}
	f, err := formula.Source{}.File(keys)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

// open starts a session of a model file.
func open(tb testing.TB, config string, f *weights.File, threads int, o nn.Options) *engine.Session {
	tb.Helper()
	m, err := nn.Load(config, f, o)
	if err != nil {
		tb.Fatal(err)
	}
	return session(tb, m, threads)
}

// session runs a model.
func session(tb testing.TB, m *nn.Model, threads int) *engine.Session {
	tb.Helper()
	opts := cpu.DefaultOptions()
	opts.Threads = threads
	b, err := cpu.Open(opts)
	if err != nil {
		tb.Fatal(err)
	}
	s := engine.New(m, b)
	tb.Cleanup(func() { s.Close(); b.Close() })
	return s
}

// inputs makes standard normal values for every input but the timestep.
func inputs(n *engine.Network) map[string][]float32 {
	r := rand.New(rand.NewPCG(1, 2))
	in := map[string][]float32{}
	for _, v := range n.Plan.Inputs {
		x := make([]float32, v.Elems())
		for i := range x {
			if x[i] = float32(r.NormFloat64()); v.Name == "t" {
				x[i] = 500
			}
		}
		in[v.Name] = x
	}
	return in
}

// threads runs f with one thread and with all.
func threads(b *testing.B, f func(b *testing.B, threads int)) {
	for n := 1; n <= runtime.NumCPU(); n *= 2 {
		b.Run(fmt.Sprintf("threads=%d", n), func(b *testing.B) { f(b, n) })
	}
}

// forward measures forwards of a network: GFLOPS count the multiplications and additions of direct convolution, so that
// fast algorithms may exceed 100 % of the processor's peak.
func forward(b *testing.B, config string, threads int, o nn.Options, network func(s *engine.Session) (*engine.Network, error)) {
	pool, err := kernel.NewPool(threads, kernel.Detect())
	if err != nil {
		b.Fatal(err)
	}
	peak := pool.Peak()
	pool.Close()
	s := open(b, config, file(b, config), threads, o)
	n, err := network(s)
	if err != nil {
		b.Fatal(err)
	}
	in := inputs(n)
	if _, err := n.Run(in); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := n.Run(in); err != nil {
			b.Fatal(err)
		}
	}
	gflops := float64(n.Plan.FLOP) / 1e9 * float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(gflops, "GFLOPS")
	b.ReportMetric(100*gflops/peak, "%peak")
	b.ReportMetric(float64(s.WeightBytes())/1e6, "MB-weights")
	b.ReportMetric(float64(4*n.Plan.ArenaElems)/1e6, "MB-arena")
}

func unet(batch, size int) func(s *engine.Session) (*engine.Network, error) {
	return func(s *engine.Session) (*engine.Network, error) { return s.UNet(batch, size, size, 1) }
}

func decoder(batch, size int) func(s *engine.Session) (*engine.Network, error) {
	return func(s *engine.Session) (*engine.Network, error) { return s.Decoder(batch, size, size, nn.Quantized) }
}

// BenchmarkUNet is one prediction of the full-size cin256-v2 U-Net for a latent of 64x64.
func BenchmarkUNet(b *testing.B) {
	threads(b, func(b *testing.B, threads int) { forward(b, full, threads, nn.Options{}, unet(1, 64)) })
}

// BenchmarkUNetBatch4 is the same for four latents.
func BenchmarkUNetBatch4(b *testing.B) {
	threads(b, func(b *testing.B, threads int) { forward(b, full, threads, nn.Options{}, unet(4, 64)) })
}

// BenchmarkUNetShallow is the part of BenchmarkUNet that is left of it when the deep feature of branch 0 is reused.
func BenchmarkUNetShallow(b *testing.B) {
	threads(b, func(b *testing.B, threads int) {
		forward(b, full, threads, nn.Options{}, func(s *engine.Session) (*engine.Network, error) { return s.UNetShallow(1, 64, 64, 1, 0) })
	})
}

// BenchmarkDecodeVQF4 decodes a latent of 64x64 to an image of 256x256.
func BenchmarkDecodeVQF4(b *testing.B) {
	threads(b, func(b *testing.B, threads int) {
		forward(b, full, threads, nn.Options{FirstStageOnly: true}, decoder(1, 64))
	})
}

// BenchmarkLoad opens the full-size model file in the safetensors format, 1.8 GB in the file cache, and packs the U-Net.
func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(b.TempDir(), "model.safetensors")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(out, 1<<20)
	if err := weights.Convert(file(b, full), w, weights.ConvertOptions{}); err != nil {
		b.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	info, err := out.Stat()
	if err != nil {
		b.Fatal(err)
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	threads(b, func(b *testing.B, threads int) {
		b.SetBytes(info.Size())
		for b.Loop() {
			load(b, path, threads)
		}
	})
}

// load goes from a closed file to a network that is ready for its first step.
func load(b *testing.B, path string, threads int) {
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	m, err := nn.Load(full, f, nn.Options{})
	if err != nil {
		b.Fatal(err)
	}
	opts := cpu.DefaultOptions()
	opts.Threads = threads
	backend, err := cpu.Open(opts)
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	s := engine.New(m, backend)
	defer s.Close()
	if _, err := unet(1, 64)(s); err != nil {
		b.Fatal(err)
	}
}

// TestSmall runs the networks of the benchmarks at a small size, with one thread and with two: the results are the same bits
// and finite.
func TestSmall(t *testing.T) {
	for name, c := range map[string]struct {
		o       nn.Options
		network func(s *engine.Session) (*engine.Network, error)
	}{
		"unet":         {nn.Options{}, unet(1, 8)},
		"unet full":    {nn.Options{}, func(s *engine.Session) (*engine.Network, error) { return s.UNetFull(1, 8, 8, 1, 1) }},
		"unet shallow": {nn.Options{}, func(s *engine.Session) (*engine.Network, error) { return s.UNetShallow(1, 8, 8, 1, 1) }},
		"decoder":      {nn.Options{FirstStageOnly: true}, decoder(1, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			var first []float32
			for threads := 1; threads <= 2; threads++ {
				n, err := c.network(open(t, small, file(t, small), threads, c.o))
				if err != nil {
					t.Fatal(err)
				}
				out, err := n.Run(inputs(n))
				if err != nil {
					t.Fatal(err)
				}
				if err := engine.Finite(name, out[0]); err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = append(first, out[0]...)
				}
				for i, v := range out[0] {
					if v != first[i] {
						t.Fatalf("value %d is %v with %d threads, %v with 1", i, v, threads, first[i])
					}
				}
			}
		})
	}
}
