package inspect

import (
	"fmt"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Config describes a model configuration.
type Config struct {
	Parts      []string `json:"parts"` // in words
	Parameters int64    `json:"parameters"`
	Tensors    int      `json:"tensors"`
	Warnings   []string `json:"warnings,omitempty"`
}

func openConfig(path string) (*Config, error) {
	c, err := nn.LoadConfig(path)
	if err != nil {
		return nil, err
	}
	d := &Config{Warnings: c.Warnings}
	add := func(format string, args ...any) { d.Parts = append(d.Parts, fmt.Sprintf(format, args...)) }
	if x := c.Diffusion; x != nil {
		add("latent diffusion: latents of %d channels, nominal size %d, %d steps, schedule %s, parameterization %s, conditioning %q, EMA %t",
			x.Channels, x.ImageSize, x.Timesteps, x.BetaSchedule, x.Parameterization, x.ConditioningKey, x.UseEMA)
	}
	if x := c.UNet; x != nil {
		add("U-Net: %d channels in, %d out, width %d, transformer %t", x.InChannels, x.OutChannels, x.ModelChannels, x.UseSpatialTransformer)
	}
	if x := c.FirstStage; x != nil {
		add("first stage: %s, factor %d, latents of %d channels, images of %d pixels", x.Kind, x.Factor(), x.EmbedDim, x.Resolution)
	}
	if x := c.Conditioner; x != nil {
		add("conditioner: %s", x.Kind)
	}
	for _, p := range nn.New(c).Params() {
		n := int64(1)
		for _, s := range p.Shape {
			n *= int64(s)
		}
		d.Tensors, d.Parameters = d.Tensors+1, d.Parameters+n
	}
	return d, nil
}

func (c *Config) write(b *strings.Builder) {
	for _, p := range c.Parts {
		fmt.Fprintln(b, p)
	}
	fmt.Fprintf(b, "%d parameters in %d tensors\n", c.Parameters, c.Tensors)
	for _, w := range c.Warnings {
		fmt.Fprintf(b, "warning: %s\n", w)
	}
}
