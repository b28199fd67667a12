package report

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
)

// Number is a float64 that JSON can hold whatever its value: "inf", "-inf" and "nan" are strings there.
type Number float64

// Num is a pointer to v, or nil if v is not a number: for the optional fields of a result.
func Num(v float64) *Number {
	if math.IsNaN(v) {
		return nil
	}
	n := Number(v)
	return &n
}

// Around is the interval of 95 % of a normal distribution.
func Around(value, standardError float64) *Interval {
	const z = 1.959963984540054
	return &Interval{Number(value - z*standardError), Number(value + z*standardError)}
}

// MarshalJSON writes the shortest form that reads back as the same float64.
func (n Number) MarshalJSON() ([]byte, error) {
	switch v := float64(n); {
	case math.IsNaN(v):
		return []byte(`"nan"`), nil
	case math.IsInf(v, 0):
		return strconv.AppendQuote(nil, map[bool]string{true: "inf", false: "-inf"}[v > 0]), nil
	default:
		return json.Marshal(v)
	}
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Number) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case `"nan"`:
		*n = Number(math.NaN())
	case `"inf"`:
		*n = Number(math.Inf(1))
	case `"-inf"`:
		*n = Number(math.Inf(-1))
	default:
		v, err := strconv.ParseFloat(string(b), 64)
		if err != nil {
			return &json.UnmarshalTypeError{Value: fmt.Sprintf("value %.40s", b), Type: reflect.TypeFor[Number]()}
		}
		*n = Number(v)
	}
	return nil
}
