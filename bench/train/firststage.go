package main

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/encode/training"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// firstStage trains an autoencoder and its discriminator: both passes, both optimisers.
type firstStage struct {
	t          *training.Trainer
	perceptual *lpips.Model
	images     []float32
	noise      [2][]float32
	n, size    int
}

func (o options) newFirstStage(config *nn.Config, b plan.Backend) (*firstStage, error) {
	loss, ok, err := training.LossOf(*config.FirstStage)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: no lossconfig", o.config)
	}
	f := &firstStage{n: o.batch, size: o.size}
	if err := o.fillFirstStage(f, config, loss, b); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (o options) fillFirstStage(f *firstStage, config *nn.Config, loss training.Loss, b plan.Backend) (err error) {
	if o.model == perceptualModel {
		if o.weights == "" {
			return fmt.Errorf("the perceptual distance needs a file of weights")
		}
		if f.perceptual, err = lpips.Open(o.weights); err != nil {
			return err
		}
	}
	if f.t, err = training.New(training.Options{Stage: *config.FirstStage, Loss: loss, Perceptual: f.perceptual, Backend: b, Memory: o.budget}); err != nil {
		return err
	}
	f.t.Initialize(1)
	if o.weights != "" {
		file, err := weights.Open(o.weights, weights.Limits{})
		if err != nil {
			return err
		}
		defer file.Close()
		if err := f.t.Load(file); err != nil {
			return err
		}
	}
	if f.images, err = o.read("image", o.batch*config.FirstStage.InChannels*o.size*o.size); err != nil {
		return err
	}
	latent := 1
	for _, d := range f.t.LatentShape(o.batch, o.size, o.size) {
		latent *= d
	}
	for i := range f.noise {
		if f.noise[i], err = o.read(fmt.Sprint("noise", i), latent); err != nil {
			return err
		}
	}
	return nil
}

func (f *firstStage) close() {
	if f.t != nil {
		f.t.Close()
	}
	if f.perceptual != nil {
		f.perceptual.Close()
	}
}

func (f *firstStage) step() ([]float64, error) {
	noise := func(pass int, dst []float32) { copy(dst, f.noise[pass]) }
	log, err := f.t.Step(f.images, f.n, f.size, f.size, noise, training.Rates{Stage: 1e-4, Discriminator: 1e-4})
	if err != nil {
		return nil, err
	}
	var losses []float64
	for _, name := range []string{"rec_loss", "d_weight", "disc_loss"} {
		v, ok := log.Value(name)
		if !ok {
			return nil, fmt.Errorf("%s is not logged", name)
		}
		losses = append(losses, v)
	}
	return losses, nil
}
