package encode

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/tile"
)

// TileConfig says how an image is cut into tiles, in latent cells, and where the statistics of normalisation are taken: over the
// whole image ("global" or "") or over each tile ("tile").
type TileConfig = tile.Config

// EncodeTiles is [FirstStage.Encode] for images too large for one run: tile by tile, blended where tiles overlap. KL first
// stages blend the moments of the posterior, so that samples need the noise of the whole image. An image of one tile gives what
// Encode gives.
func (f *FirstStage) EncodeTiles(images []float32, n, h, w int, o Options, c TileConfig) ([]float32, error) {
	if err := f.CheckSize(h, w); err != nil {
		return nil, err
	}
	k := f.Factor()
	h, w = h/k, w/k
	g, err := tile.New(c, h, w, 1)
	if err != nil {
		return nil, err
	}
	if g.Len() == 1 || f.config.Kind == nn.IdentityFirstStage {
		return f.Encode(images, n, h*k, w*k, o)
	}
	planes := f.config.EmbedDim
	if f.config.Kind == nn.KL {
		planes *= 2
	}
	z := f.whole(n * planes * h * w)
	if err := f.tiledEncoder(n, g, c).Run(nil, "image", []tile.Image{{Data: images, Scale: k}}, z); err != nil {
		return nil, err
	}
	if f.config.Kind == nn.KL {
		z = f.posterior(z, n, []int{n, planes, h, w}, o.Noise)
	}
	if err := engine.Finite("latent", z); err != nil {
		return nil, err
	}
	return f.scaled(z, o.Scale), nil
}

// DecodeTiles is [FirstStage.Decode] for images too large for one run: tile by tile, blended where tiles overlap. The whole image
// exists once. An image of one tile gives what Decode gives.
func (f *FirstStage) DecodeTiles(z []float32, n, h, w int, q nn.Quantization, c TileConfig) ([]float32, error) {
	g, err := tile.New(c, h, w, 1)
	if err != nil {
		return nil, err
	}
	if g.Len() == 1 || f.config.Kind == nn.IdentityFirstStage {
		return f.Decode(z, n, h, w, q)
	}
	k := f.Factor()
	x := f.whole(n * f.config.OutCh * h * k * w * k)
	if err := f.tiledDecoder(n, g, q, c).Run(nil, "z", []tile.Image{{Data: f.unscaled(z), Scale: 1}}, x); err != nil {
		return nil, err
	}
	if err := engine.Finite("decoded image", x); err != nil {
		return nil, err
	}
	return x, nil
}

func (f *FirstStage) tiledEncoder(n int, g *tile.Grid, c TileConfig) *tile.Network {
	k := f.Factor()
	return tile.NewNetwork(f.session, fmt.Sprint("tiled encoder ", g.TileH, g.TileW), g, c, n, func(n int) (*nn.Graph, error) {
		return f.session.Model.EncoderGraph(n, g.TileH*k, g.TileW*k)
	})
}

func (f *FirstStage) tiledDecoder(n int, g *tile.Grid, q nn.Quantization, c TileConfig) *tile.Network {
	return tile.NewNetwork(f.session, fmt.Sprint("tiled decoder ", g.TileH, g.TileW, q), g, c, n, func(n int) (*nn.Graph, error) {
		return f.session.Model.DecoderGraph(n, g.TileH, g.TileW, q)
	})
}

// whole is room for what tiles are put together in.
func (f *FirstStage) whole(n int) []float32 {
	if cap(f.tiled) < n {
		f.tiled = nil // first, so that it can be collected before the new one is made
		f.tiled = make([]float32, n)
	}
	return f.tiled[:n]
}
