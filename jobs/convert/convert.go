// Package convert writes checkpoints as safetensors files or as checkpoints of PyTorch.
//
// Concept: the output exists only when it is whole: it is written beside its place, hashed on the way, read back and renamed.
// Data flow: checkpoint -> selected tensors, one at a time -> temporary file -> headers read back -> final name.
// Ownership: both files are closed on return. Errors: a bad checkpoint is class data, an existing output class usage.
package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

// Options say what changes on the way.
type Options struct {
	EMA            bool   // the moving average in place of the raw weights
	DType          string // f64, f32, f16, bf16, or "" for as it is
	FirstStageOnly bool   // only the autoencoder, under its own names
	NoFirstStage   bool   // without the autoencoder
	InferenceOnly  bool   // without what training alone reads
	To             string // safetensors, ckpt for a PyTorch checkpoint, or "" for what the name of the output says
	Overwrite      bool   // replace an existing file
}

// Result describes the written file.
type Result struct {
	Schema  string `json:"schema"` // ldm-batch/convert/v1
	In      string `json:"in"`
	Out     string `json:"out"`
	Format  string `json:"format"` // of the input
	Tensors int    `json:"tensors"`
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"`
}

var dtypes = map[string]weights.DType{"": 0, "f64": weights.F64, "f32": weights.F32, "f16": weights.F16, "bf16": weights.BF16}

// formats are the values of Options.To.
var formats = map[string]string{"safetensors": weights.Safetensors, "ckpt": weights.TorchZip}

// format is what the output is written as.
func (o Options) format(out string) (string, error) {
	if o.To == "" {
		if ext := filepath.Ext(out); ext == ".ckpt" || ext == ".pt" || ext == ".pth" {
			return weights.TorchZip, nil
		}
		return weights.Safetensors, nil
	}
	f, ok := formats[o.To]
	if !ok {
		return "", exitcode.Errorf(exitcode.Usage, "format %q is not one of safetensors, ckpt", o.To)
	}
	return f, nil
}

// Convert writes the tensors of the model file in as the file out.
func Convert(ctx context.Context, in, out string, o Options) (_ *Result, err error) {
	dtype, ok := dtypes[strings.ToLower(o.DType)]
	if !ok {
		return nil, exitcode.Errorf(exitcode.Usage, "dtype %q is not one of f64, f32, f16, bf16", o.DType)
	}
	format, err := o.format(out)
	if err != nil {
		return nil, err
	}
	if !o.Overwrite {
		if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return nil, err
			}
			return nil, exitcode.Errorf(exitcode.Usage, "%s exists; give --overwrite to replace it", out)
		}
	}
	f, err := weights.Open(in, weights.Limits{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tmp, err := os.MkdirTemp(filepath.Dir(out), ".ldm-batch-convert-*")
	if err != nil {
		return nil, exitcode.With(exitcode.IO, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	sum := sha256.New()
	count := &counter{ctx: ctx}
	res := &Result{Schema: "ldm-batch/convert/v1", In: in, Out: out, Format: f.Format()}
	write := func(w io.Writer) error {
		return weights.Convert(f, io.MultiWriter(count, w, sum), weights.ConvertOptions{EMA: o.EMA, DType: dtype, FirstStageOnly: o.FirstStageOnly, NoFirstStage: o.NoFirstStage, InferenceOnly: o.InferenceOnly, Format: format})
	}
	check := func(path string) error {
		written, err := weights.Open(path, weights.Limits{})
		if err != nil {
			return fmt.Errorf("written file does not read back: %w", err)
		}
		res.Tensors = len(written.Tensors())
		return written.Close()
	}
	if err := (atomicfile.Writer{TempDir: tmp}).Replace(out, write, check); err != nil {
		return nil, err
	}
	res.Bytes, res.SHA256 = count.n, hex.EncodeToString(sum.Sum(nil))
	return res, nil
}

// counter counts bytes and ends the writing when the context ends.
type counter struct {
	ctx context.Context
	n   int64
}

func (c *counter) Write(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	c.n += int64(len(p))
	return len(p), nil
}
