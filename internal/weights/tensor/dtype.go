package tensor

// DType is the element type of a stored tensor.
type DType uint8

// The element types. The zero DType is no type.
const (
	F64 DType = iota + 1
	F32
	F16
	BF16
	I64
	I32
	I16
	I8
	U8
	Bool
)

var dtypes = [...]struct {
	name string
	size int
}{F64: {"F64", 8}, F32: {"F32", 4}, F16: {"F16", 2}, BF16: {"BF16", 2}, I64: {"I64", 8}, I32: {"I32", 4}, I16: {"I16", 2},
	I8: {"I8", 1}, U8: {"U8", 1}, Bool: {"BOOL", 1}}

// Size is the number of bytes of one element; 0 for an unknown type.
func (d DType) Size() int {
	if int(d) < len(dtypes) {
		return dtypes[d].size
	}
	return 0
}

// String is the name the type has in safetensors headers.
func (d DType) String() string {
	if d.Size() == 0 {
		return "unknown"
	}
	return dtypes[d].name
}

// Float reports whether the type is a floating-point one.
func (d DType) Float() bool { return d >= F64 && d <= BF16 }

// ParseDType finds a type by its safetensors name.
func ParseDType(name string) (DType, bool) {
	for d := F64; d <= Bool; d++ {
		if dtypes[d].name == name {
			return d, true
		}
	}
	return 0, false
}
