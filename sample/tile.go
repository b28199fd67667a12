package sample

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/tile"
)

// TileConfig says how a frame is cut into tiles, in latent cells, and where the statistics of normalisation are taken: over the
// whole frame ("global" or "") or over each tile ("tile").
type TileConfig = encode.TileConfig

// tiled is a U-Net that sees a latent tile by tile in every step; predictions are blended where tiles overlap. A concatenated
// condition is cut at the same places; a context is the same for every tile.
type tiled struct {
	net    *tile.Network
	inputs map[string][]float32
	images []tile.Image // the latent, and what is concatenated
}

// newTiled makes the network for n latents of h x w cells; one that is no larger than a tile is seen whole.
func newTiled(s *engine.Session, n, h, w int, c Condition, cfg TileConfig) (network, error) {
	m := s.Model
	if d := m.Config.Diffusion; d != nil && d.CondStageKey == layoutKey {
		return nil, exitcode.Errorf(exitcode.Usage, "tiles: not for layouts, whose crop would be another one in every tile")
	}
	g, err := tile.New(cfg, h, w, m.UNet.Config.SizeMultiple())
	if err != nil {
		return nil, err
	}
	if g.Len() == 1 {
		return newUNet(s, n, h, w, c, reuse{})
	}
	t := &tiled{images: []tile.Image{{Scale: 1}}}
	if t.inputs, err = c.inputs(m.UNet.Config, n, h, w); err != nil {
		return nil, err
	}
	if c.Concat != nil {
		t.images = append(t.images, tile.Image{Data: c.Concat, Scale: 1})
	}
	t.net = tiledUNet(s, n, g, c.Tokens, cfg)
	return t, nil
}

func tiledUNet(s *engine.Session, n int, g *tile.Grid, tokens int, cfg TileConfig) *tile.Network {
	return tile.NewNetwork(s, fmt.Sprint("tiled unet ", g.TileH, g.TileW, tokens), g, cfg, n, func(n int) (*nn.Graph, error) {
		return s.Model.UNetGraph(n, g.TileH, g.TileW, tokens)
	})
}

// Predict implements [Denoiser].
func (d *tiled) Predict(x, t, eps []float32) error {
	d.inputs["t"], d.images[0].Data = t, x
	if err := d.net.Run(d.inputs, "x", d.images, eps); err != nil {
		return err
	}
	return engine.Finite("predicted noise", eps)
}

// PredictPair implements [Pair] for a condition that holds the unconditional half first.
func (d *tiled) PredictPair(x, t, eps []float32) error { return d.Predict(x, t, eps) }

// decodeTiles is the first stage's part.
func decodeTiles(f *encode.FirstStage, z []float32, n, h, w int, c TileConfig) ([]float32, error) {
	return f.DecodeTiles(z, n, h, w, nn.Quantized, c)
}
