package jobs

import (
	"errors"
	"fmt"
	"sync"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/tile"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// inFlight is the share of limits.memory that rows between input and output may take; networks have the rest.
func inFlight(limit int64) int64 { return limit / 4 }

// needs decides, before anything of a size is run, how images of it are computed within limits.memory: as one frame, in tiles, or
// not at all, and how many at a time. How follows from the size and the job alone, so that a row's result does not depend on
// others; workers share it.
type needs struct {
	limit  int64
	tile   spec.Tile
	whole  bool // the task does not go with tiles
	factor int  // pixels along a latent cell
	model  needsModel

	mu    sync.Mutex
	known map[[2]int]way
}

// needsModel is what computes images of h x w pixels.
type needsModel interface {
	// fit chooses tiles for one image.
	fit(h, w int, f tile.Fit) (*tile.Config, engine.Needs, error)
	// needs is what n images take, cut or as one frame.
	needs(n, h, w int, c cutting) (engine.Needs, error)
	// held is the bytes that one image takes on its way from input to output.
	held(h, w int) int64
}

// cutting is how an image is cut that is not computed as one frame: one of these, or none.
type cutting struct {
	tiles   *tile.Config
	patches *sample.PatchConfig // the reference's split inputs
}

// way is how images of a size are computed.
type way struct {
	cutting
	most     int   // images at a time
	networks int64 // bytes that one takes in networks, weights not counted
	rows     int64 // bytes left for rows
	err      error // why not at all
}

// tile is the size in pixels of what networks see at a time of an image of h x w, with a number of pixels along a cell.
func (p way) tile(h, w, factor int) (int, int) {
	if p.patches != nil {
		return p.patches.Size[0] * factor, p.patches.Size[1] * factor
	}
	if p.tiles == nil {
		return h, w
	}
	return min(h, p.tiles.Size*factor), min(w, p.tiles.Size*factor)
}

// way is that for images of h x w pixels. Batches of n are no larger than fits.
func (d *needs) way(h, w, n int) way {
	d.mu.Lock()
	defer d.mu.Unlock()
	at := [2]int{h, w}
	p, ok := d.known[at]
	if !ok {
		if d.known == nil {
			d.known = map[[2]int]way{}
		}
		p = d.make(h, w, n)
		d.known[at] = p
	}
	return p
}

func (d *needs) make(h, w, n int) (p way) {
	// A row that is larger than the share of all rows passes alone, at the cost of networks.
	p.rows = max(inFlight(d.limit), d.model.held(h, w))
	room := d.limit - p.rows
	var one engine.Needs
	switch c := d.tile; {
	case c.Size == spec.Auto && !d.whole:
		p.tiles, one, p.err = d.model.fit(h, w, tile.Fit{Limit: room, Overlap: int(c.Overlap), Norm: c.Norm})
	default:
		switch {
		case c.Blend == blendReference:
			if f := d.factor; h > f*int(c.Size) || w > f*int(c.Size) {
				p.patches = patchConfig(c)
			}
		case c.Size > 0:
			p.tiles = tileConfig(c)
		}
		one, p.err = d.model.needs(1, h, w, p.cutting)
	}
	p.networks = one.Total()
	if errors.Is(p.err, tile.ErrTooLarge) || p.err == nil && one.Total() > room {
		p.err = d.tooLarge(h, w, p)
	}
	if p.err != nil {
		return p
	}
	for p.most = int(min(int64(n), room/max(one.Total(), 1))); p.most > 1; p.most-- {
		if all, err := d.model.needs(p.most, h, w, p.cutting); err == nil && all.Total() <= room {
			break
		}
	}
	p.most = max(p.most, 1)
	return p
}

// tooLarge is the message of a row that does not fit.
func (d *needs) tooLarge(h, w int, p way) error {
	how := ""
	switch {
	case d.whole:
		how = " as one frame, without tiles"
	case d.tile.Size == 0:
		how = " as one frame, and limits.tile.size is 0"
	case d.tile.Size == spec.Auto:
		how = " even in the smallest tiles"
	case p.tiles != nil:
		how = fmt.Sprintf(" in tiles of %d latent cells", p.tiles.Size)
	case p.patches != nil:
		how = fmt.Sprintf(" in patches of %d latent cells", p.patches.Size[0])
	}
	return exitcode.Errorf(exitcode.Data, "%dx%d pixels (height x width) need %d MiB of memory%s, more than limits.memory, %s",
		h, w, (p.rows+p.networks+1<<20-1)>>20, how, spec.Size(d.limit))
}

// tileConfig is that of tiles whose size the job gives.
func tileConfig(c spec.Tile) *tile.Config {
	t := &tile.Config{Size: int(c.Size), Overlap: int(c.Overlap), Norm: c.Norm}
	if c.Overlap == spec.Auto {
		t.Overlap = t.Size / 4
	}
	return t
}

// blendReference asks for the reference's split inputs.
const blendReference = "reference"

// patchConfig is that of the reference's split inputs (ks, stride); half of a patch is its neighbour's when the job does not say.
func patchConfig(c spec.Tile) *sample.PatchConfig {
	overlap := c.Overlap
	if overlap == spec.Auto {
		overlap = c.Size / 2
	}
	side, stride := int(c.Size), int(c.Size-overlap)
	return &sample.PatchConfig{Size: [2]int{side, side}, Stride: [2]int{stride, stride}}
}

// checkPatches checks that a model can compute the patches that a job asks for.
func checkPatches(c spec.Tile, g *sample.Generator) error {
	if c.Blend != blendReference {
		return nil
	}
	p, unit := patchConfig(c), g.Multiple()/g.Factor()
	if p.Size[0]%unit != 0 || p.Stride[0]%unit != 0 {
		return exitcode.Errorf(exitcode.Usage, "spec.limits.tile.size: patches of %d cells that begin every %d are no multiples of %d, which this model needs", p.Size[0], p.Stride[0], unit)
	}
	return nil
}

// canvasOf is the size, in latent cells, that a latent of h x w is filled up to: multiples of unit which patches, where the job asks for
// them, cover to the last cell.
func canvasOf(c spec.Tile, unit, h, w int) (int, int) {
	h, w = upTo(h, unit), upTo(w, unit)
	if c.Blend != blendReference || h <= int(c.Size) && w <= int(c.Size) {
		return h, w
	}
	p := patchConfig(c)
	covered := func(side int) int { return p.Size[0] + upTo(max(side-p.Size[0], 0), p.Stride[0]) }
	return covered(h), covered(w)
}

// identity is what the tiles of results depend on, for the fingerprint: those of the only size, or what decides them row by row.
func (d *needs) identity(h, w, n int) (any, error) {
	switch {
	case h > 0 && w > 0:
		p := d.way(h, w, n)
		switch {
		case p.err != nil:
			return nil, p.err
		case p.patches != nil:
			return p.patches, nil
		case p.tiles != nil:
			return p.tiles, nil
		}
		return nil, nil
	case d.whole || d.tile.Size == 0:
		return nil, nil
	case d.tile.Blend == blendReference:
		return patchConfig(d.tile), nil
	case d.tile.Size > 0:
		return tileConfig(d.tile), nil
	}
	return map[string]any{"size": d.tile.Size, "overlap": d.tile.Overlap, "norm": d.tile.Norm, "memory": d.limit}, nil
}
