package extract

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
)

// maxLatent is the most features that latents have; larger ones are averaged over squares of cells.
const maxLatent = 2048

// LatentsConfig describes the latents of a first stage.
type LatentsConfig struct {
	Identity   Identity
	Preprocess preprocess.Config // with a size
	C, H, W    int               // of a latent, in cells
	// Encode returns the latents, n x C x H x W, of n images, n x 3 x size in [-1, 1]. It reads them until the next call.
	Encode func(images []float32, n int) ([]float32, error)
}

// Latents takes the latents of a first stage as features: as they are up to 2048 of them, else their means over the smallest
// squares of cells, of sides 2, 4, 8 and so on, that leave so few.
type Latents struct {
	c    LatentsConfig
	pool int // side of the squares
	tap  Tap
}

// NewLatents checks the configuration.
func NewLatents(c LatentsConfig) (*Latents, error) {
	if err := c.Preprocess.Validate(); err != nil {
		return nil, exitcode.With(exitcode.Usage, err)
	}
	if c.Preprocess.Crop == preprocess.Random || c.Preprocess.Flip {
		return nil, exitcode.Errorf(exitcode.Usage, "latents as features are not to depend on chance: neither crop random nor flip")
	}
	if c.Preprocess.Size.H < 1 || c.Preprocess.Size.W < 1 {
		return nil, exitcode.Errorf(exitcode.Usage, "latents as features need one size of all pictures")
	}
	l := &Latents{c: c, pool: 1}
	for c.C*(c.H/l.pool)*(c.W/l.pool) > maxLatent {
		if l.pool *= 2; c.H%l.pool != 0 || c.W%l.pool != 0 {
			return nil, exitcode.Errorf(exitcode.Usage, "latents of %d x %d x %d cannot be averaged to %d features: another size of pictures is needed", c.C, c.H, c.W, maxLatent)
		}
	}
	l.tap = Tap{"latent", c.C * (c.H / l.pool) * (c.W / l.pool)}
	if l.pool > 1 {
		l.tap.Name = fmt.Sprintf("latent_mean%d", l.pool)
	}
	return l, nil
}

// Identity implements [Network].
func (l *Latents) Identity() Identity { return l.c.Identity }

// Taps implements [Network].
func (l *Latents) Taps() []Tap { return []Tap{l.tap} }

// Inputs implements [Network].
func (l *Latents) Inputs() int { return 3 * l.c.Preprocess.Size.H * l.c.Preprocess.Size.W }

// NewPreparer implements [Network].
func (l *Latents) NewPreparer() (Preparer, error) {
	p, err := preprocess.New(l.c.Preprocess)
	return &latentPreparer{p: p}, err
}

type latentPreparer struct {
	p   *preprocess.Preprocessor
	rgb []uint8
}

// Prepare implements [Preparer].
func (l *latentPreparer) Prepare(dst []float32, p eval.Picture) error {
	pix, err := rgb8(&l.rgb, p)
	if err != nil {
		return err
	}
	at, err := l.p.Place(p.H, p.W, nil)
	if err != nil {
		return err
	}
	return l.p.CHW(dst, preprocess.Picture{Pix: pix, H: p.H, W: p.W, Channels: 3}, at)
}

// rgb8 is a picture's 8 bits as RGB: gray is repeated, alpha dropped. Those of another form are written to scratch.
func rgb8(scratch *[]uint8, p eval.Picture) ([]uint8, error) {
	if p.Pix8 == nil {
		return nil, fmt.Errorf("this network reads pictures of 8 bits")
	}
	if p.C == 3 {
		return p.Pix8, nil
	}
	rgb := slices.Grow((*scratch)[:0], 3*p.H*p.W)[:3*p.H*p.W]
	step := min(1, p.C/3)
	for i := range p.H * p.W {
		for c := range 3 {
			rgb[3*i+c] = p.Pix8[p.C*i+c*step]
		}
	}
	*scratch = rgb
	return rgb, nil
}

// Features implements [Network].
func (l *Latents) Features(inputs []float32, n int) ([][]float32, error) {
	z, err := l.c.Encode(inputs, n)
	if err != nil {
		return nil, err
	}
	k, h, w := l.pool, l.c.H/l.pool, l.c.W/l.pool
	if len(z) != n*l.c.C*l.c.H*l.c.W {
		return nil, exitcode.Errorf(exitcode.Internal, "%d values for %d latents of %d x %d x %d", len(z), n, l.c.C, l.c.H, l.c.W)
	}
	if k == 1 {
		return [][]float32{slices.Clone(z)}, nil
	}
	out := make([]float32, n*l.tap.D)
	for i := range out {
		y, x := i/w%h*k, i%w*k
		plane := z[i/(h*w)*l.c.H*l.c.W:]
		sum := 0.0
		for dy := range k {
			for _, v := range plane[(y+dy)*l.c.W+x:][:k] {
				sum += float64(v)
			}
		}
		out[i] = float32(sum / float64(k*k))
	}
	return [][]float32{out}, nil
}

// Close implements [Network]; the first stage is the caller's.
func (l *Latents) Close() {}
