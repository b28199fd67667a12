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
	kept    bool      // the job asks to keep alpha, and its format has none
	tally   *tally
	nearest *resize.Resizer
}

func newKitchen(job *spec.Spec, t *tally) (*kitchen, error) {
	k := &kitchen{tally: t, kept: job.Output.Alpha == "keep" && job.Output.Format == picture.JPEG, options: picture.Options{Limits: pictureLimits(job), ApplyOrientation: job.Input.EXIF == "apply", Keep16: true}}
	if job.Output.Alpha == "matte" || k.kept {
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

// decode decodes the image of an item as the job says.
func (k *kitchen) decode(it *item) (*picture.Image, error) {
	m, err := k.dec.Decode(it.raw, k.options)
	if err != nil {
		return nil, err
	}
	if k.matte != nil && m.Alpha != nil {
		m.Matte(*k.matte)
		if k.kept {
			k.tally.add("alpha_matted", it, "jpeg has no alpha: transparent pixels are laid on output.matte; png keeps them")
		}
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

// planes turns a picture into planes (3 x toH x toW) in [-1, 1], from its 16 bits where it has them; what lies beyond the picture on
// the right and below mirrors it.
func planes(m *picture.Image, toH, toW int) []float32 {
	if m.Pix16 != nil {
		return planesOf(m.Pix16, m.Channels, m.H, m.W, toH, toW)
	}
	return planesOf(m.Pix, 3, m.H, m.W, toH, toW)
}

// planesOf is planes of interleaved samples; the one channel of gray is all three.
func planesOf[T uint8 | uint16](pix []T, channels, h, w, toH, toW int) []float32 {
	out := make([]float32, 3*toH*toW)
	half := float32(^T(0)) / 2
	for y := range toH {
		row := pix[channels*w*mirror(y, h):]
		for x := range toW {
			p := row[channels*mirror(x, w):]
			for c := range 3 {
				out[(c*toH+y)*toW+x] = float32(p[min(c, channels-1)])/half - 1
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
