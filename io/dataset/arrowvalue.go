package dataset

import (
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/ldm-batch/ldm-batch/internal/half"
)

// arrowValue returns element i of an array as a Go value: nil for null, []any for lists, else as [Kind] says, in memory of its own.
// fields are the fields to take of structs.
func arrowValue(a arrow.Array, i int, fields []int) (any, error) {
	if i < 0 || i >= a.Len() {
		return nil, corrupt("element %d of an array of %d", i, a.Len())
	}
	if a.IsNull(i) {
		return nil, nil
	}
	switch a := a.(type) {
	case array.ExtensionArray:
		return arrowValue(a.Storage(), i, fields)
	case *array.Dictionary:
		return arrowValue(a.Dictionary(), a.GetValueIndex(i), fields)
	case *array.Struct:
		if len(fields) == 0 {
			return nil, corrupt("a struct in place of a value")
		}
		return arrowValue(a.Field(fields[0]), i, fields[1:])
	case array.ListLike:
		first, end := a.ValueOffsets(i)
		values := a.ListValues()
		if first < 0 || first > end || end > int64(values.Len()) {
			return nil, corrupt("list of the elements %d to %d of %d", first, end, values.Len())
		}
		list := []any{}
		for k := first; k < end; k++ {
			x, err := arrowValue(values, int(k), fields)
			if err != nil {
				return nil, err
			}
			list = append(list, x)
		}
		return list, nil
	}
	return arrowScalar(a, i)
}

func arrowScalar(a arrow.Array, i int) (any, error) {
	switch a := a.(type) {
	case *array.Boolean:
		return a.Value(i), nil
	case *array.Int8:
		return int64(a.Value(i)), nil
	case *array.Int16:
		return int64(a.Value(i)), nil
	case *array.Int32:
		return int64(a.Value(i)), nil
	case *array.Int64:
		return a.Value(i), nil
	case *array.Uint8:
		return uint64(a.Value(i)), nil
	case *array.Uint16:
		return uint64(a.Value(i)), nil
	case *array.Uint32:
		return uint64(a.Value(i)), nil
	case *array.Uint64:
		return a.Value(i), nil
	case *array.Float16:
		return float64(half.Float32(a.Value(i).Uint16())), nil
	case *array.Float32:
		return float64(a.Value(i)), nil
	case *array.Float64:
		return a.Value(i), nil
	case *array.String:
		return strings.Clone(a.Value(i)), nil
	case *array.LargeString:
		return strings.Clone(a.Value(i)), nil
	case *array.StringView:
		return strings.Clone(a.Value(i)), nil
	case *array.Binary:
		return append([]byte{}, a.Value(i)...), nil
	case *array.LargeBinary:
		return append([]byte{}, a.Value(i)...), nil
	case *array.BinaryView:
		return append([]byte{}, a.Value(i)...), nil
	case *array.FixedSizeBinary:
		return append([]byte{}, a.Value(i)...), nil
	case *array.Date32:
		return time.Unix(int64(a.Value(i))*86400, 0).UTC(), nil
	case *array.Date64:
		return time.UnixMilli(int64(a.Value(i))).UTC(), nil
	case *array.Timestamp:
		return arrowTime(int64(a.Value(i)), a.DataType().(*arrow.TimestampType).Unit)
	case *array.Decimal128:
		return decimalText(a.Value(i).BigInt(), int(a.DataType().(*arrow.Decimal128Type).Scale)), nil
	case *array.Decimal256:
		return decimalText(a.Value(i).BigInt(), int(a.DataType().(*arrow.Decimal256Type).Scale)), nil
	}
	return nil, fmt.Errorf("array of type %s cannot be read", a.DataType())
}

func arrowTime(t int64, unit arrow.TimeUnit) (any, error) {
	perSecond := int64(1)
	for range int(unit) { // second, millisecond, microsecond, nanosecond
		perSecond *= 1000
	}
	return time.Unix(t/perSecond, t%perSecond*(1e9/perSecond)).UTC(), nil
}
