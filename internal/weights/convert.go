package weights

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/half"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/internal/weights/torch"
)

// FirstStagePrefix is where latent diffusion checkpoints keep their autoencoder.
const FirstStagePrefix = "first_stage_model."

// ConvertOptions say what [Convert] changes.
type ConvertOptions struct {
	EMA            bool   // take the moving average in place of the raw weights and drop its own entries
	DType          DType  // store weights as F64, F32, F16 or BF16; 0 keeps each type, as the schedule's tables always do
	FirstStageOnly bool   // only the autoencoder, its names without [FirstStagePrefix]
	NoFirstStage   bool   // without the autoencoder, of which models that share one need a single copy
	InferenceOnly  bool   // without what training alone reads: losses with their discriminator, log-variances, averages that are not taken, twins of the first stage
	Format         string // [Safetensors], which is also "", or [TorchZip]
}

// Validate checks the options.
func (o ConvertOptions) Validate() error {
	if o.DType != 0 && !o.DType.Float() {
		return exitcode.Errorf(exitcode.Usage, "conversion to %v: use F64, F32, F16 or BF16", o.DType)
	}
	if o.Format != "" && o.Format != Safetensors && o.Format != TorchZip {
		return exitcode.Errorf(exitcode.Usage, "conversion to format %q: use %s or %s", o.Format, Safetensors, TorchZip)
	}
	if o.FirstStageOnly && o.NoFirstStage {
		return exitcode.Errorf(exitcode.Usage, "the first stage alone, and nothing of it: take one of both")
	}
	if o.EMA && o.FirstStageOnly {
		return exitcode.Errorf(exitcode.Usage, "the first stage has no moving average")
	}
	return nil
}

// Convert writes the tensors of a file, one after the other; only one strided tensor is in memory at a time. Safetensors get the
// metadata {"format": "pt"}, and wide types come first and by name, so that every one is aligned. A PyTorch checkpoint keeps the
// order of the file and the numbers beside its state dict, of which "global_step" and "epoch" are always there, as programs expect.
// Tensors that share a storage are written separately. F64 values go to half types through float32.
// A value that DType cannot hold (beyond ±65504 in F16) is an error.
func Convert(in *File, out io.Writer, opt ConvertOptions) error {
	if err := opt.Validate(); err != nil {
		return err
	}
	tensors, err := selectTensors(in, opt)
	if err != nil {
		return exitcode.With(exitcode.Data, err)
	}
	entries := make([]safetensors.Entry, len(tensors))
	for i, t := range tensors {
		d := t.DType
		if opt.DType != 0 && d.Float() && !exact(t.Name) {
			d = opt.DType
		}
		entries[i] = safetensors.Entry{Name: t.Name, DType: d, Shape: t.Shape, Data: func() io.Reader {
			if d == t.DType {
				return t.Reader()
			}
			return &converter{t: t, to: d}
		}}
	}
	if opt.Format == TorchZip {
		return convertTorch(in, out, entries)
	}
	slices.SortStableFunc(entries, func(a, b safetensors.Entry) int {
		return cmp.Or(cmp.Compare(b.DType.Size(), a.DType.Size()), strings.Compare(a.Name, b.Name))
	})
	return safetensors.Write(out, entries, map[string]string{"format": "pt"})
}

func convertTorch(in *File, out io.Writer, entries []safetensors.Entry) error {
	list := make([]torch.Entry, len(entries))
	for i, e := range entries {
		list[i] = torch.Entry(e)
	}
	numbers := map[string]int64{"epoch": 0, "global_step": 0}
	for k, v := range in.meta {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			numbers[k] = n
		}
	}
	return torch.WriteZip(out, list, numbers)
}

// exact says whether a tensor holds numbers of the diffusion itself and no weights: in half precision they would be another schedule.
func exact(name string) bool {
	return name == "scale_factor" || name == logvar || slices.Contains(ScheduleBuffers, name) || slices.Contains(emaState, name)
}

// logvar is the log-variance of each time that a diffusion model may learn.
const logvar = "logvar"

// trainingOnly says whether a tensor is read by training alone. twins: the conditioner is the first stage once more.
func trainingOnly(name string, twins bool) bool {
	for _, prefix := range []string{"", FirstStagePrefix, conditionerPrefix} {
		if strings.HasPrefix(name, prefix+"loss.") || name == prefix+"colorize" {
			return true
		}
	}
	return name == logvar || strings.HasPrefix(name, EMAPrefix) || twins && strings.HasPrefix(name, conditionerPrefix)
}

const conditionerPrefix = "cond_stage_model."

