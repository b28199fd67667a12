package torch

import (
	"errors"
	"fmt"
	"math"

	"github.com/ldm-batch/ldm-batch/internal/weights/pickle"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

var storageTypes = map[string]tensor.DType{
	"DoubleStorage": tensor.F64, "FloatStorage": tensor.F32, "HalfStorage": tensor.F16, "BFloat16Storage": tensor.BF16,
	"LongStorage": tensor.I64, "IntStorage": tensor.I32, "ShortStorage": tensor.I16, "CharStorage": tensor.I8,
	"ByteStorage": tensor.U8, "BoolStorage": tensor.Bool,
}

// storage is what a persistent id resolves to.
type storage struct {
	dtype  tensor.DType
	data   tensor.Storage
	offset int64  // of a view into a root storage, in elements
	why    string // not empty: the type is not supported and nothing can be read from it
}

// lazy is a tensor as the pickle describes it, unchecked: only what the state dict names must be sound.
type lazy struct {
	storage       *storage
	offset        int64
	shape, stride []any
}

// persistentID takes ('storage', class, key, location, numel[, view]) apart.
func persistentID(id any, find func(key string, d tensor.DType, numel int64) (tensor.Storage, error)) (any, error) {
	t, ok := id.(*pickle.Tuple)
	if !ok || len(t.Items) < 5 || len(t.Items) > 6 || t.Items[0] != any("storage") {
		return nil, errors.New("persistent id is not that of a storage")
	}
	class, ok1 := t.Items[1].(*pickle.Global)
	key, ok2 := t.Items[2].(string)
	numel, ok3 := t.Items[4].(int64)
	if !ok1 || !ok2 || !ok3 || numel < 0 {
		return nil, errors.New("persistent id of a storage is malformed")
	}
	d, ok := storageTypes[class.Name]
	if !ok || class.Module != "torch" && class.Module != "torch.cuda" {
		return &storage{why: fmt.Sprintf("storage type %.100q is not supported", class)}, nil
	}
	if numel > math.MaxInt64/8 {
		return nil, fmt.Errorf("storage %.50q of %d elements", key, numel)
	}
	data, err := find(key, d, numel)
	if err != nil {
		return nil, err
	}
	s := &storage{dtype: d, data: data}
	if len(t.Items) == 6 && t.Items[5] != nil { // (key, offset, numel): a view of the storage
		v, ok := t.Items[5].(*pickle.Tuple)
		if !ok || len(v.Items) != 3 {
			return nil, errors.New("storage view is malformed")
		}
		off, ok1 := v.Items[1].(int64)
		n, ok2 := v.Items[2].(int64)
		if !ok1 || !ok2 || off < 0 || n < 0 || off > numel || n > numel-off {
			return nil, errors.New("storage view leaves its storage")
		}
		s.offset = off
	}
	return s, nil
}

// calls is the allow-list: everything a checkpoint may call. All other globals stay opaque.
var calls = map[string]func(args []any) (any, error){
	"collections.OrderedDict":                    orderedDict,
	"torch._utils._rebuild_tensor":               rebuildTensor,
	"torch._utils._rebuild_tensor_v2":            rebuildTensor,
	"torch._utils._rebuild_parameter":            rebuildParameter,
	"torch._utils._rebuild_parameter_with_state": rebuildParameter,
	"_codecs.encode":                             encode,
	"numpy.core.multiarray.scalar":               numpyScalar,
	"numpy._core.multiarray.scalar":              numpyScalar,
}

func orderedDict(args []any) (any, error) {
	d := pickle.NewDict()
	if len(args) == 0 {
		return d, nil
	}
	pairs, ok := args[0].(*pickle.List)
	if !ok || len(args) != 1 {
		return nil, errors.New("arguments are not a list of pairs")
	}
	for _, p := range pairs.Items {
		var kv []any
		switch p := p.(type) {
		case *pickle.Tuple:
			kv = p.Items
		case *pickle.List:
			kv = p.Items
		}
		if len(kv) != 2 {
			return nil, errors.New("arguments are not a list of pairs")
		}
		if err := d.Set(kv[0], kv[1]); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// rebuildTensor takes (storage, offset, size, stride, ...); gradient flags and hooks are of no use.
func rebuildTensor(args []any) (any, error) {
	if len(args) < 4 || len(args) > 7 {
		return nil, fmt.Errorf("%d arguments", len(args))
	}
	s, ok1 := args[0].(*storage)
	off, ok2 := args[1].(int64)
	size, ok3 := args[2].(*pickle.Tuple)
	stride, ok4 := args[3].(*pickle.Tuple)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, fmt.Errorf("arguments are %s, %s, %s, %s", pickle.Describe(args[0]), pickle.Describe(args[1]),
			pickle.Describe(args[2]), pickle.Describe(args[3]))
	}
	return &lazy{s, off, size.Items, stride.Items}, nil
}

func rebuildParameter(args []any) (any, error) {
	if len(args) < 3 || len(args) > 4 {
		return nil, fmt.Errorf("%d arguments", len(args))
	}
	t, ok := args[0].(*lazy)
	if !ok {
		return nil, fmt.Errorf("argument is a %s, not a tensor", pickle.Describe(args[0]))
	}
	return t, nil
}

// tensor checks the description and makes the tensor.
func (l *lazy) tensor(name string, lim tensor.Limits) (*tensor.Tensor, error) {
	if l.storage.why != "" {
		return nil, fmt.Errorf("tensor %.200q: %s", name, l.storage.why)
	}
	if len(l.shape) > lim.Rank {
		return nil, fmt.Errorf("tensor %.200q: %d dimensions, limit %d", name, len(l.shape), lim.Rank)
	}
	shape, stride := make([]int, len(l.shape)), make([]int64, 0, len(l.stride))
	for i, v := range l.shape {
		n, ok := v.(int64)
		if !ok || int64(int(n)) != n {
			return nil, fmt.Errorf("tensor %.200q: a size is a %s", name, pickle.Describe(v))
		}
		shape[i] = int(n)
	}
	for _, v := range l.stride {
		n, ok := v.(int64)
		if !ok {
			return nil, fmt.Errorf("tensor %.200q: a stride is a %s", name, pickle.Describe(v))
		}
		stride = append(stride, n)
	}
	if l.offset > math.MaxInt64-l.storage.offset {
		return nil, fmt.Errorf("tensor %.200q: storage offset %d", name, l.offset)
	}
	off := l.offset
	if off >= 0 { // a negative one is refused below, whatever the view
		off += l.storage.offset
	}
	return tensor.New(name, l.storage.dtype, shape, stride, off, l.storage.data, lim)
}

// encode is how protocol 2 writes bytes: a string of code points below 256.
func encode(args []any) (any, error) {
	if len(args) != 2 || args[1] != any("latin1") {
		return nil, errors.New("only latin1 is supported")
	}
	s, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("argument is a %s", pickle.Describe(args[0]))
	}
	b := make(pickle.Bytes, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return nil, errors.New("string is not latin1")
		}
		b = append(b, byte(r))
	}
	return b, nil
}
