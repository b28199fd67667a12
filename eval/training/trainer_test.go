package training

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn/classifier"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

var small = classifier.Config{Classes: []string{"dark", "lying", "standing"}, Size: 8, Channels: []int{8, 16}}

func backend(t testing.TB, threads int) plan.Backend {
	t.Helper()
	b, err := cpu.Open(cpu.Options{Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func trainer(t testing.TB, threads int, decay, clip float64) *Trainer {
	t.Helper()
	x, err := New(Options{Config: small, WeightDecay: decay, Clip: clip, Backend: backend(t, threads)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	x.Initialize(3)
	return x
}

// toys are noise: without more, with a bright row, with a bright column.
func toys(n int, seed uint64) (images []float32, labels []int64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		image := make([]float32, 3*8*8)
		for j := range image {
			image[j] = float32(0.3*r.NormFloat64()) - 0.5
		}
		at := r.IntN(8)
		for j := range 3 * 8 {
			switch i % 3 {
			case 1:
				image[j/8*64+at*8+j%8] += 1.5
			case 2:
				image[j/8*64+j%8*8+at] += 1.5
			}
		}
		images, labels = append(images, image...), append(labels, int64(i%3))
	}
	return images, labels
}

func steps(t testing.TB, x *Trainer, from, to int) (losses []float64) {
	t.Helper()
	for i := from; i < to; i++ {
		images, labels := toys(24, uint64(i))
		r, err := x.Add(images, labels)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.Step(5e-3); err != nil {
			t.Fatal(err)
		}
		losses = append(losses, r.Loss)
	}
	return losses
}

// TestLearns trains on a set that is easy to tell apart, to the same bits with any number of threads.
func TestLearns(t *testing.T) {
	x := trainer(t, 2, 0.01, 5)
	losses := steps(t, x, 0, 40)
	if first, last := losses[0], losses[len(losses)-1]; !(first > 0.8 && last < 0.25) {
		t.Errorf("the loss goes from %.3f to %.3f", first, last)
	}
	images, labels := toys(150, 1000)
	r, err := x.Validate(images, labels)
	if err != nil || r.Right < 147 || !(r.Loss < 0.25) {
		t.Errorf("%d of 150 are right, loss %.3f, %v", r.Right, r.Loss, err)
	}
	if err := x.Check(); err != nil || x.Steps() != 40 {
		t.Errorf("%d steps, %v", x.Steps(), err)
	}
	if one := steps(t, trainer(t, 1, 0.01, 5), 0, 5); !slices.Equal(one, losses[:5]) {
		t.Errorf("losses with one thread are %v, with two %v", one, losses[:5])
	}
}

// TestAccumulation compares two halves of a batch with the whole.
func TestAccumulation(t *testing.T) {
	whole, halves := trainer(t, 1, 0, 0), trainer(t, 1, 0, 0)
	images, labels := toys(12, 1)
	if _, err := whole.Add(images, labels); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if _, err := halves.Add(images[i*len(images)/2:(i+1)*len(images)/2], labels[i*6:(i+1)*6]); err != nil {
			t.Fatal(err)
		}
	}
	a, err := whole.Step(1e-3)
	if err != nil {
		t.Fatal(err)
	}
	b, err := halves.Step(1e-3)
	if err != nil {
		t.Fatal(err)
	}
	if d := (a - b) / a; d > 1e-5 || d < -1e-5 {
		t.Errorf("norm of the gradient %v of the whole batch, %v of its halves", a, b)
	}
}

// TestRestore goes on from what Model and Optimiser list, to the bits of a training that was not stopped.
func TestRestore(t *testing.T) {
	whole, stopped, other := trainer(t, 1, 0.01, 1), trainer(t, 1, 0.01, 1), trainer(t, 1, 0.01, 1)
	want := steps(t, whole, 0, 6)
	steps(t, stopped, 0, 3)
	file := func(list []*weights.Tensor, err error) *weights.File {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		f, err := weights.NewMemory(list)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	model, optimiser := file(stopped.Model()), file(stopped.Optimiser())
	if err := other.Restore(model, optimiser, stopped.Steps()); err != nil {
		t.Fatal(err)
	}
	if got := steps(t, other, 3, 6); !slices.Equal(got, want[3:]) {
		t.Errorf("losses %v, want %v", got, want[3:])
	}
	for _, p := range whole.Params().List() {
		if !slices.Equal(whole.Params().Data(p.Name), other.Params().Data(p.Name)) {
			t.Errorf("%s differs", p.Name)
		}
	}
	if err := other.Restore(model, model, 3); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "no entry exp_avg.stem.weight") {
		t.Errorf("without an optimiser: %v", err)
	}
	if _, err := classifier.Bind(small, model); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	x := trainer(t, 1, 0, 0)
	images, labels := toys(2, 1)
	if _, err := x.Step(1); exitcode.Of(err) != exitcode.Internal {
		t.Errorf("a step without a batch: %v", err)
	}
	if _, err := x.Add(images[1:], labels); err == nil {
		t.Error("a value too few: no error")
	}
	if _, err := x.Add(images, []int64{0, 3}); err == nil || !strings.Contains(err.Error(), "3 is not one of 3 classes") {
		t.Errorf("a label too large: %v", err)
	}
	x.Params().Data("head.bias")[1] = float32(math.Inf(1))
	x.Params().Changed()
	if _, err := x.Add(images, labels); exitcode.Of(err) != exitcode.Internal || !strings.Contains(err.Error(), "loss is not finite") {
		t.Errorf("an infinite bias: %v", err)
	}
	if err := x.Check(); exitcode.Of(err) != exitcode.Internal || !strings.Contains(err.Error(), "parameter head.bias") {
		t.Errorf("an infinite bias: %v", err)
	}
	if _, err := New(Options{Config: classifier.Config{}, Backend: backend(t, 1)}); exitcode.Of(err) != exitcode.Data {
		t.Errorf("an empty configuration: %v", err)
	}
}
