package torch

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/weights/pickle"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

const (
	maxDepth   = 64        // of nested containers walked
	maxVisits  = 4_000_000 // values visited: shared containers may be walked many times
	maxNames   = 256 << 20 // bytes of all tensor names
	maxName    = 4096
	maxMeta    = 4096 // bytes of a string kept as metadata
	maxSkipped = 10
)

// stateDict collects the tensors of root["state_dict"], or of root itself where there is no such entry.
func stateDict(root any, lim Limits) (*Checkpoint, error) {
	top, ok := root.(*pickle.Dict)
	if attributes := module(root); attributes != nil {
		top, ok = attributes, true
	}
	if !ok {
		return nil, fmt.Errorf("%s in place of a state dict", pickle.Describe(root))
	}
	c := &Checkpoint{Metadata: map[string]string{}}
	for i, k := range top.Keys {
		if name, ok := k.(string); ok && len(name) <= maxMeta {
			if s, ok := scalar(top.Values[i]); ok {
				c.Metadata[name] = s
			}
		}
	}
	dict := top
	if v, ok := top.Get("state_dict"); ok {
		if dict, ok = v.(*pickle.Dict); !ok {
			return nil, fmt.Errorf("state_dict: %s in place of a dict", pickle.Describe(v))
		}
	}
	f := flattener{c: c, lim: lim.Tensor.OrDefault(), seen: map[string]bool{}}
	if err := f.walk("", dict, 0); err != nil {
		return nil, err
	}
	if len(c.Tensors) == 0 {
		return nil, errors.New("the state dict holds no tensor")
	}
	return c, nil
}

// module is the attributes of a module of a TorchScript archive, whose program is never looked at; nil if v is none.
func module(v any) *pickle.Dict {
	o, ok := v.(*pickle.Object)
	if !ok {
		return nil
	}
	if g, ok := o.Class.(*pickle.Global); !ok || g.Module != "__torch__" && !strings.HasPrefix(g.Module, "__torch__.") {
		return nil
	}
	attributes, _ := o.State.(*pickle.Dict)
	return attributes
}

// scalar formats what is kept as metadata.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case *big.Int:
		return v.String(), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case string:
		return v, len(v) <= maxMeta
	}
	return "", false
}

type flattener struct {
	c      *Checkpoint
	lim    tensor.Limits
	seen   map[string]bool
	visits int
	names  int
	bytes  int64
}

func (f *flattener) walk(path string, v any, depth int) error {
	if f.visits++; f.visits > maxVisits {
		return errors.New("the state dict has too many entries once shared containers are followed")
	}
	if depth > maxDepth {
		return fmt.Errorf("state dict entry %.100q is nested deeper than %d, or contains itself", path, maxDepth)
	}
	switch v := v.(type) {
	case *lazy:
		t, err := v.tensor(path, f.lim)
		if err != nil {
			return err
		}
		return f.add(t)
	case *pickle.Dict:
		for i, k := range v.Keys {
			name, ok := "", false
			switch k := k.(type) {
			case string:
				name, ok = k, true
			case int64:
				name, ok = strconv.FormatInt(k, 10), true
			}
			if ok {
				if err := f.child(path, name, v.Values[i], depth); err != nil {
					return err
				}
			}
		}
	case *pickle.List:
		return f.items(path, v.Items, depth)
	case *pickle.Tuple:
		return f.items(path, v.Items, depth)
	case *pickle.Object:
		if attributes := module(v); attributes != nil {
			return f.walk(path, attributes, depth)
		}
		if g, ok := v.Class.(*pickle.Global); ok && strings.HasPrefix(g.Module, "torch._") {
			return fmt.Errorf("state dict entry %.200q: tensors made by %.100q are not supported", path, g)
		}
		if isArray(v) {
			if t, ok, err := array(path, v, f.lim); ok || err != nil {
				if err == nil {
					err = f.add(t)
				}
				return err
			}
		}
		if len(f.c.Skipped) < maxSkipped {
			f.c.Skipped = append(f.c.Skipped, fmt.Sprintf("%.200s: %s", path, pickle.Describe(v)))
		}
	}
	return nil
}

func (f *flattener) items(path string, items []any, depth int) error {
	for i, v := range items {
		if err := f.child(path, strconv.Itoa(i), v, depth); err != nil {
			return err
		}
	}
	return nil
}

func (f *flattener) child(path, name string, v any, depth int) error {
	switch v.(type) {
	case *lazy, *pickle.Dict, *pickle.List, *pickle.Tuple, *pickle.Object:
	default:
		f.visits++
		return nil // not a tensor and no container of any
	}
	if len(path)+1+len(name) > maxName {
		return fmt.Errorf("state dict entry %.100q: name longer than %d bytes", name, maxName)
	}
	if path != "" {
		name = path + "." + name
	}
	if f.names += len(name); f.names > maxNames {
		return errors.New("the names of the state dict are too long")
	}
	return f.walk(name, v, depth+1)
}

func (f *flattener) add(t *tensor.Tensor) error {
	if len(f.c.Tensors) >= f.lim.Count {
		return fmt.Errorf("more than %d tensors", f.lim.Count)
	}
	if f.seen[t.Name] {
		return fmt.Errorf("tensor %.200q appears twice", t.Name)
	}
	if f.bytes += t.NumBytes(); f.bytes > f.lim.TotalBytes {
		return fmt.Errorf("tensors of more than %d bytes in all", f.lim.TotalBytes)
	}
	f.seen[t.Name] = true
	f.c.Tensors = append(f.c.Tensors, t)
	return nil
}
