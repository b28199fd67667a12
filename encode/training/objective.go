package training

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// Constants of the adaptive weight: what is added to the norm below the line, and the largest ratio.
const (
	weightEps   = 1e-4
	weightLimit = 1e4
)

// part is a program under construction.
type part struct {
	name    string
	g       *ir.Graph
	outputs []*ir.Tensor
	names   []string
}

func (p *part) output(name string, t *ir.Tensor) {
	p.outputs, p.names = append(p.outputs, t), append(p.names, name)
}

// gradients adds the gradients of a cost as outputs, named after their leaves.
func (p *part) gradients(cost *ir.Tensor, wrt ...*ir.Tensor) error {
	grads, err := ir.Grad(cost, wrt...)
	if err != nil {
		return err
	}
	for i, g := range grads {
		p.output(gradientOf+wrt[i].Name(), g)
	}
	return nil
}

const gradientOf = "gradient of "

// linked collects the parts of a program.
type linked struct {
	parts []ir.Part
	names [][]string // of the outputs
}

// add builds a part. f may use [part.gradients], whose error it returns.
func (l *linked) add(name string, f func(p *part) error, from map[string]ir.Source) (int, error) {
	p := &part{name: name, g: ir.New(name)}
	var err error
	if e := ir.Build(func() { err = f(p) }); e != nil {
		err = e
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	program, err := p.g.Program(p.outputs...)
	if err != nil {
		return 0, err
	}
	l.parts, l.names = append(l.parts, ir.Part{Program: program, From: from}), append(l.names, p.names)
	return len(l.parts) - 1, nil
}

// at finds an output of a part, which must exist.
func (l *linked) at(part int, name string) ir.Source {
	for i, n := range l.names[part] {
		if n == name {
			return ir.Source{Part: part, Output: i}
		}
	}
	panic("training: part " + l.parts[part].Name + " has no output " + name)
}

// collector makes an objective of outputs of parts.
type collector struct {
	l                     *linked
	losses, values, grads []ir.Source
	o                     engine.Objective
}

func (c *collector) loss(name string, s ir.Source) {
	c.losses, c.o.Losses = append(c.losses, s), append(c.o.Losses, name)
}
func (c *collector) value(name string, s ir.Source) {
	c.values, c.o.Values = append(c.values, s), append(c.o.Values, name)
}
func (c *collector) grad(name string, s ir.Source) {
	c.grads, c.o.Grads = append(c.grads, s), append(c.o.Grads, name)
}

func (c *collector) objective(name string) (*engine.Objective, error) {
	p, err := ir.Link(name, c.l.parts, append(append(c.losses, c.values...), c.grads...)...)
	if err != nil {
		return nil, err
	}
	c.o.Program = p
	return &c.o, nil
}

// Names of losses and values of the objectives; those that the reference logs have its names.
const (
	termNLL         = "nll_loss"
	termRec         = "rec_loss"
	termPerceptual  = "p_loss"
	termGenerator   = "g_loss"
	termWeight      = "d_weight"
	termDisc        = "disc_loss"
	termReal        = "logits_real"
	termFake        = "logits_fake"
	reconstruction  = "reconstruction"
	inputFactor     = "disc_factor"
	momentsFake     = "moments.fake."
	momentsReal     = "moments.real."
	partAutoencoder = "autoencoder"
)

// generator is the objective of the autoencoder, with or without the judgement of the discriminator. Inputs: "image", for KL "noise",
// with a judgement "disc_factor" (1).
//
// The autoencoder runs forward; its loss and the judgement of the discriminator are differentiated by the reconstruction alone; the
// two gradients at the last layer give the weight of the second, and their weighted sum is the seed of the autoencoder's backward pass.
// So nothing is computed twice, unlike by differentiating three times.
func (m *network) generator(b batch, judged bool) (*engine.Objective, error) {
	l := &linked{}
	seed := map[string]ir.Source{}
	auto, err := l.add(partAutoencoder, func(p *part) error {
		z, term := m.encode(m.image(p.g, b), true)
		features := m.stage.DecodeFeatures(z)
		rec := m.stage.Image(features)
		p.output(m.bottleneckTerm(), term)
		p.output("features", features)
		p.output(reconstruction, rec)
		cost := ir.Add(ir.Dot(rec, p.g.Input("seed", rec.Shape()...)), ir.Scale(term, m.bottleneck()))
		return p.gradients(cost, tensors(p.g, m.stage.Params())...)
	}, seed)
	if err != nil {
		return nil, err
	}
	shapeOf := func(s ir.Source) []int { p := l.parts[s.Part]; return p.Nodes[p.Outputs[s.Output]].Shape }
	rec := l.at(auto, reconstruction)
	likelihood, err := l.add("likelihood", func(p *part) error {
		x := p.g.Input("rec", shapeOf(rec)...)
		nll, mean, perceptual := m.reconstruction(m.image(p.g, b), x)
		p.output(termNLL, nll)
		p.output(termRec, mean)
		if perceptual != nil {
			p.output(termPerceptual, perceptual)
		}
		wrt := []*ir.Tensor{x}
		if m.kl() {
			wrt = append(wrt, tensors(p.g, []ir.Param{logVar})...)
		}
		return p.gradients(nll, wrt...)
	}, map[string]ir.Source{"rec": rec})
	if err != nil {
		return nil, err
	}
	c := &collector{l: l}
	c.loss(termNLL, l.at(likelihood, termNLL))
	c.loss(termRec, l.at(likelihood, termRec))
	if m.perceptual {
		c.loss(termPerceptual, l.at(likelihood, termPerceptual))
	}
	c.loss(m.bottleneckTerm(), l.at(auto, m.bottleneckTerm()))
	c.value(reconstruction, rec)
	for _, p := range m.stage.Params() {
		c.grad(p.Name, l.at(auto, gradientOf+p.Name))
	}
	if m.kl() {
		c.grad(logVarKey, l.at(likelihood, gradientOf+logVarKey))
	}
	byRec := l.at(likelihood, gradientOf+"rec")
	if !judged {
		seed["seed"] = byRec
		return c.objective("generator")
	}
	adversary, err := l.add("adversary", func(p *part) error {
		x := p.g.Input("rec", shapeOf(rec)...)
		logits, moments := m.discriminator.Train(x)
		cost := ir.Scale(ir.Mean(logits), -1)
		p.output(termGenerator, cost)
		for i, in := range moments {
			p.output(fmt.Sprint(momentsFake, i), in)
		}
		return p.gradients(cost, x)
	}, map[string]ir.Source{"rec": rec})
	if err != nil {
		return nil, err
	}
	c.loss(termGenerator, l.at(adversary, termGenerator))
	for i := range m.discriminator.Norms() {
		name := fmt.Sprint(momentsFake, i)
		c.value(name, l.at(adversary, name))
	}
	byJudgement := l.at(adversary, gradientOf+"rec")
	last := m.stage.LastLayer()
	atLastLayer := func(name string, by ir.Source) (ir.Source, error) {
		features := l.at(auto, "features")
		i, err := l.add(name, func(p *part) error {
			w := tensors(p.g, []ir.Param{last})[0]
			rec := ir.Conv2D(p.g.Input("features", shapeOf(features)...), w, nil, ir.Same(last.Shape[2]))
			return p.gradients(ir.Dot(rec, p.g.Input("by", shapeOf(by)...)), w)
		}, map[string]ir.Source{"features": features, "by": by})
		if err != nil {
			return ir.Source{}, err
		}
		return l.at(i, gradientOf+last.Name), nil
	}
	likelihoodAtLast, err := atLastLayer("likelihood at the last layer", byRec)
	if err != nil {
		return nil, err
	}
	adversaryAtLast, err := atLastLayer("adversary at the last layer", byJudgement)
	if err != nil {
		return nil, err
	}
	balance, err := l.add("balance", func(p *part) error {
		a, b := p.g.Input("a", last.Shape...), p.g.Input("b", last.Shape...)
		weight := ir.Scale(ir.NormRatio(a, b, weightEps, weightLimit), m.loss.DiscWeight)
		p.output(termWeight, weight)
		effect := ir.ScaleBy(weight, ir.Sum(p.g.Input(inputFactor, 1)))
		p.output("seed", ir.Add(p.g.Input("likelihood", shapeOf(rec)...), ir.ScaleBy(p.g.Input("adversary", shapeOf(rec)...), effect)))
		return nil
	}, map[string]ir.Source{"a": likelihoodAtLast, "b": adversaryAtLast, "likelihood": byRec, "adversary": byJudgement})
	if err != nil {
		return nil, err
	}
	seed["seed"] = l.at(balance, "seed")
	c.loss(termWeight, l.at(balance, termWeight))
	return c.objective("generator")
}

func (m *network) judged(b batch) (*engine.Objective, error)   { return m.generator(b, true) }
func (m *network) unjudged(b batch) (*engine.Objective, error) { return m.generator(b, false) }

// critic is the objective of the discriminator. Inputs: "image", for KL "noise", "disc_factor" (1).
func (m *network) critic(b batch) (*engine.Objective, error) {
	l := &linked{}
	i, err := l.add("critic", func(p *part) error {
		image := m.image(p.g, b)
		z, _ := m.encode(image, true)
		real, realMoments := m.discriminator.Train(image)
		fake, fakeMoments := m.discriminator.Train(ir.Detach(m.stage.Decode(z)))
		p.output(termReal, ir.Mean(real))
		p.output(termFake, ir.Mean(fake))
		var onReal, onFake *ir.Tensor
		if m.loss.Adversarial == Hinge {
			onReal, onFake = ir.ReLU(ir.Offset(ir.Scale(real, -1), 1)), ir.ReLU(ir.Offset(fake, 1))
		} else {
			onReal, onFake = ir.Softplus(ir.Scale(real, -1)), ir.Softplus(fake)
		}
		cost := ir.ScaleBy(ir.Scale(ir.Add(ir.Mean(onReal), ir.Mean(onFake)), 0.5), ir.Sum(p.g.Input(inputFactor, 1)))
		p.output(termDisc, cost)
		for k := range realMoments {
			p.output(fmt.Sprint(momentsReal, k), realMoments[k])
			p.output(fmt.Sprint(momentsFake, k), fakeMoments[k])
		}
		return p.gradients(cost, tensors(p.g, m.discriminator.Params())...)
	}, nil)
	if err != nil {
		return nil, err
	}
	c := &collector{l: l}
	for _, name := range []string{termDisc, termReal, termFake} {
		c.loss(name, l.at(i, name))
	}
	for k := range m.discriminator.Norms() {
		for _, name := range []string{fmt.Sprint(momentsReal, k), fmt.Sprint(momentsFake, k)} {
			c.value(name, l.at(i, name))
		}
	}
	for _, p := range m.discriminator.Params() {
		c.grad(p.Name, l.at(i, gradientOf+p.Name))
	}
	return c.objective("critic")
}

// validation reconstructs images without noise. Input: "image".
func (m *network) validation(b batch) (*engine.Objective, error) {
	l := &linked{}
	i, err := l.add("validation", func(p *part) error {
		image := m.image(p.g, b)
		z, term := m.encode(image, false)
		rec := m.stage.Decode(z)
		nll, mean, perceptual := m.reconstruction(image, rec)
		p.output(termNLL, nll)
		p.output(termRec, mean)
		if perceptual != nil {
			p.output(termPerceptual, perceptual)
		}
		p.output(m.bottleneckTerm(), term)
		p.output(reconstruction, rec)
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	c := &collector{l: l}
	for _, name := range l.names[i] {
		if name == reconstruction {
			c.value(name, l.at(i, name))
		} else {
			c.loss(name, l.at(i, name))
		}
	}
	return c.objective("validation")
}

// initial gives the moments of what goes into the normalisations of the discriminator, for an autoencoder's first batch: by them
// normalisations by shift and scale are set. Inputs: "image", for KL "noise".
func (m *network) initial(b batch) (*engine.Objective, error) {
	l := &linked{}
	i, err := l.add("initial", func(p *part) error {
		z, _ := m.encode(m.image(p.g, b), true)
		_, moments := m.discriminator.Train(m.stage.Decode(z))
		for k, in := range moments {
			p.output(fmt.Sprint(momentsFake, k), in)
		}
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	c := &collector{l: l}
	for _, name := range l.names[i] {
		c.value(name, l.at(i, name))
	}
	return c.objective("initial")
}
