package dataset

import (
	"encoding/binary"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/ldm-batch/ldm-batch/internal/half"
)

// Kind is the Go type of a column's values in [Row.Values].
type Kind uint8

// The kinds.
const (
	KindBool   Kind = iota // bool
	KindInt                // int64
	KindUint               // uint64
	KindFloat              // float64 (float16 and float32 widen exactly)
	KindString             // string; decimals and UUIDs are delivered as their text
	KindBytes              // []byte
	KindTime               // time.Time in UTC, of dates and timestamps
)

func (k Kind) String() string {
	return [...]string{"bool", "int", "uint", "float", "string", "bytes", "time"}[k]
}

// Column describes a column that is delivered in [Row.Values].
type Column struct {
	Name      string
	Kind      Kind
	List      bool   // values are []any
	Depth     int    // of the lists: at 1 their elements are of Kind or nil, at 2 lists of such lists, and so on; 0 without List
	Partition bool   // the value comes from folder names
	Type      string // the stored type in words, for example "int32" or "list<string>"
}

// converter turns a non-null scalar into its Go value; it copies bytes.
type converter func(scalar) any

// valueOf says how the values of a leaf are delivered; nil when they cannot be.
func valueOf(n *node) (Kind, converter) {
	if d, ok := n.LogicalType.Value.(*format.DecimalType); ok {
		return decimalOf(n, int(d.Scale))
	}
	if n.LogicalType.Value == nil && n.ConvertedType.Valid && n.ConvertedType.V == deprecated.Decimal {
		return decimalOf(n, int(n.Scale.V))
	}
	switch n.physical() {
	case format.Boolean:
		return KindBool, func(s scalar) any { return s.bits != 0 }
	case format.Int32, format.Int64:
		return integerOf(n)
	case format.Int96:
		return KindTime, func(s scalar) any {
			nanos, julian := int64(binary.LittleEndian.Uint64(s.bytes)), int64(binary.LittleEndian.Uint32(s.bytes[8:]))
			return time.Unix((julian-2440588)*86400, nanos).UTC()
		}
	case format.Float:
		return KindFloat, func(s scalar) any { return float64(math.Float32frombits(uint32(s.bits))) }
	case format.Double:
		return KindFloat, func(s scalar) any { return math.Float64frombits(s.bits) }
	case format.ByteArray:
		if n.text() {
			return KindString, func(s scalar) any { return string(s.bytes) }
		}
	case format.FixedLenByteArray:
		switch n.LogicalType.Value.(type) {
		case *format.Float16Type:
			if n.TypeLength.V == 2 {
				return KindFloat, func(s scalar) any { return float64(half.Float32(binary.LittleEndian.Uint16(s.bytes))) }
			}
		case *format.UUIDType:
			if n.TypeLength.V == 16 {
				return KindString, func(s scalar) any { return uuidText(s.bytes) }
			}
		}
	}
	return KindBytes, func(s scalar) any { return append([]byte{}, s.bytes...) }
}

func integerOf(n *node) (Kind, converter) {
	signed := func(s scalar) int64 { return int64(s.bits) }
	if n.physical() == format.Int32 {
		signed = func(s scalar) int64 { return int64(int32(s.bits)) }
	}
	perSecond := int64(0)
	unsigned := false
	switch lt := n.LogicalType.Value.(type) {
	case *format.DateType:
		return KindTime, func(s scalar) any { return time.Unix(signed(s)*86400, 0).UTC() }
	case *format.TimeType:
		return 0, nil
	case *format.IntType:
		unsigned = !lt.IsSigned
	case *format.TimestampType:
		switch lt.Unit.Value.(type) {
		case *format.MilliSeconds:
			perSecond = 1e3
		case *format.MicroSeconds:
			perSecond = 1e6
		case *format.NanoSeconds:
			perSecond = 1e9
		default:
			return 0, nil
		}
	case nil:
		if !n.ConvertedType.Valid {
			break
		}
		switch n.ConvertedType.V {
		case deprecated.Date:
			return KindTime, func(s scalar) any { return time.Unix(signed(s)*86400, 0).UTC() }
		case deprecated.TimeMillis, deprecated.TimeMicros:
			return 0, nil
		case deprecated.TimestampMillis:
			perSecond = 1e3
		case deprecated.TimestampMicros:
			perSecond = 1e6
		case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32, deprecated.Uint64:
			unsigned = true
		}
	}
	switch {
	case perSecond > 0:
		return KindTime, func(s scalar) any {
			t := signed(s)
			sec, frac := t/perSecond, t%perSecond
			return time.Unix(sec, frac*(1e9/perSecond)).UTC()
		}
	case unsigned && n.physical() == format.Int32:
		return KindUint, func(s scalar) any { return uint64(uint32(s.bits)) }
	case unsigned:
		return KindUint, func(s scalar) any { return s.bits }
	}
	return KindInt, func(s scalar) any { return signed(s) }
}

func decimalOf(n *node, scale int) (Kind, converter) {
	const maxScale = 1 << 10
	if scale < 0 || scale > maxScale {
		return 0, nil
	}
	text := func(x *big.Int) string { return decimalText(x, scale) }
	switch n.physical() {
	case format.Int32:
		return KindString, func(s scalar) any { return text(big.NewInt(int64(int32(s.bits)))) }
	case format.Int64:
		return KindString, func(s scalar) any { return text(big.NewInt(int64(s.bits))) }
	case format.ByteArray, format.FixedLenByteArray:
		return KindString, func(s scalar) any {
			x := new(big.Int).SetBytes(s.bytes)
			if len(s.bytes) > 0 && s.bytes[0]&0x80 != 0 {
				x.Sub(x, new(big.Int).Lsh(big.NewInt(1), uint(8*len(s.bytes))))
			}
			return text(x)
		}
	}
	return 0, nil
}

// decimalText writes x divided by 10 to the power of scale, which is not negative.
func decimalText(x *big.Int, scale int) string {
	s := new(big.Int).Abs(x).String()
	if scale > 0 {
		if len(s) <= scale {
			s = strings.Repeat("0", scale-len(s)+1) + s
		}
		s = s[:len(s)-scale] + "." + s[len(s)-scale:]
	}
	if x.Sign() < 0 {
		s = "-" + s
	}
	return s
}

func uuidText(b []byte) string {
	const hex = "0123456789abcdef"
	out := make([]byte, 0, 36)
	for i, x := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			out = append(out, '-')
		}
		out = append(out, hex[x>>4], hex[x&15])
	}
	return string(out)
}
