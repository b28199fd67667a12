package main

import (
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// unet trains a U-Net: forward, backward, AdamW, running average of the weights.
type unet struct {
	params   *engine.Params
	training *engine.Training
	compiled *engine.Step
	inputs   map[string][]float32
	steps    int
}

func (o options) newUNet(config *nn.Config, b plan.Backend) (*unet, error) {
	u := &unet{}
	if err := o.fillUNet(u, config, b); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

func (o options) fillUNet(u *unet, config *nn.Config, b plan.Backend) error {
	objective, params, err := o.objective(nn.New(config))
	if err != nil {
		return err
	}
	if u.params, err = engine.NewParams(b, params); err != nil {
		return err
	}
	if err := o.load(u.params, config); err != nil {
		return err
	}
	u.params.StartAverage()
	u.training = engine.NewTraining(u.params, nil, b, o.budget)
	if u.compiled, err = u.training.Compile("bench", func() (*engine.Objective, error) { return objective, nil }); err != nil {
		return err
	}
	u.inputs, err = o.ports(u.compiled.Plan.Inputs)
	return err
}

func (u *unet) close() {
	if u.training != nil {
		u.training.Close()
	}
	if u.params != nil {
		u.params.Close()
	}
}

func (u *unet) step() ([]float64, error) {
	u.params.ZeroGrad()
	losses, err := u.compiled.Run(u.inputs)
	if err != nil {
		return nil, err
	}
	u.steps++
	u.params.Update(plan.Adam{Rate: 1e-4, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, Step: u.steps, Average: 0.9999})
	return losses, nil
}

// objective is the mean square of the U-Net's error, with the gradients by all of its parameters.
func (o options) objective(m *nn.Model) (*engine.Objective, []ir.Param, error) {
	obj := &engine.Objective{Losses: []string{"loss"}}
	g := ir.New("train")
	c := m.UNet.Config
	var loss *ir.Tensor
	if err := ir.Build(func() {
		x, t := g.Input("x", o.batch, c.InChannels, o.size, o.size), g.Input("t", o.batch)
		context := g.Input("context", o.batch, o.tokens, c.ContextDim)
		loss = ir.MeanSquare(m.UNet.Apply(x, t, context, nil), g.Input("target", o.batch, c.OutChannels, o.size, o.size))
	}); err != nil {
		return nil, nil, err
	}
	var wrt []*ir.Tensor
	for _, p := range g.Params() {
		wrt = append(wrt, g.Param(p.Name, p.Shape...))
		obj.Grads = append(obj.Grads, p.Name)
	}
	grads, err := ir.Grad(loss, wrt...)
	if err != nil {
		return nil, nil, err
	}
	obj.Program, err = g.Program(append([]*ir.Tensor{loss}, grads...)...)
	return obj, g.Params(), err
}

func (o options) load(p *engine.Params, c *nn.Config) error {
	if o.weights == "" {
		return nil
	}
	f, err := weights.Open(o.weights, weights.Limits{})
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := nn.Bind(c, f, nn.Options{})
	if err != nil {
		return err
	}
	return p.Init(m)
}
