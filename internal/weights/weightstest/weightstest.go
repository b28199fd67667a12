// Package weightstest makes checkpoints for tests.
//
// Concept: a test of names and shapes needs a file of full size but no values. A sparse file has a header and a hole, takes
// a few blocks of disk and reads as zeros.
package weightstest

import (
	"fmt"
	"os"

	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// WriteSparse writes a safetensors file of the keys, all zero, without writing the values. Entries are F32, but for the
// update counter of a moving average, which is I32.
func WriteSparse(path string, keys []weights.Param) error {
	entries := make([]safetensors.Entry, len(keys))
	var size int64
	for i, k := range keys {
		d := tensor.F32
		if k.Name == weights.EMAPrefix+"num_updates" {
			d = tensor.I32
		}
		n, err := tensor.NumElements(k.Shape)
		if err != nil {
			return fmt.Errorf("%s: %w", k.Name, err)
		}
		size += int64(n) * int64(d.Size())
		entries[i] = safetensors.Entry{Name: k.Name, DType: d, Shape: k.Shape}
	}
	head, err := safetensors.Header(entries, map[string]string{"format": "pt"})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, head, 0o644); err != nil {
		return err
	}
	return os.Truncate(path, int64(len(head))+size)
}

// WithEMA returns the keys and, behind them, the entries of a complete moving average.
func WithEMA(keys []weights.Param) []weights.Param {
	out := append([]weights.Param(nil), keys...)
	out = append(out, weights.Param{Name: weights.EMAPrefix + "decay", Shape: []int{}},
		weights.Param{Name: weights.EMAPrefix + "num_updates", Shape: []int{}})
	for _, k := range keys {
		if s, ok := weights.EMAName(k.Name); ok {
			out = append(out, weights.Param{Name: s, Shape: k.Shape})
		}
	}
	return out
}
