package training

import (
	"encoding/json"
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/sample"
)

// parseBoxes reads a list of [x, y, width, height], in fractions of the image, and a list of as many category numbers. Lists may
// be written as JSON, as jobs of kind Encode do.
func parseBoxes(boxes, categories any) ([]sample.Box, error) {
	list, ok := listOf(boxes)
	classes, ok2 := listOf(categories)
	if !ok || !ok2 || len(list) != len(classes) {
		return nil, exitcode.Errorf(exitcode.Data, "want a list of [x, y, width, height] and a list of as many category numbers")
	}
	var out []sample.Box
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
		out = append(out, sample.Box{Class: int(c), Rect: sample.Rect{X: v[0], Y: v[1], W: v[2], H: v[3]}})
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

// inPlace says which part of an image of h x w pixels was cut out, and mirrors it with its boxes where the image was.
func inPlace(boxes []sample.Box, c sample.LayoutConfig, h, w int, at preprocess.Placement) ([]sample.Box, sample.LayoutConfig) {
	fx, fy := float64(at.Source.W)/float64(at.ResizedW), float64(at.Source.H)/float64(at.ResizedH)
	c.Crop = sample.Rect{
		X: (float64(at.Source.X) + fx*float64(at.Window.X)) / float64(w), W: fx * float64(at.Window.W) / float64(w),
		Y: (float64(at.Source.Y) + fy*float64(at.Window.Y)) / float64(h), H: fy * float64(at.Window.H) / float64(h),
	}
	if at.Flip {
		boxes = slices.Clone(boxes)
		for i := range boxes {
			boxes[i].X = 1 - boxes[i].X - boxes[i].W
		}
		c.Crop.X = 1 - c.Crop.X - c.Crop.W
	}
	return boxes, c
}
