package torch

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/weights/pickle"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// numpyTypes are the little-endian dtypes by their code.
var numpyTypes = map[string]tensor.DType{"f8": tensor.F64, "f4": tensor.F32, "f2": tensor.F16, "i8": tensor.I64, "i4": tensor.I32,
	"i2": tensor.I16, "i1": tensor.I8, "u1": tensor.U8, "b1": tensor.Bool}

// numpyType reads a pickled dtype, dtype(code, …) with the state (version, byte order, …).
func numpyType(v any) (tensor.DType, bool) {
	o, ok := v.(*pickle.Object)
	if !ok || o.Args == nil || len(o.Args.Items) == 0 {
		return 0, false
	}
	if g, ok := o.Class.(*pickle.Global); !ok || g.String() != "numpy.dtype" {
		return 0, false
	}
	if st, ok := o.State.(*pickle.Tuple); ok && len(st.Items) > 1 && st.Items[1] == any(">") {
		return 0, false
	}
	code, _ := o.Args.Items[0].(string)
	d, ok := numpyTypes[strings.TrimLeft(code, "<=|")]
	return d, ok
}

// numpyScalar reads the numbers that training frameworks keep as scalar(dtype, bytes); another dtype stays opaque.
func numpyScalar(args []any) (any, error) {
	if len(args) == 2 {
		d, ok1 := numpyType(args[0])
		b, ok2 := args[1].(pickle.Bytes)
		if ok1 && ok2 && len(b) == d.Size() {
			le := binary.LittleEndian
			switch d {
			case tensor.F64:
				return math.Float64frombits(le.Uint64(b)), nil
			case tensor.F32:
				return float64(math.Float32frombits(le.Uint32(b))), nil
			case tensor.I64:
				return int64(le.Uint64(b)), nil
			case tensor.I32:
				return int64(int32(le.Uint32(b))), nil
			case tensor.Bool:
				return b[0] != 0, nil
			}
		}
	}
	return &pickle.Object{Class: &pickle.Global{Module: "numpy", Name: "generic"}}, nil
}

// isArray tells a pickled array: _reconstruct(ndarray, …) with the state (version, shape, dtype, Fortran order, bytes).
func isArray(o *pickle.Object) bool {
	g, ok := o.Class.(*pickle.Global)
	return ok && g.Name == "_reconstruct" && (g.Module == "numpy.core.multiarray" || g.Module == "numpy._core.multiarray")
}

// array makes a tensor of a pickled array. ok is false for a dtype that is not supported, such as objects or strings.
func array(name string, o *pickle.Object, lim tensor.Limits) (t *tensor.Tensor, ok bool, err error) {
	st, ok1 := o.State.(*pickle.Tuple)
	if !ok1 || len(st.Items) != 5 {
		return nil, false, nil
	}
	d, ok1 := numpyType(st.Items[2])
	data, ok2 := st.Items[4].(pickle.Bytes)
	if !ok1 || !ok2 {
		return nil, false, nil
	}
	shape, ok1 := st.Items[1].(*pickle.Tuple)
	columns, ok2 := st.Items[3].(bool)
	if !ok1 || !ok2 {
		return nil, false, fmt.Errorf("array %.200q is malformed", name)
	}
	l := &lazy{storage: &storage{dtype: d, data: tensor.Memory(data)}, shape: shape.Items}
	sizes := make([]int64, len(shape.Items))
	n := int64(1)
	for i, v := range shape.Items {
		s, ok := v.(int64)
		if !ok || s < 0 || s > 0 && n > math.MaxInt64/s {
			return nil, false, fmt.Errorf("array %.200q: shape is malformed", name)
		}
		sizes[i] = s
		n *= max(s, 1)
	}
	// Row-major strides grow from the last dimension to the first, column-major ones the other way.
	l.stride = make([]any, len(sizes))
	step := int64(1)
	for i := range sizes {
		at := len(sizes) - 1 - i
		if columns {
			at = i
		}
		l.stride[at] = step
		step *= max(sizes[at], 1)
	}
	t, err = l.tensor(name, lim)
	return t, err == nil, err
}
