package inception_test

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/inception"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
)

// model has generated weights.
func model(t testing.TB) *inception.Model {
	t.Helper()
	var keys []weights.Param
	for _, k := range inception.Keys() {
		keys = append(keys, weights.Param(k))
	}
	f, err := formula.Source{}.File(keys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := inception.Bind(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// session runs it on a backend.
func session(t testing.TB, o cpu.Options) *engine.Session {
	t.Helper()
	b, err := cpu.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s := engine.NewWeights(model(t), b)
	t.Cleanup(func() { s.Close(); b.Close() })
	return s
}

func network(t testing.TB, s *engine.Session, n int, taps ...inception.Tap) *engine.Network {
	t.Helper()
	net, err := s.Network(fmt.Sprint("inception ", n, taps), func() (*nn.Graph, error) { return inception.Graph(n, taps...) })
	if err != nil {
		t.Fatal(err)
	}
	return net
}

// inputs are the images of the reference vectors whose network input is known whole, by "protocol/image": those stored, and
// those of 299x299, which no protocol resizes.
func inputs(t testing.TB) map[string][]float32 {
	t.Helper()
	dir := golden.Dir(t, "eval", "features")
	all := map[string][]float32{}
	protocols := map[string]bool{}
	for _, e := range golden.Tensors(t, filepath.Join(dir, "inputs_299.safetensors")) {
		protocol, _, _ := strings.Cut(e.Name, "/")
		protocols[protocol] = true
		if !strings.Contains(e.Name, "#") {
			all[e.Name] = e.Float32s(t)
		}
	}
	for _, e := range golden.Tensors(t, filepath.Join(dir, "images.safetensors")) {
		if !slices.Equal(e.Shape, []int{inception.Size, inception.Size, 3}) {
			continue
		}
		for p := range protocols {
			x := make([]float32, len(e.Data))
			for i, v := range e.Uint8s(t) {
				at := i%3*inception.Size*inception.Size + i/3
				if x[at] = (float32(v) - 128) / 128; p == "pytorch_fid" {
					x[at] = 2*(float32(v)/255) - 1
				}
			}
			all[p+"/"+e.Name] = x
		}
	}
	return all
}

// TestGoldenTaps compares every tap of every known input with PyTorch's float32; on instruction sets that are not the best of
// this machine, of one input.
func TestGoldenTaps(t *testing.T) {
	want := map[string][]float32{}
	for _, e := range golden.Tensors(t, filepath.Join(golden.Dir(t, "eval", "features"), "taps_f32.safetensors")) {
		want[e.Name] = e.Float32s(t)
	}
	in := inputs(t)
	if len(in) < 8 {
		t.Errorf("%d inputs", len(in))
	}
	for _, isa := range kernel.Available() {
		if isa == kernel.Generic && len(kernel.Available()) > 1 || isa == kernel.Wide {
			continue // builds without C compare the former; the latter is for tests of kernels
		}
		net := network(t, session(t, cpu.Options{Threads: 2, ISA: isa}), 1, inception.Taps...)
		worst := map[inception.Tap]float64{}
		for name, x := range in {
			if slow := isa != kernel.Detect() || isa == kernel.Generic; slow && name != "torch_fidelity/200x333" {
				continue
			}
			out, err := net.Run(map[string][]float32{"image": x})
			if err != nil {
				t.Fatal(err)
			}
			for i, tap := range inception.Taps {
				worst[tap] = max(worst[tap], relMax(out[i], want[name+"/"+string(tap)]))
			}
		}
		for _, tap := range inception.Taps {
			golden.Line(t, fmt.Sprintf("eval/features %s %v", tap, isa), worst[tap], 5e-6)
			if !(worst[tap] <= 5e-6) {
				t.Errorf("%v: tap %s differs by %.1e of its largest value", isa, tap, worst[tap])
			}
		}
	}
}

// relMax is the largest difference relative to the largest wanted value.
func relMax(got, want []float32) float64 {
	if len(got) != len(want) || len(want) == 0 {
		return math.Inf(1)
	}
	var d, most float64
	for i, w := range want {
		e := math.Abs(float64(got[i]) - float64(w))
		if math.IsNaN(e) {
			return e
		}
		d, most = max(d, e), max(most, math.Abs(float64(w)))
	}
	return d / most
}

// TestSameBits checks that features depend neither on the batch nor on the number of threads nor on what else is asked for.
func TestSameBits(t *testing.T) {
	if kernel.Detect() == kernel.Generic {
		t.Skip("takes a minute without C; the tests of the kernels compare bits")
	}
	taps := []inception.Tap{inception.Pool3, inception.Spatial, inception.Unbiased}
	var images []float32
	in := inputs(t)
	for _, name := range []string{"torch_fidelity/200x333", "pytorch_fid/299x299"} {
		images = append(images, in[name]...)
	}
	o := cpu.DefaultOptions()
	o.Threads = 2
	two := session(t, o)
	var both [][]float32
	out, err := network(t, two, 2, taps...).Run(map[string][]float32{"image": images})
	if err != nil {
		t.Fatal(err)
	}
	for _, y := range out {
		both = append(both, slices.Clone(y))
	}
	o.Threads = 1
	one := session(t, o)
	for i := range 2 {
		x := images[i*len(images)/2 : (i+1)*len(images)/2]
		out, err := network(t, one, 1, taps...).Run(map[string][]float32{"image": x})
		if err != nil {
			t.Fatal(err)
		}
		for k, y := range out {
			if !slices.Equal(y, both[k][i*len(y):(i+1)*len(y)]) {
				t.Errorf("image %d: tap %s has other bits alone with one thread", i, taps[k])
			}
		}
		alone, err := network(t, two, 1, inception.Pool3).Run(map[string][]float32{"image": x})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(alone[0], out[0]) {
			t.Errorf("image %d: other bits when one tap is asked for", i)
		}
	}
}

// BenchmarkInception is one image through the network, up to the features of FID.
func BenchmarkInception(b *testing.B) {
	for _, n := range []int{1, 8} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("batch=%d/threads=%d", n, threads), func(b *testing.B) {
				o := cpu.DefaultOptions()
				o.Threads = threads
				net := network(b, session(b, o), n, inception.Pool3)
				in := map[string][]float32{"image": make([]float32, n*3*inception.Size*inception.Size)}
				for b.Loop() {
					if _, err := net.Run(in); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "images/s")
				b.ReportMetric(float64(net.Plan.FLOP)*float64(b.N)/1e9/b.Elapsed().Seconds(), "GFLOPS")
			})
		}
	}
}
