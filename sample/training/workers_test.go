package training

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

func threads(t *testing.T, n int) plan.Backend {
	t.Helper()
	b, err := cpu.Open(cpu.Options{Threads: n, ISA: kernel.Detect()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// TestWorkers makes steps of four batches with any number of workers and threads: values, moments and averages are the same bits,
// and those of a trainer that adds batch after batch but for rounding.
func TestWorkers(t *testing.T) {
	run := func(workers ...int) (all [][]float32, losses []Losses) {
		o := Optimizer{Average: 0.99, Clip: 0.5}
		for _, n := range workers {
			o.Workers = append(o.Workers, threads(t, n))
		}
		tr := trainer(t, tiny(t, "use_ema: true", "learn_logvar: true"), Config{}, o)
		for k := range int64(3) {
			more, err := tr.Add(batchOf(tr, 4*k), batchOf(tr, 4*k+1), batchOf(tr, 4*k+2), batchOf(tr, 4*k+3))
			if err != nil {
				t.Fatal(err)
			}
			losses = append(losses, more...)
			if _, err := tr.Step(1e-3); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range tr.params.List() {
			m, v := tr.params.Moments(p.Name)
			for _, x := range [][]float32{tr.params.Data(p.Name), m, v, tr.params.Average(p.Name)} {
				all = append(all, slices.Clone(x))
			}
		}
		return all, losses
	}
	want, losses := run(1)
	for _, workers := range [][]int{{2}, {1, 1}, {2, 1, 1}, {1, 1, 1, 1, 1}} {
		got, l := run(workers...)
		if !slices.Equal(l, losses) {
			t.Errorf("%d workers: losses %v, want %v", len(workers), l, losses)
		}
		for i := range want {
			if !slices.Equal(got[i], want[i]) {
				t.Fatalf("%d workers: array %d differs", len(workers), i)
			}
		}
	}
	got, _ := run()
	for i := range want {
		for j, v := range got[i] {
			if d := math.Abs(float64(v - want[i][j])); d > 2e-4 {
				t.Fatalf("array %d: %v without workers, %v with one", i, v, want[i][j])
			}
		}
	}
}

// TestWorkersNotFinite names the parameter whose gradient is not finite.
func TestWorkersNotFinite(t *testing.T) {
	tr := trainer(t, tiny(t), Config{}, Optimizer{Workers: []plan.Backend{threads(t, 1), threads(t, 1)}})
	b := batchOf(tr, 1)
	b.Noise[3] = float32(math.Inf(1))
	_, err := tr.Add(batchOf(tr, 0), b)
	if exitcode.Of(err) != exitcode.Internal || !strings.Contains(err.Error(), "the loss is") {
		t.Errorf("error %v", err)
	}
	if err := tr.Check(); err == nil || !strings.Contains(err.Error(), "the gradient of parameter model.diffusion_model.") {
		t.Errorf("error %v", err)
	}
}
