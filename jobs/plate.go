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
	filter *resize.Resizer // enlarges alpha
	file   bytes.Buffer
}

// finish encodes the image of an item.
func (p *plate) finish(it *item) {
	frame, err := p.frame(it)
	if err == nil && it.given.reference != nil {
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
	if err := p.restore(f, it); err != nil {
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
					f.Pix8[to+c] = uint8((uint32(known.Pix16[from+c]) + 128) / 257)
				}
			default:
				copy(f.Pix8[to:to+kc], known.Pix8[from:from+kc])
			}
		}
	}
}

// restore puts alpha and metadata back.
func (p *plate) restore(f *picture.Frame, it *item) error {
	src := it.given.source
	if p.job.Output.Alpha == "keep" && src.Alpha != nil {
		a, err := p.alphaOf(f, it)
		if err == nil {
			err = f.AddAlpha(a)
		}
		if err != nil {
			return fmt.Errorf("alpha: %w", err)
		}
	}
	if p.job.Output.Metadata == "keep" {
		f.Carry(src, p.job.Output.Format)
	}
	return nil
}

// alphaOf is the source's alpha for a result: enlarged with it by a bicubic filter, cut like it, opaque where the source ends and
// where holes were filled.
func (p *plate) alphaOf(f *picture.Frame, it *item) (*picture.Frame, error) {
	g := &it.given
	src := g.source
	a := picture.NewFrame(f.W, f.H, 1, f.Depth())
	if f.Pix16 == nil {
		return a, alphaPlane(p, a.Pix8, src.Alpha, it, func(dst, src []uint8, s resize.Shape) error { return p.filter.Uint8(dst, src, s) })
	}
	wide := src.Alpha16
	if wide == nil {
		wide = make([]uint16, len(src.Alpha))
		for i, v := range src.Alpha {
			wide[i] = uint16(v) * 257
		}
	}
	return a, alphaPlane(p, a.Pix16, wide, it, p.filter16)
}

// alphaPlane writes the alpha of a result.
func alphaPlane[T uint8 | uint16](p *plate, dst, alpha []T, it *item, filter func(dst, src []T, s resize.Shape) error) error {
	g := &it.given
	src := g.source
	if g.scale > 1 {
		if p.filter == nil {
			var err error
			if p.filter, err = resize.New("pil-bicubic"); err != nil {
				return err
			}
		}
		return filter(dst, alpha, resize.Shape{SrcH: src.H, SrcW: src.W, DstH: g.outH, DstW: g.outW, Channels: 1})
	}
	for i := range dst {
		y, x := i/g.outW, i%g.outW
		dst[i] = ^T(0)
		if sy, sx := y-g.top, x-g.left; sy >= 0 && sx >= 0 && sy < src.H && sx < src.W && (g.holes == nil || g.holes[y*it.w+x] < 0.5) {
			dst[i] = alpha[sy*src.W+sx]
		}
	}
	return nil
}

// filter16 enlarges a plane of 16 bits.
func (p *plate) filter16(dst, src []uint16, s resize.Shape) error {
	in, out := make([]float32, len(src)), make([]float32, len(dst))
	for i, v := range src {
		in[i] = float32(v)
	}
	if err := p.filter.Float32(out, in, s); err != nil {
		return err
	}
	for i, v := range out {
		dst[i] = uint16(min(max(v, 0), 65535) + 0.5)
	}
	return nil
}

// scoreNames are the columns of scores, at the end of a row.
var scoreNames = []string{"psnr", "ssim"}

// score compares a result with its reference, as 8-bit RGB, and adds the columns.
func (p *plate) score(it *item, f *picture.Frame) error {
	ref, extra := it.given.reference, it.row.Extra[len(it.row.Extra)-len(scoreNames):]
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