// conditionerIsFirstStage says whether a file holds the first stage twice, the second time as its conditioner.
func conditionerIsFirstStage(in *File) (bool, error) {
	found := false
	for _, t := range in.tensors {
		name, ok := strings.CutPrefix(t.Name, conditionerPrefix)
		if !ok {
			continue
		}
		twin, ok := in.byName[FirstStagePrefix+name]
		if !ok || twin.DType != t.DType || !slices.Equal(twin.Shape, t.Shape) {
			return false, nil
		}
		a, err := t.Bytes()
		if err != nil {
			return false, err
		}
		b, err := twin.Bytes()
		if err != nil {
			return false, err
		}
		if !bytes.Equal(a, b) {
			return false, nil
		}
		found = true
	}
	return found, nil
}

// selectTensors picks and renames what is to be written.
func selectTensors(in *File, opt ConvertOptions) ([]*Tensor, error) {
	var out []*Tensor
	var missing []string
	twins, shadows := false, 0
	if opt.InferenceOnly {
		var err error
		if twins, err = conditionerIsFirstStage(in); err != nil {
			return nil, err
		}
	}
	for _, t := range in.tensors {
		switch {
		case opt.InferenceOnly && trainingOnly(t.Name, twins):
			continue
		case opt.NoFirstStage && strings.HasPrefix(t.Name, FirstStagePrefix):
			continue
		case opt.FirstStageOnly:
			if name, ok := strings.CutPrefix(t.Name, FirstStagePrefix); ok {
				out = append(out, t.Renamed(name))
			}
			continue
		case !opt.EMA:
		case strings.HasPrefix(t.Name, EMAPrefix):
			continue
		default:
			s, ok := EMAName(t.Name)
			if !ok {
				break
			}
			shadow, found := in.byName[s]
			if !found {
				missing = append(missing, s)
				break
			}
			if !slices.Equal(shadow.Shape, t.Shape) {
				return nil, fmt.Errorf("%s has shape %v, its average %v", t.Name, t.Shape, shadow.Shape)
			}
			shadows++
			t = shadow.Renamed(t.Name)
		}
		out = append(out, t)
	}
	switch {
	case opt.FirstStageOnly && len(out) == 0:
		return nil, fmt.Errorf("the file holds no %s entries", FirstStagePrefix)
	case len(missing) > 0:
		return nil, fmt.Errorf("the moving average is incomplete: %d missing: %s", len(missing), abridge(missing))
	case opt.EMA && shadows == 0:
		return nil, errors.New("the file holds no moving average")
	}
	return out, nil
}

// converter streams a tensor in another floating-point type.
type converter struct {
	t    *Tensor
	to   DType
	src  io.Reader
	raw  []byte
	done int // elements
	out  bytes.Buffer
}

func (c *converter) Read(p []byte) (int, error) {
	if c.out.Len() == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	return c.out.Read(p)
}

// next converts up to 64 Ki elements.
func (c *converter) next() error {
	n, es := min(64<<10, c.t.NumElements()-c.done), c.t.DType.Size()
	if n == 0 {
		return io.EOF
	}
	if c.src == nil {
		c.src, c.raw = c.t.Reader(), make([]byte, n*es)
	}
	raw := c.raw[:n*es]
	if _, err := io.ReadFull(c.src, raw); err != nil {
		return err
	}
	le := binary.LittleEndian
	var b [8]byte
	for i := range n {
		v := element(raw[i*es:], c.t.DType)
		f := float32(v)
		ok := !math.IsInf(float64(f), 0) || math.IsInf(v, 0)
		switch c.to {
		case F64:
			le.PutUint64(b[:], math.Float64bits(v))
			ok = true
		case F32:
			le.PutUint32(b[:], math.Float32bits(f))
		case F16, BF16:
			round := half.Round
			if c.to == BF16 {
				round = tensor.Float32ToBF16
			}
			h, fits := round(f)
			le.PutUint16(b[:], h)
			ok = ok && fits
		}
		if !ok {
			return exitcode.Errorf(exitcode.Data, "tensor %q, element %d: %g does not fit %v", c.t.Name, c.done+i, v, c.to)
		}
		c.out.Write(b[:c.to.Size()])
	}
	c.done += n
	return nil
}

func element(b []byte, d DType) float64 {
	le := binary.LittleEndian
	switch d {
	case F64:
		return math.Float64frombits(le.Uint64(b))
	case F32:
		return float64(math.Float32frombits(le.Uint32(b)))
	case F16:
		return float64(half.Float32(le.Uint16(b)))
	}
	return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16))
}
