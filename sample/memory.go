package sample

import (
	"math"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/tile"
)

// How many arrays of the size of a batch's latents a walk keeps at most.
const (
	walkLatents   = 10 // the latent, predictions, noise, and what solvers remember of earlier steps
	guidedLatents = 4  // the doubled batch, in and out
	knownLatents  = 4  // a known region, its mask and noise
)

// Memory is what a request takes beside weights, in bytes, computed without running anything: the activations of the largest
// network, what goes in and out of the networks, latents and the images. Of the conditions only the number of tokens counts;
// those that sampling by patches or with reuse adds are not in it.
func (g *Generator) Memory(r Request) (int64, error) {
	if err := g.CheckSize(r.H, r.W); err != nil {
		return 0, err
	}
	m, u := g.session.Model, g.session.Model.UNet.Config
	c, h, w := g.LatentShape(r.H, r.W)
	n, latents := r.N, walkLatents
	if r.Uncond != nil && g.config.Guidance != 1 {
		n, latents = 2*n, latents+guidedLatents
	}
	if r.Known != nil {
		latents += knownLatents
	}
	var grid *tile.Grid
	if r.Tiles != nil {
		var err error
		if grid, err = tile.New(*r.Tiles, h, w, u.SizeMultiple()); err != nil {
			return 0, err
		}
	}
	var mem engine.Memory
	if grid != nil && grid.Len() > 1 {
		var err error
		if mem, err = tiledUNet(g.session, n, grid, r.Cond.Tokens, *r.Tiles).Memory(); err != nil {
			return 0, err
		}
	} else {
		graph, err := m.UNetGraph(n, h, w, r.Cond.Tokens)
		if err != nil {
			return 0, err
		}
		if mem, err = engine.MemoryOf(graph); err != nil {
			return 0, err
		}
	}
	decoder, err := g.first.DecodeMemory(r.N, h, w, r.Tiles)
	if err != nil {
		return 0, err
	}
	mem = mem.Beside(decoder)
	concat := n * (u.InChannels - u.OutChannels)
	mem.Buffers += 4 * int64(h*w) * int64(latents*r.N*c+concat)
	return mem.Total(), nil
}

// smallestTile is the side of the smallest tile that FitTiles chooses, in latent cells: of smaller ones the overlap is most.
const smallestTile = 32

// FitTiles chooses how to make a request within a limit of bytes: nil for one frame when that fits, otherwise the largest tile
// that does, with an overlap of a quarter and the statistics of the whole frame from as many tiles together as fit. It returns the bytes too. A request that does
// not fit even in the smallest tiles is an error of class data. The tiles of the request itself are not looked at.
func (g *Generator) FitTiles(r Request, limit int64) (*TileConfig, int64, error) {
	r.Tiles = nil
	need, err := g.Memory(r)
	if err != nil || need <= limit {
		return nil, need, err
	}
	_, h, w := g.LatentShape(r.H, r.W)
	k := g.session.Model.UNet.Config.SizeMultiple()
	smallest := (smallestTile + k - 1) / k
	for size := max(h, w) / k; ; {
		if size <= smallest {
			return nil, need, exitcode.Errorf(exitcode.Data, "%dx%d pixels (height x width) need %d MiB of memory even in the smallest tiles, the limit is %d MiB",
				r.H, r.W, need>>20, limit>>20)
		}
		// In few steps, since each builds the graphs.
		size = max(min(size-1, int(math.Round(float64(size)*0.8))), smallest)
		r.Tiles = &TileConfig{Size: size * k, Overlap: size * k / 4, Norm: tile.Global}
		if need, err = g.Memory(r); err != nil {
			return nil, 0, err
		}
		if need <= limit {
			return g.fitTogether(r, need, limit)
		}
	}
}

// fitTogether raises the number of tiles that give statistics together until they no longer fit or none are left.
func (g *Generator) fitTogether(r Request, need, limit int64) (*TileConfig, int64, error) {
	best := *r.Tiles
	for k := 16; ; k *= 2 {
		t := best
		t.Together = k
		r.Tiles = &t
		more, err := g.Memory(r)
		if err != nil {
			return nil, 0, err
		}
		if more > limit || more <= need {
			return &best, need, nil
		}
		best, need = t, more
	}
}
