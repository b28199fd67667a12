package training

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// decoderPrefix begins the parameters after which the reference lists its loss.
const decoderPrefix = "decoder."

// Model lists the state dict as it is now, in the order and under the names of the reference, its loss included: log-variance,
// perceptual network, discriminator with running statistics. The tensors are views and change with the next step.
func (t *Trainer) Model() ([]*weights.Tensor, error) {
	var list []*weights.Tensor
	add := func(name string, shape []int, values []float32) error {
		x, err := tensor.FromFloat32(name, shape, values)
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		list = append(list, x)
		return nil
	}
	params := t.net.stage.Params()
	for i, p := range params {
		if err := add(p.Name, p.Shape, t.params.Data(p.Name)); err != nil {
			return nil, err
		}
		last := i+1 == len(params) || !strings.HasPrefix(params[i+1].Name, decoderPrefix)
		if strings.HasPrefix(p.Name, decoderPrefix) && last {
			if err := t.addLoss(&list, add); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// addLoss lists the part of the loss.
func (t *Trainer) addLoss(list *[]*weights.Tensor, add func(name string, shape []int, values []float32) error) error {
	if t.net.kl() {
		if err := add(logVarKey, []int{}, t.params.Data(logVarKey)); err != nil {
			return err
		}
	}
	if t.net.perceptual {
		*list = append(*list, t.perceptual.Tensors()...)
	}
	if t.net.discriminator == nil {
		return nil
	}
	state := t.normTensors()
	for _, k := range t.net.discriminator.Keys() {
		s, ok := state[k.Name]
		switch {
		case ok && s.values == nil:
			x, err := s.counterTensor(k.Name)
			if err != nil {
				return fmt.Errorf("checkpoint: %w", err)
			}
			*list = append(*list, x)
		case ok:
			if err := add(k.Name, k.Shape, s.values); err != nil {
				return err
			}
		default:
			if err := add(k.Name, k.Shape, t.params.Data(k.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// normTensor is an entry of a normalisation that is no parameter: statistics, or a counter.
type normTensor struct {
	values  []float32
	counter *int64
	flag    bool // the counter is 0 or 1, stored as a byte
}

func (t *Trainer) normTensors() map[string]normTensor {
	state := map[string]normTensor{}
	for i := range t.norms {
		n := &t.norms[i]
		state[n.Counter] = normTensor{counter: &n.counter, flag: n.Shift != ""}
		if n.mean != nil {
			state[n.Mean], state[n.Variance] = normTensor{values: n.mean}, normTensor{values: n.variance}
		}
	}
	return state
}

func (s normTensor) counterTensor(name string) (*weights.Tensor, error) {
	if s.flag {
		return tensor.New(name, tensor.U8, []int{}, nil, 0, tensor.Memory([]byte{byte(*s.counter)}), tensor.Limits{})
	}
	return tensor.New(name, tensor.I64, []int{}, nil, 0, tensor.Memory(binary.LittleEndian.AppendUint64(nil, uint64(*s.counter))), tensor.Limits{})
}

// Optimiser lists the moments of every parameter. The tensors are views and change with the next step.
func (t *Trainer) Optimiser() ([]*weights.Tensor, error) { return train.Moments(t.params) }

// Restore goes on from a checkpoint: the model that [Trainer.Model] listed, the state that [Trainer.Optimiser] listed, and the
// number of batches that had been made. The perceptual network stays the one that the trainer was made with.
func (t *Trainer) Restore(model, optimiser *weights.File, steps int64) error {
	if err := t.load(model, t.net.params()); err != nil {
		return err
	}
	if err := t.loadNorms(model); err != nil {
		return err
	}
	if err := train.ReadMoments(optimiser, t.params); err != nil {
		return err
	}
	t.params.Changed()
	t.steps = steps
	return nil
}

// Load begins with the weights of a model file, which must hold the autoencoder, alone, and may hold its loss: without a
// log-variance or a discriminator those stay as they are. Moments and the number of steps stay zero.
func (t *Trainer) Load(model *weights.File) error {
	if err := t.load(model, t.net.stage.Params()); err != nil {
		return err
	}
	if _, ok := model.Lookup(logVarKey); ok && t.net.kl() {
		if err := model.Read(logVarKey, t.params.Data(logVarKey)); err != nil {
			return err
		}
	}
	if d := t.net.discriminator; d != nil {
		if _, ok := model.Lookup(d.Params()[0].Name); ok {
			if err := t.load(model, d.Params()); err != nil {
				return err
			}
			if err := t.loadNorms(model); err != nil {
				return err
			}
		}
	}
	t.params.Changed()
	return nil
}

func (t *Trainer) loadNorms(model *weights.File) error {
	for name, s := range t.normTensors() {
		if s.values != nil {
			if err := model.Read(name, s.values); err != nil {
				return err
			}
			continue
		}
		var err error
		if *s.counter, err = readCounter(model, name); err != nil {
			return err
		}
	}
	return nil
}

// load reads parameters.
func (t *Trainer) load(f *weights.File, list []ir.Param) error {
	for _, p := range list {
		if err := f.Read(p.Name, t.params.Data(p.Name)); err != nil {
			return err
		}
	}
	return nil
}

func readCounter(f *weights.File, name string) (int64, error) {
	x, err := f.Entry(name, 1)
	if err != nil {
		return 0, err
	}
	b, err := x.Bytes()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", f.Path(), err)
	}
	switch len(b) {
	case 1:
		return int64(b[0]), nil
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(b))), nil
	case 8:
		return int64(binary.LittleEndian.Uint64(b)), nil
	}
	return 0, exitcode.Errorf(exitcode.Data, "%s: %s has type %v, want whole numbers", f.Path(), name, x.DType)
}

// Weights are the present weights, for networks that are run beside the training.
func (t *Trainer) Weights() plan.WeightSource { return t.params }
