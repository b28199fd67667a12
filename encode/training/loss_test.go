package training

import (
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

const vqTarget = "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"
const klTarget = "ldm.modules.losses.LPIPSWithDiscriminator"

func stageWith(kind nn.FirstStageKind, target string, params map[string]any) nn.FirstStageConfig {
	return nn.FirstStageConfig{Kind: kind, Loss: &nn.Target{Target: target, Params: params}}
}

func TestLossOf(t *testing.T) {
	l, ok, err := LossOf(stageWith(nn.KL, klTarget, map[string]any{
		"disc_start": 50001, "kl_weight": "1e-6", "disc_weight": 0.5, "logvar_init": 0.1, "pixelloss_weight": 2, "use_actnorm": true,
	}))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	want := Loss{Pixel: Absolute, Perceptual: 1, KL: 1e-6, Codebook: 1, Beta: 0.25, LogVar: 0.1, Discriminator: l.Discriminator,
		Adversarial: Hinge, DiscStart: 50001, DiscFactor: 1, DiscWeight: 0.5}
	if l != want || *l.Discriminator != (nn.DiscriminatorConfig{InChannels: 3, Channels: 64, Layers: 3, ActNorm: true}) {
		t.Errorf("got %+v %+v", l, *l.Discriminator)
	}
	l, ok, err = LossOf(stageWith(nn.VQ, vqTarget, map[string]any{
		"disc_start": 0, "codebook_weight": 0.7, "disc_ndf": 16, "disc_num_layers": 2, "disc_loss": "vanilla", "pixel_loss": "l2",
		"disc_conditional": false, "disc_in_channels": 3, "perceptual_weight": 0, "disc_factor": 0.5, "n_classes": nil,
	}))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	want = Loss{Pixel: Squared, KL: 1, Codebook: 0.7, Beta: 0.25, Discriminator: l.Discriminator, Adversarial: Vanilla, DiscFactor: 0.5, DiscWeight: 1}
	if l != want || *l.Discriminator != (nn.DiscriminatorConfig{InChannels: 3, Channels: 16, Layers: 2}) {
		t.Errorf("got %+v %+v", l, *l.Discriminator)
	}
	for _, c := range []nn.FirstStageConfig{{Kind: nn.KL}, stageWith(nn.KL, "torch.nn.Identity", nil)} {
		if _, ok, err := LossOf(c); ok || err != nil {
			t.Errorf("without a loss: %t, %v", ok, err)
		}
	}
	for _, c := range []struct {
		kind   nn.FirstStageKind
		target string
		params map[string]any
		want   string
	}{
		{nn.KL, "some.Loss", nil, `lossconfig: target "some.Loss" is unknown`},
		{nn.KL, vqTarget, nil, "is for a first stage of kind vq, this one is kl"},
		{nn.KL, klTarget, nil, "params.disc_start is missing"},
		{nn.KL, klTarget, map[string]any{"disc_start": 1.5}, "params.disc_start is 1.5, want a whole number"},
		{nn.KL, klTarget, map[string]any{"disc_start": 0, "disc_ndf": 16}, "params.disc_ndf is unknown"},
		{nn.KL, klTarget, map[string]any{"disc_start": 0, "kl_weight": "much"}, `params.kl_weight is "much", want a number`},
		{nn.KL, klTarget, map[string]any{"disc_start": 0, "kl_weight": true}, "params.kl_weight is true, want a number"},
		{nn.KL, klTarget, map[string]any{"disc_start": 0, "use_actnorm": 1}, "params.use_actnorm is 1, want true or false"},
		{nn.KL, klTarget, map[string]any{"disc_start": 0, "disc_conditional": true}, "params.disc_conditional is not supported"},
		{nn.KL, klTarget, map[string]any{"disc_start": 0, "disc_loss": 3}, "params.disc_loss is 3, want a text"},
		{nn.KL, klTarget, map[string]any{"disc_start": 0, "disc_loss": "wgan"}, `adversarial loss "wgan"`},
		{nn.KL, klTarget, map[string]any{"disc_start": 0, "disc_num_layers": 2.5}, "params.disc_num_layers is 2.5"},
		{nn.VQ, vqTarget, map[string]any{"disc_start": 0, "perceptual_loss": "clips"}, `params.perceptual_loss is "clips", want lpips`},
		{nn.VQ, vqTarget, map[string]any{"disc_start": 0, "pixel_loss": "huber"}, `difference of pixels "huber"`},
	} {
		_, _, err := LossOf(stageWith(c.kind, c.target, c.params))
		if err == nil || !strings.Contains(err.Error(), c.want) || exitcode.Of(err) != exitcode.Data {
			t.Errorf("%v: got %v, want %q", c.params, err, c.want)
		}
	}
}

func TestLossValidate(t *testing.T) {
	if err := DefaultLoss().Validate(nn.KL); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		change func(l *Loss)
		kind   nn.FirstStageKind
		want   string
	}{
		{func(*Loss) {}, nn.IdentityFirstStage, "has nothing to train"},
		{func(l *Loss) { l.Pixel = Squared }, nn.KL, "difference of pixels"},
		{func(l *Loss) { l.DiscStart = -1 }, nn.VQ, "starts at batch -1"},
		{func(l *Loss) { l.Beta = -1 }, nn.VQ, "beta is -1"},
		{func(l *Loss) { l.LogVar = 99 }, nn.KL, "log-variance is 99"},
		{func(l *Loss) { l.LearnLogVar = true }, nn.VQ, "no log-variance to learn"},
		{func(l *Loss) { l.Discriminator.Layers = 0 }, nn.KL, "disc_num_layers"},
	} {
		l := DefaultLoss()
		c.change(&l)
		if err := l.Validate(c.kind); err == nil || !strings.Contains(err.Error(), c.want) || exitcode.Of(err) != exitcode.Data {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
