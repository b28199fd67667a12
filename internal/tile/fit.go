package tile

import (
	"errors"
	"math"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// smallest is the side of the smallest tile that is chosen, in latent cells: of smaller ones the overlap is most.
const smallest = 32

// ErrTooLarge is the error of an image that does not fit into memory in the smallest tiles.
var ErrTooLarge = errors.New("not enough memory even for the smallest tiles")

// Fit says which tiles may be chosen, and within which memory.
type Fit struct {
	Limit   int64  // bytes beside weights
	Overlap int    // of neighbours, in latent cells; below 0 a quarter of the tile
	Norm    string // see [Config]
}

// Choose decides how an image of h x w cells, multiples of a number of cells, is computed. It asks what one frame, nil, or tiles
// need and returns the choice with its needs:
//
// One frame where that fits, unless tiles take less than half of its work, which happens where attention, whose work grows with the
// square of the size, is most of it. Otherwise the largest tiles that fit and whose attention is no more than half of their work;
// with the statistics of the whole image, as many tiles give them together as fit. An image that does not fit in the smallest
// tiles is [ErrTooLarge], of class data, with what they need.
func (f Fit) Choose(h, w, multiple int, needs func(*Config) (engine.Needs, error)) (*Config, engine.Needs, error) {
	frame, err := needs(nil)
	if err != nil {
		return nil, frame, err
	}
	fits := frame.Total() <= f.Limit
	if fits && 2*frame.Attention <= frame.FLOP { // tiles repeat the other half at least
		return nil, frame, nil
	}
	c, tiles, err := f.largest(max(h, w)/multiple, multiple, needs)
	switch {
	case err != nil:
		return nil, tiles, err
	case fits && (c == nil || frame.FLOP <= 2*tiles.FLOP):
		return nil, frame, nil
	case c == nil:
		if tiles == (engine.Needs{}) || frame.Total() < tiles.Total() {
			tiles = frame
		}
		return nil, tiles, exitcode.Errorf(exitcode.Data, "%w: %d MiB are needed, the limit is %d MiB", ErrTooLarge, tiles.Total()>>20, f.Limit>>20)
	}
	return f.together(*c, tiles, needs)
}

// largest is the largest tiles, smaller than a number of units of cells, that fit and whose attention is no more than half of
// their work, and the smallest in any case, with statistics from fewer of them together if need be; nil when those do not fit, with
// their needs.
func (f Fit) largest(units, unit int, needs func(*Config) (engine.Needs, error)) (*Config, engine.Needs, error) {
	least := (max(smallest, 3*f.Overlap) + unit - 1) / unit
	var n engine.Needs
	for size := units; size > least; {
		// In few steps, since each builds the graphs.
		size = max(min(size-1, int(math.Round(float64(size)*0.8))), least)
		c := &Config{Size: size * unit, Overlap: f.Overlap, Norm: f.Norm}
		if c.Overlap < 0 {
			c.Overlap = c.Size / 4
		}
		var err error
		if n, err = needs(c); err != nil {
			return nil, n, err
		}
		if n.Total() <= f.Limit && (2*n.Attention <= n.FLOP || size == least) {
			return c, n, nil
		}
		for k := together / 2; size == least && k > 0 && f.Norm != Own; k /= 2 {
			c.Together = k
			if n, err = needs(c); err != nil || n.Total() <= f.Limit {
				return c, n, err
			}
		}
	}
	return nil, n, nil
}

// together raises the number of tiles that give statistics together until they no longer fit or none are left.
func (f Fit) together(c Config, n engine.Needs, needs func(*Config) (engine.Needs, error)) (*Config, engine.Needs, error) {
	if c.Norm == Own {
		return &c, n, nil
	}
	for k := 2 * together; c.Together == 0 || c.Together >= together; k *= 2 {
		t := c
		t.Together = k
		more, err := needs(&t)
		if err != nil {
			return nil, n, err
		}
		if more.Total() > f.Limit || more.Total() <= n.Total() {
			return &c, n, nil
		}
		c, n = t, more
	}
	return &c, n, nil
}
