// Command forward runs one network on command, for bench/compare.py, or prints where its time goes.
//
// It prints one JSON line when the weights are packed; then, for each line on standard input: "go" runs one forward and
// prints {"seconds": s}; "save PATH" writes the last output as raw float32, NCHW. Inputs are raw float32 files in one folder:
// x.f32, t.f32 and context.f32 of the U-Net, z.f32 of the decoder, image.f32 of the Inception-v3.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/inception"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

type options struct {
	net, config, weights, inputs string
	threads, batch, size         int
	isa                          string
	precision                    string
	profile                      int
}

func main() {
	var o options
	flag.StringVar(&o.net, "net", "unet", "unet, decoder or inception")
	flag.StringVar(&o.config, "config", "bench/cin256-v2.yaml", "model configuration")
	flag.StringVar(&o.weights, "weights", "", "model file")
	flag.StringVar(&o.inputs, "inputs", "", "folder of inputs")
	flag.IntVar(&o.threads, "threads", 1, "threads")
	flag.IntVar(&o.batch, "batch", 1, "batch size")
	flag.IntVar(&o.size, "size", 64, "side of the latent")
	flag.StringVar(&o.isa, "isa", "", "instruction set (default: the best)")
	flag.StringVar(&o.precision, "precision", "fp32", "fp32 or mixed")
	flag.IntVar(&o.profile, "profile", 0, "time every step that often and print where the time goes, in place of serving")
	flag.Parse()
	if err := run(o, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		os.Exit(1)
	}
}

func (o options) backend(observe func(*plan.Step, time.Duration)) (*cpu.Backend, error) {
	c := cpu.DefaultOptions()
	c.Threads, c.Observe = o.threads, observe
	if o.isa != "" {
		isa, err := kernel.ParseISA(o.isa)
		if err != nil {
			return nil, err
		}
		c.ISA = isa
	}
	switch o.precision {
	case "fp32":
	case "mixed":
		c.Precision = kernel.Mixed
	default:
		return nil, fmt.Errorf("precision %q: want fp32 or mixed", o.precision)
	}
	return cpu.Open(c)
}

func run(o options, in io.Reader, out io.Writer) error {
	start := time.Now()
	source, graph, done, err := o.model()
	if err != nil {
		return err
	}
	defer done()
	if o.profile > 0 {
		return profile(out, o, source, graph, o.backend)
	}
	b, err := o.backend(nil)
	if err != nil {
		return err
	}
	defer b.Close()
	opened := time.Since(start)

	s := engine.NewWeights(source, b)
	defer s.Close()
	n, err := s.Network(o.net, graph)
	if err != nil {
		return err
	}
	compiled := time.Since(start)
	inputs, err := o.read(n.Plan.Inputs)
	if err != nil {
		return err
	}
	replies := json.NewEncoder(out)
	if err := replies.Encode(map[string]any{
		"name": b.Name(), "open_seconds": opened.Seconds(), "load_seconds": compiled.Seconds(),
		"weight_bytes": s.WeightBytes(), "arena_bytes": 4 * n.Plan.ArenaElems, "gflop": float64(n.Plan.FLOP) / 1e9,
		"steps": len(n.Plan.Steps),
	}); err != nil {
		return err
	}
	return serve(n, inputs, in, replies)
}

// model opens the model file: weights, and the graph of the network that the options name.
func (o options) model() (source plan.WeightSource, graph func() (*nn.Graph, error), done func() error, err error) {
	if o.net == "inception" {
		m, err := inception.Open(o.weights)
		if err != nil {
			return nil, nil, nil, err
		}
		return m, func() (*nn.Graph, error) { return inception.Graph(o.batch, inception.Pool3) }, m.Close, nil
	}
	f, err := weights.Open(o.weights, weights.Limits{})
	if err != nil {
		return nil, nil, nil, err
	}
	m, err := nn.Load(o.config, f, nn.Options{FirstStageOnly: o.net == "decoder"})
	if err != nil {
		f.Close()
		return nil, nil, nil, err
	}
	return m, func() (*nn.Graph, error) {
		switch o.net {
		case "unet":
			return m.UNetGraph(o.batch, o.size, o.size, 1)
		case "decoder":
			return m.DecoderGraph(o.batch, o.size, o.size, nn.Quantized)
		}
		return nil, fmt.Errorf("network %q: want unet, decoder or inception", o.net)
	}, f.Close, nil
}

// read reads inputs by their names.
func (o options) read(ports []*plan.Value) (map[string][]float32, error) {
	inputs := map[string][]float32{}
	for _, v := range ports {
		b, err := os.ReadFile(filepath.Join(o.inputs, v.Name+".f32"))
		if err != nil {
			return nil, err
		}
		if len(b) != 4*v.Elems() {
			return nil, fmt.Errorf("input %s: %d bytes, shape %v has %d", v.Name, len(b), v.Shape, 4*v.Elems())
		}
		x := make([]float32, v.Elems())
		if _, err := binary.Decode(b, binary.LittleEndian, x); err != nil {
			return nil, err
		}
		inputs[v.Name] = x
	}
	return inputs, nil
}

// serve obeys commands until the input ends.
func serve(n *engine.Network, inputs map[string][]float32, in io.Reader, replies *json.Encoder) error {
	var result [][]float32
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		command, path, _ := strings.Cut(lines.Text(), " ")
		switch command {
		case "go":
			begin := time.Now()
			var err error
			if result, err = n.Run(inputs); err != nil {
				return err
			}
			if err := replies.Encode(map[string]float64{"seconds": time.Since(begin).Seconds()}); err != nil {
				return err
			}
		case "save":
			if result == nil {
				return errors.New("save: nothing has run")
			}
			raw, err := binary.Append(nil, binary.LittleEndian, result[0])
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, raw, 0o666); err != nil {
				return err
			}
			if err := replies.Encode(map[string]string{"saved": path}); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown command %q", lines.Text())
		}
	}
	return lines.Err()
}
