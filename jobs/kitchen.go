package jobs

import (
	"errors"
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/resize"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// kitchen is what one worker prepares pictures with.
type kitchen struct {
	dec     picture.Decoder
	options picture.Options
	matte   *[3]uint8 // laid under transparent pixels; nil keeps the colors as they are
	nearest *resize.Resizer
}

func newKitchen(job *spec.Spec) (*kitchen, error) {
	k := &kitchen{options: picture.Options{Limits: pictureLimits(job), ApplyOrientation: job.Input.EXIF == "apply", Keep16: true}}
	if job.Output.Alpha == "matte" {
		c, err := spec.ParseColor(job.Output.Matte)
		if err != nil {
			return nil, err
		}
		k.matte = &c
	}
	var err error
	k.nearest, err = resize.New("pil-nearest")
	return k, err
}

// pictureLimits bound what a picture may take.
func pictureLimits(job *spec.Spec) picture.Limits {
	l := picture.DefaultLimits()
	l.MaxPixels = int64(job.Limits.MaxPixels)
	return l
}

// decode decodes an image as the job says.
func (k *kitchen) decode(data []byte) (*picture.Image, error) {
	m, err := k.dec.Decode(data, k.options)
	if err != nil {
		return nil, err
	}
	if k.matte != nil && m.Alpha != nil {
		m.Matte(*k.matte)
	}
	return m, nil
}

// further decodes the image of a further column.
func (k *kitchen) further(what string, images []dataset.Image, i int) (*picture.Image, error) {
	if i >= len(images) {
		return nil, exitcode.Errorf(exitcode.Internal, "%s: no such column", what)
	}
	if err := images[i].Err; err != nil {
		var e *dataset.Error
		if errors.As(err, &e) { // the item says where by itself
			err = e.Err
		}
		return nil, fmt.Errorf("%s is missing: %w", what, err)
	}
	m, err := k.dec.Decode(images[i].Bytes, k.options)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return m, nil
}

// planes turns pixels (h x w x 3, 0..255) into planes (3 x toH x toW) in [-1, 1]; what lies beyond the picture on the right and
// below mirrors it.
func planes(pix []uint8, h, w, toH, toW int) []float32 {
	out := make([]float32, 3*toH*toW)
	for y := range toH {
		row := pix[3*w*mirror(y, h):]
		for x := range toW {
			p := row[3*mirror(x, w):]
			for c := range 3 {
				out[(c*toH+y)*toW+x] = float32(p[c])/127.5 - 1
			}
		}
	}
	return out
}

// mirror reflects an index beyond n back into 0..n-1, without repeating the edge.
func mirror(i, n int) int {
	if n == 1 {
		return 0
	}
	i %= 2*n - 2
	return min(i, 2*n-2-i)
}

// upTo rounds n up to a multiple of k.
func upTo(n, k int) int { return (n + k - 1) / k * k }
