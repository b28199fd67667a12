package training

import (
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/sample"
)

// Batch is what a step sees: latents N x C x h x w, scaled, and what goes with each.
type Batch struct {
	Size
	Z     []float32
	Noise []float32 // N x C x h x w, standard normal
	Times []int     // N, each in 0..T-1

	// Cond is the condition of a frozen conditioner, or the classes of a U-Net conditioned by them; its Concat goes with any.
	Cond sample.Condition
	// Input is the input of a conditioner that is trained, see [nn.Conditioner.Input]: classes N, tokens N x T, or, for a
	// rescaler, the [Shares] of the labels N x K x h x w.
	Input []float32
}

// Feed computes the inputs of the graph for a batch.
func (o *Objective) Feed(b Batch) (map[string][]float32, error) {
	m, d := o.model, o.model.Config.Diffusion
	cells := b.H * b.W
	each := d.Channels * cells
	if len(b.Z) != b.N*each || len(b.Noise) != len(b.Z) || len(b.Times) != b.N {
		return nil, exitcode.Errorf(exitcode.Internal, "objective: %d numbers, %d of noise and %d times for %d latents of %dx%dx%d", len(b.Z), len(b.Noise), len(b.Times), b.N, d.Channels, b.H, b.W)
	}
	concat := len(b.Cond.Concat) / b.N
	channels := m.UNet.Config.InChannels - d.Channels
	if o.Learns() && m.Conditioner.Config.Kind == nn.SpatialRescaler {
		channels = 0
	}
	if len(b.Cond.Concat) != b.N*channels*cells {
		return nil, exitcode.Errorf(exitcode.Internal, "objective: the concatenated condition holds %d numbers, not those of %d x %d x %d x %d", len(b.Cond.Concat), b.N, channels, b.H, b.W)
	}
	x, target := o.buffer("x", b.N*(each+concat)), o.buffer("target", len(b.Z))
	t, w := o.buffer("t", b.N), o.buffer("weights", b.N)
	o.times = append(o.times[:0], b.Times...)
	for i, at := range b.Times {
		if at < 0 || at >= o.tables.len() {
			return nil, exitcode.Errorf(exitcode.Internal, "objective: time %d is not in 0..%d", at, o.tables.len()-1)
		}
		z, e := b.Z[i*each:(i+1)*each], b.Noise[i*each:(i+1)*each]
		row := x[i*(each+concat):]
		level := sample.Level{Alpha: float64(o.tables.alpha[at]), Sigma: float64(o.tables.sigma[at])}
		level.Diffuse(row[:each], z, e)
		copy(row[each:], b.Cond.Concat[i*concat:(i+1)*concat])
		if o.tables.x0 {
			e = z
		}
		copy(target[i*each:], e)
		t[i], w[i] = float32(at), o.tables.weight(at, b.N)
		if o.tables.learned {
			o.buffer("times", b.N)[i], o.buffer("log_weights", b.N)[i] = float32(at), float32(math.Log(o.tables.snr[at]))
		}
	}
	name, data := "", []float32(nil)
	switch {
	case o.Learns():
		if name = "shares"; m.Conditioner.Config.Kind != nn.SpatialRescaler {
			var err error
			if name, _, err = m.Conditioner.Input(b.N, 1, 1); err != nil {
				return nil, err
			}
		}
		data = b.Input
	case m.UNet.Config.UseSpatialTransformer:
		name, data = "context", b.Cond.Context
	case m.UNet.Config.NumClasses > 0:
		name, data = "y", b.Cond.Y
	}
	if name != "" {
		o.feed[name] = data
	}
	return o.feed, nil
}

func (o *Objective) buffer(name string, n int) []float32 {
	if len(o.feed[name]) != n {
		o.feed[name] = make([]float32, n)
	}
	return o.feed[name]
}

// Losses are the terms of the reference's log.
type Losses struct {
	Loss   float64 // what is minimised
	Simple float64 // mean error
	VLB    float64 // mean error, weighted as in the variational bound
}

// Losses are those of the batch that was fed last, from the loss and the errors of its samples that the step gave. Anything not
// finite is an error of class internal.
func (o *Objective) Losses(loss float64, errors []float32) (Losses, error) {
	l := Losses{Loss: loss}
	n := float64(len(errors))
	for i, e := range errors {
		at := o.times[i]
		l.Simple += float64(e) / n
		l.VLB += float64(e) * float64(o.tables.lvlb[at]) / n
	}
	if !o.tables.learned {
		l.Loss += o.tables.lsimple * o.tables.logvar
	}
	if v := l.Loss + l.Simple + l.VLB; math.IsNaN(v) || math.IsInf(v, 0) {
		return l, exitcode.With(exitcode.Internal, fmt.Errorf("the loss is %v", l.Loss))
	}
	return l, nil
}

// Shares are the shares of each label in the cells of label maps, N x K x h/f x w/f with f = 2^stages: what halving one-hot maps
// by box means gives, without the maps.
func Shares(maps [][]uint8, classes, h, w, stages int) ([]float32, error) {
	f := 1 << stages
	lh, lw := h/f, w/f
	out := make([]float32, len(maps)*classes*lh*lw)
	part := 1 / float32(f*f)
	for i, labels := range maps {
		if len(labels) != h*w || h%f != 0 || w%f != 0 {
			return nil, exitcode.Errorf(exitcode.Internal, "label map %d of the batch has %d labels, want %dx%d, halved %d times", i, len(labels), h, w, stages)
		}
		for p, l := range labels {
			if int(l) >= classes {
				return nil, exitcode.Errorf(exitcode.Data, "label map %d of the batch: label %d is not in 0..%d", i, l, classes-1)
			}
			out[((i*classes+int(l))*lh+p/w/f)*lw+p%w/f] += part
		}
	}
	return out, nil
}
