// Command train makes training steps of one network on command, for bench/train.py, or prints where the time of one goes.
//
// It prints one JSON line when it is ready; then, for each "go" on standard input, it makes one step and prints
// {"seconds": s, "losses": [...]}. Inputs are raw float32 files in one folder, named after what they are.
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
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

type options struct {
	model, config, weights, inputs string
	threads, batch, size, tokens   int
	budget                         int64
	profile                        int
	plan                           bool
}

// Models.
const (
	unetModel       = "unet"
	firstStageModel = "first-stage"
	perceptualModel = "first-stage-perceptual"
)

func main() {
	var o options
	flag.StringVar(&o.model, "model", unetModel, "what is trained: unet, first-stage, first-stage-perceptual")
	flag.StringVar(&o.config, "config", "", "model configuration (default: that of the model in bench/)")
	flag.StringVar(&o.weights, "weights", "", "model file to begin with (default: zeros or random, for a profile)")
	flag.StringVar(&o.inputs, "inputs", "", "folder of inputs (default: zeros, for a profile)")
	flag.IntVar(&o.threads, "threads", 1, "threads")
	flag.IntVar(&o.batch, "batch", 0, "batch size (default 8, first stages 4)")
	flag.IntVar(&o.size, "size", 0, "side of the latent, or of the images of a first stage (default 32, 64)")
	flag.IntVar(&o.tokens, "tokens", 1, "tokens of a context")
	flag.Int64Var(&o.budget, "budget", 0, "bytes for activations, 0: no limit")
	flag.IntVar(&o.profile, "profile", 0, "make that many steps and print where the time goes, in place of serving")
	flag.BoolVar(&o.plan, "plan", false, "print the plan of the U-Net")
	flag.Parse()
	if err := run(o, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "train:", err)
		os.Exit(1)
	}
}

func (o *options) setDefaults() {
	config, batch, size := "bench/train.yaml", 8, 32
	if o.model != unetModel {
		config, batch, size = "bench/first-stage.yaml", 4, 64
	}
	if o.config == "" {
		o.config = config
	}
	if o.batch == 0 {
		o.batch = batch
	}
	if o.size == 0 {
		o.size = size
	}
}

// trainer makes training steps of one batch.
type trainer interface {
	step() (losses []float64, err error) // as they were before it
	close()
}

func run(o options, in io.Reader, out io.Writer) error {
	o.setDefaults()
	start := time.Now()
	config, err := nn.LoadConfig(o.config)
	if err != nil {
		return err
	}
	c := cpu.DefaultOptions()
	c.Threads = o.threads
	prof := &profile{}
	if o.profile > 0 {
		c.Observe = prof.add
	}
	b, err := cpu.Open(c)
	if err != nil {
		return err
	}
	defer b.Close()
	var t trainer
	switch o.model {
	case unetModel:
		u, err := o.newUNet(config, b)
		if err != nil {
			return err
		}
		if o.plan {
			defer u.close()
			return u.compiled.Plan.Write(out, nil)
		}
		t = u
	case firstStageModel, perceptualModel:
		if t, err = o.newFirstStage(config, b); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown model %q", o.model)
	}
	defer t.close()
	if o.profile > 0 {
		return prof.run(out, b.Name(), t, o.profile)
	}
	replies := json.NewEncoder(out)
	if err := replies.Encode(map[string]any{"name": b.Name(), "load_seconds": time.Since(start).Seconds()}); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if lines.Text() != "go" {
			return fmt.Errorf("unknown command %q", lines.Text())
		}
		begin := time.Now()
		losses, err := t.step()
		if err != nil {
			return err
		}
		if err := replies.Encode(map[string]any{"seconds": time.Since(begin).Seconds(), "losses": losses}); err != nil {
			return err
		}
	}
	return lines.Err()
}

// ports reads the inputs of a plan.
func (o options) ports(ports []*plan.Value) (map[string][]float32, error) {
	inputs := map[string][]float32{}
	for _, v := range ports {
		x, err := o.read(v.Name, v.Elems())
		if err != nil {
			return nil, err
		}
		inputs[v.Name] = x
	}
	return inputs, nil
}

// read reads an input of n values; without a folder it is zero.
func (o options) read(name string, n int) ([]float32, error) {
	x := make([]float32, n)
	if o.inputs == "" {
		return x, nil
	}
	b, err := os.ReadFile(filepath.Join(o.inputs, name+".f32"))
	if err != nil {
		return nil, err
	}
	if len(b) != 4*n {
		return nil, fmt.Errorf("input %s: %d bytes, want %d", name, len(b), 4*n)
	}
	_, err = binary.Decode(b, binary.LittleEndian, x)
	return x, err
}
