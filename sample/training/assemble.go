package training

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// Continue binds a whole latent diffusion model, to be trained further.
func Continue(c *nn.Config, checkpoint *weights.File, sel weights.Selection) (*nn.Model, error) {
	return nn.Bind(c, checkpoint, nn.Options{Weights: sel})
}

// FromScratch makes a model whose U-Net and conditioner begin at random weights that follow from the seed. first holds the first
// stage, alone or within a latent diffusion model; it is nil for an identity, and must stay open while the model is used.
func FromScratch(c *nn.Config, first *weights.File, seed uint64) (*nn.Model, error) {
	if c.Diffusion == nil {
		return nil, exitcode.Errorf(exitcode.Usage, "%s: describes no latent diffusion model", c.Path)
	}
	m := nn.New(c)
	tensors, err := Initial(append(m.UNet.Params(), m.Conditioner.Params()...), seed)
	if err != nil {
		return nil, err
	}
	if c.FirstStage.Kind != nn.IdentityFirstStage {
		if first == nil {
			return nil, exitcode.Errorf(exitcode.Usage, "%s: the model file of the first stage is missing", c.Path)
		}
		alone := nn.Config{Path: c.Path, FirstStage: c.FirstStage}
		f, err := nn.Bind(&alone, first, nn.Options{FirstStageOnly: true})
		if err != nil {
			return nil, fmt.Errorf("first stage: %w", err)
		}
		names := nn.NewFirstStage(*c.FirstStage, nn.FirstStagePrefix).Params()
		for i, p := range f.Params() {
			t, _ := f.Tensor(p.Name)
			tensors = append(tensors, t.Renamed(names[i].Name))
		}
	}
	if c.Diffusion.ScaleByStd { // measured on the first batch
		t, err := tensor.FromFloat32("scale_factor", []int{}, []float32{1})
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, t)
	}
	file, err := weights.NewMemory(tensors)
	if err != nil {
		return nil, err
	}
	return nn.Bind(c, file, nn.Options{Weights: weights.Raw})
}
