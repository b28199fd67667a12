package dataset

import (
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// arrowLeaf is where the values of a leaf of the schema tree lie: a column, and the fields to take of structs on the way down.
// Lists on the way are passed through.
type arrowLeaf struct {
	column int
	fields []int
}

// arrowElements describes an Arrow schema the way a Parquet file with the same columns does, so that columns are found by the same
// rules. Leaves are in the order of the tree.
func arrowElements(schema *arrow.Schema) ([]format.SchemaElement, []arrowLeaf) {
	b := &arrowTree{}
	b.group("schema", schema.NumFields(), format.LogicalType{})
	for i, f := range schema.Fields() {
		b.add(f.Name, f.Type, arrowLeaf{column: i})
	}
	return b.elements, b.leaves
}

type arrowTree struct {
	elements []format.SchemaElement
	leaves   []arrowLeaf
}

func (b *arrowTree) group(name string, children int, logical format.LogicalType) *format.SchemaElement {
	b.elements = append(b.elements, format.SchemaElement{
		Name: name, RepetitionType: thrift.New(format.Optional), NumChildren: thrift.New(int32(children)), LogicalType: logical,
	})
	return &b.elements[len(b.elements)-1]
}

func (b *arrowTree) add(name string, t arrow.DataType, at arrowLeaf) {
	switch t := t.(type) {
	case arrow.ExtensionType:
		b.add(name, t.StorageType(), at)
		return
	case *arrow.DictionaryType:
		b.add(name, t.ValueType, at)
		return
	case *arrow.MapType: // not a list of anything: refused when asked for
		b.group(name, 0, format.LogicalType{})
		return
	case arrow.ListLikeType:
		b.group(name, 1, format.LogicalType{Value: &format.ListType{}})
		b.group("list", 1, format.LogicalType{}).RepetitionType = thrift.New(format.Repeated)
		b.add("element", t.Elem(), at)
		return
	case *arrow.StructType:
		b.group(name, t.NumFields(), format.LogicalType{})
		for i, f := range t.Fields() {
			b.add(f.Name, f.Type, arrowLeaf{at.column, append(slices.Clone(at.fields), i)})
		}
		return
	}
	kind, logical, width, ok := arrowPhysical(t)
	if !ok {
		b.group(name, 0, format.LogicalType{})
		return
	}
	e := format.SchemaElement{Name: name, RepetitionType: thrift.New(format.Optional), Type: thrift.New(kind)}
	if width > 0 {
		e.TypeLength = thrift.New(int32(width))
	}
	if logical != nil {
		e.LogicalType.Value = logical
	}
	b.elements, b.leaves = append(b.elements, e), append(b.leaves, at)
}

// arrowPhysical returns the Parquet type of a type without children; ok is false for those that are never read.
func arrowPhysical(t arrow.DataType) (kind format.Type, logical format.LogicalTypeValue, width int, ok bool) {
	switch t := t.(type) {
	case *arrow.NullType:
		return format.Int32, &format.NullType{}, 0, true
	case *arrow.BooleanType:
		return format.Boolean, nil, 0, true
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Int32Type, *arrow.Int64Type, *arrow.Uint8Type, *arrow.Uint16Type, *arrow.Uint32Type, *arrow.Uint64Type:
		bits := t.(arrow.FixedWidthDataType).BitWidth()
		signed := arrow.IsSignedInteger(t.ID())
		if kind = format.Int32; bits == 64 {
			kind = format.Int64
		}
		return kind, &format.IntType{BitWidth: int8(bits), IsSigned: signed}, 0, true
	case *arrow.Float16Type:
		return format.FixedLenByteArray, &format.Float16Type{}, 2, true
	case *arrow.Float32Type:
		return format.Float, nil, 0, true
	case *arrow.Float64Type:
		return format.Double, nil, 0, true
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType:
		return format.ByteArray, &format.StringType{}, 0, true
	case *arrow.BinaryType, *arrow.LargeBinaryType, *arrow.BinaryViewType:
		return format.ByteArray, nil, 0, true
	case *arrow.FixedSizeBinaryType:
		return format.FixedLenByteArray, nil, t.ByteWidth, t.ByteWidth > 0
	case *arrow.Date32Type, *arrow.Date64Type:
		return format.Int32, &format.DateType{}, 0, true
	case *arrow.TimestampType:
		return format.Int64, &format.TimestampType{Unit: format.TimeUnit{Value: &format.NanoSeconds{}}}, 0, true
	case *arrow.Decimal128Type:
		return format.FixedLenByteArray, &format.DecimalType{Scale: t.Scale, Precision: t.Precision}, 16, true
	case *arrow.Decimal256Type:
		return format.FixedLenByteArray, &format.DecimalType{Scale: t.Scale, Precision: t.Precision}, 32, true
	}
	return 0, nil, 0, false // times of day, durations, intervals, unions, run-end encoded arrays
}
