package training

import (
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/sample"
)

// parseBoxes reads a list of [x, y, width, height], in fractions of the image, and a list of as many category numbers.
func parseBoxes(boxes, categories any) ([]sample.Box, error) {
	list, ok := boxes.([]any)
	classes, ok2 := categories.([]any)
	if !ok || !ok2 || len(list) != len(classes) {
		return nil, exitcode.Errorf(exitcode.Data, "want a list of [x, y, width, height] and a list of as many category numbers")
	}
	var out []sample.Box
	for i := range list {
		b, _ := list[i].([]any)
		c, whole := classes[i].(int64)
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
		out = append(out, sample.Box{Class: int(c), Rect: sample.Rect{X: v[0], Y: v[1], W: v[2], H: v[3]}})
	}
	return out, nil
}
