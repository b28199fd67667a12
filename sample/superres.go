package sample

import (
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// concatChannels is how many channels a model takes beside the latent's.
func concatChannels(m *nn.Model) int {
	if m.UNet == nil || m.Config.Diffusion == nil || m.Config.Diffusion.ConditioningKey != nn.Concat {
		return 0
	}
	return m.UNet.Config.InChannels - m.UNet.Config.OutChannels
}

// CanSuperres says whether a model takes a small image beside the latent.
func CanSuperres(m *nn.Model) bool {
	return concatChannels(m) == 3 && m.Conditioner != nil && m.Conditioner.Config.Kind == nn.IdentityCond
}

// SuperresCondition is the condition for super-resolution: the small images themselves, N x 3 x h x w in [-1, 1], at the size
// of the latent (reference: LR_image with an identity conditioner). The slice is kept, not copied.
func SuperresCondition(s *engine.Session, lr []float32, n, h, w int) (Condition, error) {
	if !CanSuperres(s.Model) {
		return Condition{}, exitcode.Errorf(exitcode.Usage, "%s: the model does not take a small image for super-resolution", s.Model.Config.Path)
	}
	if len(lr) != n*3*h*w {
		return Condition{}, exitcode.Errorf(exitcode.Internal, "super-resolution: %d numbers for %d images of %dx%d", len(lr), n, h, w)
	}
	return Condition{Concat: lr}, nil
}
