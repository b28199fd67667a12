package sample

import (
	"slices"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Masks. As in the reference's script, the masks of images say where the holes are: N x 1 x H x W, 1 (from one half on) in a
// hole and 0 where the image is known. Masks of latents, of [Request], say what to keep, as those of its samplers do.

// CanInpaint says whether a model takes a masked image and its mask beside the latent. Any other model can be used with
// [Request.Known].
func CanInpaint(m *nn.Model) bool {
	return m.Conditioner != nil && m.Conditioner.Config.Kind == nn.FirstStageCond && m.FirstStage != nil &&
		concatChannels(m) == m.FirstStage.Config.EmbedDim+1
}

// InpaintCondition is the condition of inpainting models for images N x 3 x H x W in [-1, 1] and masks of their holes
// (reference: scripts/inpaint.py): holes are black, the masked image goes through the first stage, neither quantised nor
// scaled, and the mask, -1 or 1, is taken at the top left pixel of each latent cell. A hole that holds no such pixel does not
// exist for the model. Tiles, unless nil, are how images too large for one run are encoded.
func InpaintCondition(s *engine.Session, images, holes []float32, n, h, w int, tiles *TileConfig) (Condition, error) {
	m := s.Model
	if !CanInpaint(m) {
		return Condition{}, exitcode.Errorf(exitcode.Usage, "%s: the model does not take a masked image; any model can keep a known region of the latent instead", m.Config.Path)
	}
	f, err := encode.New(s)
	if err != nil {
		return Condition{}, err
	}
	if err := checkImages(images, holes, n, h, w); err != nil {
		return Condition{}, err
	}
	masked := slices.Clone(images)
	for i := range masked {
		if hole(holes, i, h*w) {
			masked[i] = -1
		}
	}
	var z []float32
	if tiles != nil {
		z, err = f.EncodeTiles(masked, n, h, w, encode.Options{}, *tiles)
	} else {
		z, err = f.Encode(masked, n, h, w, encode.Options{})
	}
	if err != nil {
		return Condition{}, err
	}
	k := f.Factor()
	lw, cells, c := w/k, h/k*(w/k), f.Channels()
	out := make([]float32, n*(c+1)*cells)
	for i := range n {
		row := out[i*(c+1)*cells:]
		copy(row, z[i*c*cells:(i+1)*c*cells])
		for j := range cells {
			row[c*cells+j] = -1
			if holes[i*h*w+j/lw*k*w+j%lw*k] >= 0.5 {
				row[c*cells+j] = 1
			}
		}
	}
	return Condition{Concat: out}, nil
}

func checkImages(images, holes []float32, n, h, w int) error {
	if len(images) != n*3*h*w || len(holes) != n*h*w {
		return exitcode.Errorf(exitcode.Internal, "inpainting: %d numbers and a mask of %d for %d images of %dx%d", len(images), len(holes), n, h, w)
	}
	return nil
}

// hole says whether number i of images N x 3 x pixels lies in a hole.
func hole(holes []float32, i, pixels int) bool { return holes[i/(3*pixels)*pixels+i%pixels] >= 0.5 }

// KeepMask is the mask of latents, N x 1 x H/f x W/f, that keeps the cells without any pixel in a hole. A hole of one pixel
// frees its cell; the nearest pixel alone, which the reference's scripts look at, can miss it.
func KeepMask(holes []float32, n, h, w, f int) []float32 {
	lh, lw := h/f, w/f
	out := make([]float32, n*lh*lw)
	for i := range out {
		out[i] = 1
	}
	for i, v := range holes {
		if y, x := i%(h*w)/w/f, i%w/f; v >= 0.5 && y < lh && x < lw {
			out[(i/(h*w)*lh+y)*lw+x] = 0
		}
	}
	return out
}

// Paste puts the known pixels of images over generated ones in place, both N x 3 x H x W: holes keep what was generated.
func Paste(generated, images, holes []float32, n, h, w int) error {
	if err := checkImages(images, holes, n, h, w); err != nil {
		return err
	}
	if len(generated) != len(images) {
		return exitcode.Errorf(exitcode.Internal, "inpainting: %d generated numbers for %d known", len(generated), len(images))
	}
	for i := range generated {
		if !hole(holes, i, h*w) {
			generated[i] = images[i]
		}
	}
	return nil
}

// Extend prepares outpainting: an image 3 x h x w is put on a canvas of H x W with its top left corner at (top, left), and what
// it does not cover is a hole. The canvas repeats the image's edge, which gives the first stage of [Request.Known] nothing
// unusual to encode; inpainting models see holes in black. The image must lie on the canvas.
func Extend(image []float32, h, w, canvasH, canvasW, top, left int) (canvas, holes []float32, err error) {
	if h < 1 || w < 1 || len(image) != 3*h*w || top < 0 || left < 0 || top+h > canvasH || left+w > canvasW {
		return nil, nil, exitcode.Errorf(exitcode.Data, "outpainting: an image of %dx%d (height x width) at (%d, %d) does not lie on a canvas of %dx%d", h, w, top, left, canvasH, canvasW)
	}
	canvas, holes = make([]float32, 3*canvasH*canvasW), make([]float32, canvasH*canvasW)
	for y := range canvasH {
		for x := range canvasW {
			sy, sx := min(max(y-top, 0), h-1), min(max(x-left, 0), w-1)
			if sy != y-top || sx != x-left {
				holes[y*canvasW+x] = 1
			}
			for c := range 3 {
				canvas[(c*canvasH+y)*canvasW+x] = image[(c*h+sy)*w+sx]
			}
		}
	}
	return canvas, holes, nil
}
