package encode

import (
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/tile"
)

// EncodeMemory is what encoding n images of h x w pixels takes beside weights and the images, computed without running anything:
// as one frame with nil tiles.
func (f *FirstStage) EncodeMemory(n, h, w int, c *TileConfig) (engine.Memory, error) {
	k := f.Factor()
	latents := engine.Memory{Buffers: 4 * int64(n*2*f.Channels()*(h/k)*(w/k))}
	m, err := f.memory(h/k, w/k, c, func(g *tile.Grid) (engine.Memory, error) {
		if g != nil {
			return f.tiledEncoder(n, g, *c).Memory()
		}
		return graphMemory(f.session.Model.EncoderGraph(n, h, w))
	})
	return m.Beside(latents), err
}

// DecodeMemory is what decoding n latents of h x w cells takes beside weights and the latents, the images included, computed
// without running anything: as one frame with nil tiles.
func (f *FirstStage) DecodeMemory(n, h, w int, c *TileConfig) (engine.Memory, error) {
	k := f.Factor()
	m, err := f.memory(h, w, c, func(g *tile.Grid) (engine.Memory, error) {
		if g != nil {
			m, err := f.tiledDecoder(n, g, nn.Quantized, *c).Memory()
			m.Buffers += 4 * int64(n*f.config.OutCh*h*k*w*k)
			return m, err
		}
		return graphMemory(f.session.Model.DecoderGraph(n, h, w, nn.Quantized))
	})
	if f.scale != 1 {
		m.Buffers += 4 * int64(n*f.Channels()*h*w)
	}
	return m, err
}

// memory asks of with the tiles of h x w cells, or nil where there is one frame.
func (f *FirstStage) memory(h, w int, c *TileConfig, of func(*tile.Grid) (engine.Memory, error)) (engine.Memory, error) {
	if f.config.Kind == nn.IdentityFirstStage {
		return engine.Memory{}, nil
	}
	if c == nil {
		return of(nil)
	}
	g, err := tile.New(*c, h, w, 1)
	if err != nil {
		return engine.Memory{}, err
	}
	if g.Len() == 1 {
		g = nil
	}
	return of(g)
}

func graphMemory(g *nn.Graph, err error) (engine.Memory, error) {
	if err != nil {
		return engine.Memory{}, err
	}
	return engine.MemoryOf(g)
}
