package sample

import (
	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/tile"
)

// How many arrays of the size of a batch's latents a walk keeps at most.
const (
	walkLatents   = 10 // the latent, predictions, noise, and what solvers remember of earlier steps
	guidedLatents = 4  // the doubled batch, in and out
	knownLatents  = 4  // a known region, its mask and noise
)

// Needs is what a request takes beside weights, computed without running anything: the largest network, what goes in and out of
// the networks, latents and images. It includes the first stage's encoder where a condition, a start or a known region is made
// with it, and counts the work of all steps. Of the conditions only the number of tokens is looked at, of Init and Known whether
// they are nil.
func (g *Generator) Needs(r Request) (engine.Needs, error) {
	var sum engine.Needs
	if err := g.CheckSize(r.H, r.W); err != nil {
		return sum, err
	}
	u := g.session.Model.UNet.Config
	c, h, w := g.LatentShape(r.H, r.W)
	guided, latents, steps := r.Uncond != nil && g.config.Guidance != 1, walkLatents, g.Steps()
	if r.Init != nil && r.Last > 0 {
		steps = r.Last
	}
	add := func(m engine.Needs, err error) error {
		sum = sum.Beside(m)
		return err
	}
	n := r.N
	if guided {
		n, latents = 2*n, latents+guidedLatents
	}
	if err := add(g.networkNeeds(r, n, h, w, steps)); err != nil {
		return sum, err
	}
	if guided && g.config.interval() {
		if err := add(g.networkNeeds(r, r.N, h, w, 0)); err != nil {
			return sum, err
		}
	}
	decode := func() (engine.Needs, error) { return g.first.DecodeNeeds(r.N, h, w, r.Tiles) }
	if r.Patches != nil {
		decode = func() (engine.Needs, error) { return g.first.DecodePatchNeeds(r.N, h, w, *r.Patches) }
	}
	if err := add(decode()); err != nil {
		return sum, err
	}
	if masked := CanInpaint(g.session.Model); masked || r.Init != nil || r.Known != nil {
		if err := add(g.first.EncodeNeeds(r.N, r.H, r.W, r.Tiles)); err != nil {
			return sum, err
		}
		sum.Buffers += 4 * int64(r.N) * int64(r.H) * int64(r.W) // holes
		if masked {
			sum.Buffers += 4 * 3 * int64(r.N) * int64(r.H) * int64(r.W)
		}
	}
	if r.Known != nil {
		latents += knownLatents
	}
	concat := n * (u.InChannels - u.OutChannels)
	sum.Buffers += 4 * int64(h*w) * int64(latents*r.N*c+concat)
	return sum, nil
}

// networkNeeds is what a U-Net for n latents takes that a walk of some steps runs.
func (g *Generator) networkNeeds(r Request, n, h, w, steps int) (engine.Needs, error) {
	m := g.session.Model
	if r.Tiles != nil {
		grid, err := tile.New(*r.Tiles, h, w, m.UNet.Config.SizeMultiple())
		if err != nil {
			return engine.Needs{}, err
		}
		if grid.Len() > 1 {
			need, err := tiledUNet(g.session, n, grid, r.Cond.Tokens, *r.Tiles).Needs()
			return need.Times(steps), err
		}
	}
	if r.Patches != nil {
		return g.patchNeeds(r, n, h, w, steps)
	}
	graph, err := m.UNetGraph(n, h, w, r.Cond.Tokens)
	if g.config.ReuseEvery > 1 {
		graph, err = m.UNetBranchGraph(n, h, w, r.Cond.Tokens, g.config.ReuseBranch)
	}
	if err != nil {
		return engine.Needs{}, err
	}
	need, err := engine.NeedsOf(graph)
	if err != nil || g.config.ReuseEvery <= 1 {
		return need.Times(steps), err
	}
	if graph, err = m.UNetShallowGraph(n, h, w, r.Cond.Tokens, g.config.ReuseBranch); err != nil {
		return engine.Needs{}, err
	}
	shallow, err := engine.NeedsOf(graph)
	if err != nil {
		return engine.Needs{}, err
	}
	whole := (steps + g.config.ReuseEvery - 1) / g.config.ReuseEvery
	return need.Times(whole).Beside(shallow.Times(steps - whole)), nil
}

// patchNeeds is networkNeeds of patches.
func (g *Generator) patchNeeds(r Request, n, h, w, steps int) (engine.Needs, error) {
	u, size := g.session.Model.UNet.Config, r.Patches.Size
	grid, err := newGrid(g.session.Model, *r.Patches, h, w)
	if err != nil {
		return engine.Needs{}, err
	}
	graph, err := g.session.Model.UNetGraph(n, size[0], size[1], r.Cond.Tokens)
	if err != nil {
		return engine.Needs{}, err
	}
	need, err := engine.NeedsOf(graph)
	need = need.Times(steps * grid.Len())
	need.Buffers += 4 * int64(n*(u.InChannels+u.OutChannels)*size[0]*size[1]+(n*u.OutChannels+1)*h*w)
	return need, err
}

// TileFit says which tiles may be chosen, and within which memory.
type TileFit = encode.TileFit

// FitTiles chooses how to make a request, see [TileFit]: nil for one frame. It returns what that needs. A request that does not fit
// even in the smallest tiles is an error of class data. The tiles of the request itself are not looked at. Layouts and the reuse of
// features do not go with tiles: for them there is one frame.
func (g *Generator) FitTiles(r Request, t TileFit) (*TileConfig, engine.Needs, error) {
	_, h, w := g.LatentShape(r.H, r.W)
	return t.Choose(h, w, g.session.Model.UNet.Config.SizeMultiple(), func(c *TileConfig) (engine.Needs, error) {
		r.Tiles = c
		return g.Needs(r)
	})
}
