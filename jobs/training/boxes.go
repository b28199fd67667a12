package training

import (
	"slices"

	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/sample"
)

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
