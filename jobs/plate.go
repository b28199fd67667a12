package jobs

import (
	"bytes"
	"fmt"
	"math"
	"path"
	"strings"
	"sync"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/io/resize"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// plate turns what networks made into image files, in the kind of the source: gray stays gray, 16 bits stay 16 bits, alpha,
// color profile and EXIF are put back as the job says. It serves one worker.
type plate struct {
	job    *spec.Spec
	scores *scores
	alpha  *resize.Resizer
	file   bytes.Buffer
}

// finish encodes the image of an item.
func (p *plate) finish(it *item) {
	frame, err := p.frame(it)
	if err == nil && p.job.Sample.Score {
		err = p.score(it, frame)
	}
	if err == nil {
		p.file.Reset()
		err = picture.Encode(&p.file, frame, picture.EncodeOptions{Format: p.job.Output.Format, Quality: p.job.Output.Quality})
	}
	if err != nil {
		it.fail("encode", err)
		return
	}
	it.row.Image = append([]byte(nil), p.file.Bytes()...)
	if p.job.Output.Layout != "tree" { // whose names are settled
		it.row.ImagePath = renamed(it.row.ImagePath, p.job.Output.Format)
	}
	it.row.Width, it.row.Height = frame.W, frame.H
	it.out, it.given = nil, given{}
}

// renamed gives a name the extension of a format, in place of that of another one.
func renamed(name, format string) string {
	switch ext := path.Ext(name); strings.ToLower(ext) {
	case ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm":
		name = strings.TrimSuffix(name, ext)
	}
	return name + "." + format
}

// frame is the finished picture.
func (p *plate) frame(it *item) (*picture.Frame, error) {
	g := &it.given
	src := g.source
	channels, depth, rounding := 3, 8, preprocess.Rounding(preprocess.Truncate) // as the reference's scripts round
	if src != nil {
		channels = src.Channels
		if src.Depth16 && src.Pix16 != nil && p.job.Output.Format == "png" {
			depth, rounding = 16, preprocess.Round
		}
	}
	out := cut(it.out, it.h, it.w, g.outH, g.outW)
	if channels == 1 {
		gray := out[:g.outH*g.outW]
		if err := preprocess.Luma(gray, out); err != nil {
			return nil, err
		}
		out = gray
	}
	f := picture.NewFrame(g.outW, g.outH, channels, depth)
	var err error
	if depth == 16 {
		err = preprocess.ToUint16(f.Pix16, out, channels, g.outH, g.outW, rounding)
	} else {
		err = preprocess.ToUint8(f.Pix8, out, channels, g.outH, g.outW, rounding)
	}
	if err != nil || src == nil {
		return f, err
	}
	if g.holes != nil {
		p.keepKnown(f, it)
	}
	if err := p.restore(f, src); err != nil {
		return nil, err
	}
	return f, nil
}

// cut takes the top left h x w pixels out of planes (3 x inH x inW).
func cut(x []float32, inH, inW, h, w int) []float32 {
	if h == inH && w == inW {
		return x
	}
	out := make([]float32, 0, 3*h*w)
	for c := range 3 {
		for y := range h {
			out = append(out, x[(c*inH+y)*inW:][:w]...)
		}
	}
	return out
}

// keepKnown writes the source's own samples over every pixel outside of the holes.
func (p *plate) keepKnown(f *picture.Frame, it *item) {
	g := &it.given
	known := g.source.Frame()
	kc := g.source.Channels
	stride := known.Channels
	for y := range known.H {
		for x := range known.W {
			oy, ox := y+g.top, x+g.left
			if g.holes[oy*it.w+ox] >= 0.5 {
				continue
			}
			to, from := f.Channels*(oy*f.W+ox), stride*(y*known.W+x)
			switch {
			case f.Pix16 != nil:
				copy(f.Pix16[to:to+kc], known.Pix16[from:from+kc])
			case known.Pix16 != nil:
				for c := range kc {
					f.Pix8[to+c] = uint8(known.Pix16[from+c] >> 8)
				}
			default:
				copy(f.Pix8[to:to+kc], known.Pix8[from:from+kc])
			}
		}
	}
}

// restore puts alpha and metadata back.
func (p *plate) restore(f *picture.Frame, src *picture.Image) error {
	if p.job.Output.Alpha == "keep" && src.Alpha != nil && p.job.Output.Format == "png" {
		a, err := p.alphaOf(src, f)
		if err != nil {
			return fmt.Errorf("alpha: %w", err)
		}
		if err := f.AddAlpha(a); err != nil {
			return err
		}
	}
	if p.job.Output.Metadata == "keep" {
		f.Carry(src, p.job.Output.Format)
	}
	return nil
}

// alphaOf is the source's alpha at the result's size: enlarged with a bicubic filter.
func (p *plate) alphaOf(src *picture.Image, f *picture.Frame) (*picture.Frame, error) {
	a := picture.NewFrame(f.W, f.H, 1, 8)
	if src.H == f.H && src.W == f.W {
		copy(a.Pix8, src.Alpha)
	} else {
		if p.alpha == nil {
			var err error
			if p.alpha, err = resize.New("pil-bicubic"); err != nil {
				return nil, err
			}
		}
		if err := p.alpha.Uint8(a.Pix8, src.Alpha, resize.Shape{SrcH: src.H, SrcW: src.W, DstH: f.H, DstW: f.W, Channels: 1}); err != nil {
			return nil, err
		}
	}
	if f.Pix16 == nil {
		return a, nil
	}
	wide := picture.NewFrame(f.W, f.H, 1, 16)
	for i, v := range a.Pix8 {
		wide.Pix16[i] = uint16(v) * 257
	}
	return wide, nil
}

// scoreColumns is how many columns scores take, at the end of a row.
const scoreColumns = 2

// score compares a result with its reference, as 8-bit RGB, and adds the columns.
func (p *plate) score(it *item, f *picture.Frame) error {
	ref, extra := it.given.reference, it.row.Extra[len(it.row.Extra)-scoreColumns:]
	a, b := rgb(f), eval.Picture{H: ref.H, W: ref.W, C: 3, Pix8: ref.Pix}
	psnr, err := eval.PSNR(a, b, eval.Options{})
	if err != nil {
		return fmt.Errorf("score: %w", err)
	}
	ssim, err := eval.SSIM(a, b, eval.Options{})
	if err != nil { // smaller than its window
		extra[0] = psnr
		return nil
	}
	extra[0], extra[1] = psnr, ssim
	p.scores.add(psnr, ssim)
	return nil
}

// rgb is the color of a frame with 8 bits.
func rgb(f *picture.Frame) eval.Picture {
	out := eval.Picture{H: f.H, W: f.W, C: 3, Pix8: make([]uint8, 3*f.H*f.W)}
	for i := range f.H * f.W {
		for c := range 3 {
			at := i * f.Channels
			if f.Channels >= 3 {
				at += c
			}
			if f.Pix16 != nil {
				out.Pix8[3*i+c] = uint8(f.Pix16[at] >> 8)
			} else {
				out.Pix8[3*i+c] = f.Pix8[at]
			}
		}
	}
	return out
}

// scores are the means over the rows of a run.
type scores struct {
	mu         sync.Mutex
	n          int64
	psnr, ssim float64
}

func (s *scores) add(psnr, ssim float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if math.IsInf(psnr, 1) {
		psnr = 100 // equal pictures
	}
	s.psnr, s.ssim = s.psnr+psnr, s.ssim+ssim
}

// means is the mean of each score, nil without any.
func (s *scores) means() map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == 0 {
		return nil
	}
	return map[string]float64{"psnr": round3(s.psnr / float64(s.n)), "ssim": round3(s.ssim / float64(s.n))}
}
