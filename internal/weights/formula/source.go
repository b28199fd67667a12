package formula

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// Source says how names become weights.
type Source struct {
	Prefix string  // in front of every name when it is hashed; not part of the tensor's name
	Gain   float64 // of weights; 0 means 1
}

// Tensors makes a tensor for each key, computed when read. Counters (num_batches_tracked) are I64, all others F32.
func (s Source) Tensors(keys []weights.Param) ([]*tensor.Tensor, error) {
	gain := s.Gain
	if gain == 0 {
		gain = 1
	}
	ranks := make(map[string]int, len(keys))
	for _, k := range keys {
		ranks[k.Name] = len(k.Shape)
	}
	rankOf := func(name string) (int, bool) { r, ok := ranks[name]; return r, ok }
	out := make([]*tensor.Tensor, len(keys))
	for i, k := range keys {
		kind := KindOf(k.Name, len(k.Shape), rankOf)
		var err error
		if kind == Zero {
			var n int
			if n, err = tensor.NumElements(k.Shape); err == nil {
				out[i], err = tensor.New(k.Name, tensor.I64, k.Shape, nil, 0, zeros(8*n), tensor.Limits{})
			}
		} else {
			out[i], err = tensor.Generated(k.Name, k.Shape, func(dst []float32) error {
				Fill(dst, s.Prefix+k.Name, kind, k.Shape, gain)
				return nil
			})
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// File makes a model file of the keys.
func (s Source) File(keys []weights.Param) (*weights.File, error) {
	t, err := s.Tensors(keys)
	if err != nil {
		return nil, err
	}
	return weights.NewMemory(t)
}

// zeros is a storage of that many zero bytes.
type zeros int64

func (z zeros) Size() int64 { return int64(z) }

func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	n := max(0, min(int64(len(p)), int64(z)-off))
	clear(p[:n])
	if int(n) < len(p) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// ParseKeys reads a list of state dict entries, one a line: the name, then the sizes, either as "128x3x3x3" or "scalar"
// behind a space, or as "[128, 3, 3, 3]" behind a tab. Empty lines and lines that begin with '#' are passed over.
func ParseKeys(r io.Reader) ([]weights.Param, error) {
	var keys []weights.Param
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, sizes, ok := strings.Cut(line, "\t")
		if !ok {
			name, sizes, ok = strings.Cut(line, " ")
		}
		shape, err := parseShape(sizes)
		if err == nil && (!ok || name == "") {
			err = errors.New("needs a name and sizes")
		}
		if err != nil {
			return nil, fmt.Errorf("key list, line %d: %w", n, err)
		}
		keys = append(keys, weights.Param{Name: name, Shape: shape})
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("key list: %w", err)
	}
	return keys, nil
}

func parseShape(s string) ([]int, error) {
	if s == "scalar" || s == "[]" {
		return []int{}, nil
	}
	sep := "x"
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(inner, "]"); !ok {
			return nil, fmt.Errorf("sizes %q", inner)
		}
		sep = ", "
	}
	var shape []int
	for _, f := range strings.Split(s, sep) {
		n, err := strconv.Atoi(f)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("size %q", f)
		}
		shape = append(shape, n)
	}
	return shape, nil
}
