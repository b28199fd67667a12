package encode

import (
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/patch"
	"github.com/ldm-batch/ldm-batch/internal/tile"
)

// EncodeNeeds is what encoding n images of h x w pixels takes beside weights, the images included, computed without running
// anything: as one frame with nil tiles.
func (f *FirstStage) EncodeNeeds(n, h, w int, c *TileConfig) (engine.Needs, error) {
	k := f.Factor()
	m, err := f.needs(h/k, w/k, c, func(g *tile.Grid) (engine.Needs, error) {
		if g != nil {
			m, err := f.tiledEncoder(n, g, *c).Needs()
			m.Buffers += 4 * int64(n*3*h*w)
			return m, err
		}
		return graphNeeds(f.session.Model.EncoderGraph(n, h, w))
	})
	m.Buffers += 4 * int64(n*2*f.Channels()*(h/k)*(w/k))
	return m, err
}

// DecodeNeeds is what decoding n latents of h x w cells takes beside weights and the latents, the images included, computed
// without running anything: as one frame with nil tiles.
func (f *FirstStage) DecodeNeeds(n, h, w int, c *TileConfig) (engine.Needs, error) {
	k := f.Factor()
	m, err := f.needs(h, w, c, func(g *tile.Grid) (engine.Needs, error) {
		if g != nil {
			m, err := f.tiledDecoder(n, g, nn.Quantized, *c).Needs()
			m.Buffers += 4 * int64(n*f.config.OutCh*h*k*w*k)
			return m, err
		}
		return graphNeeds(f.session.Model.DecoderGraph(n, h, w, nn.Quantized))
	})
	if f.scale != 1 {
		m.Buffers += 4 * int64(n*f.Channels()*h*w)
	}
	return m, err
}

// DecodePatchNeeds is DecodeNeeds of patches, see [FirstStage.DecodePatches].
func (f *FirstStage) DecodePatchNeeds(n, h, w int, c PatchConfig) (engine.Needs, error) {
	if f.config.Kind == nn.IdentityFirstStage {
		return engine.Needs{}, nil
	}
	k := f.Factor()
	c = c.Shrink(h, w)
	g, err := patch.New(c, h, w)
	if err != nil {
		return engine.Needs{}, err
	}
	m, err := graphNeeds(f.session.Model.DecoderGraph(n, c.Size[0], c.Size[1], nn.Quantized))
	m = m.Times(g.Len())
	m.Buffers += 4 * int64(2*n*f.Channels()*c.Size[0]*c.Size[1]+(n*f.config.OutCh+1)*h*k*w*k)
	return m, err
}

// needs asks of with the tiles of h x w cells, or nil where there is one frame.
func (f *FirstStage) needs(h, w int, c *TileConfig, of func(*tile.Grid) (engine.Needs, error)) (engine.Needs, error) {
	if f.config.Kind == nn.IdentityFirstStage {
		return engine.Needs{}, nil
	}
	if c == nil {
		return of(nil)
	}
	g, err := tile.New(*c, h, w, 1)
	if err != nil {
		return engine.Needs{}, err
	}
	if g.Len() == 1 {
		g = nil
	}
	return of(g)
}

func graphNeeds(g *nn.Graph, err error) (engine.Needs, error) {
	if err != nil {
		return engine.Needs{}, err
	}
	return engine.NeedsOf(g)
}

// TileFit says which tiles may be chosen, and within which memory.
type TileFit = tile.Fit

// FitTiles chooses how to encode an image of h x w pixels, see [TileFit]: nil for one frame. It returns what that needs. An image
// that does not fit even in the smallest tiles is an error of class data.
func (f *FirstStage) FitTiles(h, w int, t TileFit) (*TileConfig, engine.Needs, error) {
	if err := f.CheckSize(h, w); err != nil {
		return nil, engine.Needs{}, exitcode.With(exitcode.Usage, err)
	}
	k := f.Factor()
	return t.Choose(h/k, w/k, 1, func(c *TileConfig) (engine.Needs, error) { return f.EncodeNeeds(1, h, w, c) })
}
