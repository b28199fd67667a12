// Command train makes training steps of one U-Net on command, for bench/train.py, or prints where the time of one goes.
//
// It prints one JSON line when it is ready; then, for each "go" on standard input, it makes one step (forward, backward, AdamW,
// running average of the weights) and prints {"seconds": s, "loss": l}. Inputs are raw float32 files in one folder: x.f32, t.f32,
// context.f32 and target.f32.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

type options struct {
	config, weights, inputs      string
	threads, batch, size, tokens int
	budget                       int64
	profile                      int
	plan                         bool
}

func main() {
	var o options
	flag.StringVar(&o.config, "config", "bench/train.yaml", "model configuration")
	flag.StringVar(&o.weights, "weights", "", "model file to begin with (default: zeros, for a profile)")
	flag.StringVar(&o.inputs, "inputs", "", "folder of inputs (default: zeros, for a profile)")
	flag.IntVar(&o.threads, "threads", 1, "threads")
	flag.IntVar(&o.batch, "batch", 8, "batch size")
	flag.IntVar(&o.size, "size", 32, "side of the latent")
	flag.IntVar(&o.tokens, "tokens", 1, "tokens of a context")
	flag.Int64Var(&o.budget, "budget", 0, "bytes for activations, 0: no limit")
	flag.IntVar(&o.profile, "profile", 0, "make that many steps and print where the time goes, in place of serving")
	flag.BoolVar(&o.plan, "plan", false, "print the plan")
	flag.Parse()
	if err := run(o, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func run(o options, in io.Reader, out io.Writer) error {
	start := time.Now()
	config, err := nn.LoadConfig(o.config)
	if err != nil {
		return err
	}
	m := nn.New(config)
	c := cpu.DefaultOptions()
	c.Threads = o.threads
	prof := &profile{kinds: map[string]*row{}, shapes: map[string]*row{}}
	if o.profile > 0 {
		c.Observe = prof.add
	}
	b, err := cpu.Open(c)
	if err != nil {
		return err
	}
	defer b.Close()
	objective, params, err := o.objective(m)
	if err != nil {
		return err
	}
	p, err := engine.NewParams(b, params)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := o.load(p, config); err != nil {
		return err
	}
	p.StartAverage()
	t := engine.NewTraining(p, nil, b, o.budget)
	defer t.Close()
	step, err := t.Compile("bench", func() (*engine.Objective, error) { return objective, nil })
	if err != nil {
		return err
	}
	if o.plan {
		return step.Plan.Write(out, nil)
	}
	inputs, err := o.read(step.Plan.Inputs)
	if err != nil {
		return err
	}
	tr := &trainer{p: p, step: step, inputs: inputs}
	if o.profile > 0 {
		return prof.run(out, b.Name(), tr, o.profile)
	}
	replies := json.NewEncoder(out)
	if err := replies.Encode(map[string]any{
		"name": b.Name(), "load_seconds": time.Since(start).Seconds(), "parameters": p.Elems(), "weight_bytes": t.WeightBytes(),
		"arena_bytes": 4 * step.Plan.ArenaElems, "gflop": float64(step.Plan.FLOP) / 1e9, "steps": len(step.Plan.Steps),
	}); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if lines.Text() != "go" {
			return fmt.Errorf("unknown command %q", lines.Text())
		}
		begin := time.Now()
		loss, err := tr.once()
		if err != nil {
			return err
		}
		if err := replies.Encode(map[string]float64{"seconds": time.Since(begin).Seconds(), "loss": loss}); err != nil {
			return err
		}
	}
	return lines.Err()
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

// read reads inputs by their names.
func (o options) read(ports []*plan.Value) (map[string][]float32, error) {
	inputs := map[string][]float32{}
	for _, v := range ports {
		x := make([]float32, v.Elems())
		inputs[v.Name] = x
		if o.inputs == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(o.inputs, v.Name+".f32"))
		if err != nil {
			return nil, err
		}
		if len(b) != 4*v.Elems() {
			return nil, fmt.Errorf("input %s: %d bytes, shape %v has %d", v.Name, len(b), v.Shape, 4*v.Elems())
		}
		if _, err := binary.Decode(b, binary.LittleEndian, x); err != nil {
			return nil, err
		}
	}
	return inputs, nil
}

type trainer struct {
	p      *engine.Params
	step   *engine.Step
	inputs map[string][]float32
	steps  int
}

// once makes one training step and returns the loss before it.
func (t *trainer) once() (float64, error) {
	t.p.ZeroGrad()
	losses, err := t.step.Run(t.inputs)
	if err != nil {
		return 0, err
	}
	t.update()
	return losses[0], nil
}

func (t *trainer) update() {
	t.steps++
	t.p.Update(plan.Adam{Rate: 1e-4, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Decay: 0.01, Step: t.steps, Average: 0.9999})
}
