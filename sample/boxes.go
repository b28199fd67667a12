package sample

import (
	"encoding/json"
	"math"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// ParseBoxes reads values of two columns: a list of [x, y, width, height], in fractions of the image, and a list of as many category
// numbers. Either may be JSON, as jobs of kind Encode pass lists on. Errors are of class exitcode.Data.
func ParseBoxes(boxes, categories any) ([]Box, error) {
	list, ok := listOf(boxes)
	classes, ok2 := listOf(categories)
	if !ok || !ok2 {
		return nil, exitcode.Errorf(exitcode.Data, "want a list of [x, y, width, height] and a list of category numbers")
	}
	if len(list) != len(classes) {
		return nil, exitcode.Errorf(exitcode.Data, "%d boxes and %d categories", len(list), len(classes))
	}
	var out []Box
	for i := range list {
		b, _ := list[i].([]any)
		c, whole := wholeNumber(classes[i])
		if len(b) != 4 || !whole {
			return nil, exitcode.Errorf(exitcode.Data, "box %d is not [x, y, width, height] with a category number", i)
		}
		var v [4]float64
		for j, x := range b {
			switch n := x.(type) {
			case float64:
				v[j] = n
			case int64:
				v[j] = float64(n)
			default:
				return nil, exitcode.Errorf(exitcode.Data, "box %d: %v is not a number", i, x)
			}
		}
		out = append(out, Box{Class: int(c), Rect: Rect{X: v[0], Y: v[1], W: v[2], H: v[3]}})
	}
	return out, nil
}

func listOf(v any) ([]any, bool) {
	if text, ok := v.(string); ok {
		var list []any
		return list, json.Unmarshal([]byte(text), &list) == nil && list != nil
	}
	list, ok := v.([]any)
	return list, ok
}

func wholeNumber(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case float64: // of JSON
		return int64(n), n == math.Trunc(n) && math.Abs(n) < 1<<53
	}
	return 0, false
}
