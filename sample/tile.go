package sample

import (
	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// TileConfig says how a frame is cut into tiles.
type TileConfig struct {
	Size, Overlap int    // latent cells
	Norm          string // where the statistics of normalisation are taken: global or tile
}

func newTiled(*engine.Session, int, int, int, Condition, TileConfig) (network, error) {
	return nil, exitcode.Errorf(exitcode.Usage, "tiles: not supported by this build")
}

func decodeTiles(*encode.FirstStage, []float32, int, int, int, TileConfig) ([]float32, error) {
	return nil, exitcode.Errorf(exitcode.Usage, "tiles: not supported by this build")
}
