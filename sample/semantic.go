package sample

import (
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// SemanticClasses is the number of labels of a model that takes label maps, and whether it takes them.
func SemanticClasses(m *nn.Model) (int, bool) {
	if m.Conditioner == nil || m.Conditioner.Config.Kind != nn.SpatialRescaler || concatChannels(m) == 0 {
		return 0, false
	}
	return m.Conditioner.Config.InChannels, true
}

// SemanticCondition is the condition for label maps of h x w, one for each image: what the model's rescaler makes of the one-hot
// maps (reference: SpatialRescaler), N x channels x h/2^stages x w/2^stages.
//
// The one-hot maps never exist: 182 labels at 256 x 256 would be 48 MB for each image. Halving by box means and the 1 x 1
// convolution are linear, so that a cell is the mean, over the labels of its box, of the columns of the convolution. The means
// are exact in both orders, being multiples of a power of two; only the sum of at most box-many columns is rounded
// differently, here in float64. It takes as many additions as there are pixels, three times, and the memory of its result.
func SemanticCondition(s *engine.Session, maps [][]uint8, h, w int) (Condition, error) {
	m := s.Model
	classes, ok := SemanticClasses(m)
	if !ok {
		return Condition{}, exitcode.Errorf(exitcode.Usage, "%s: the model does not take label maps", m.Config.Path)
	}
	c := m.Conditioner.Config
	box := 1 << c.NStages
	if h < box || w < box || h%box != 0 || w%box != 0 {
		return Condition{}, exitcode.Errorf(exitcode.Usage, "label maps of %dx%d (height x width) cannot be halved %d times", h, w, c.NStages)
	}
	columns, bias, channels := []float32(nil), []float32(nil), classes
	if c.OutChannels > 0 {
		channels = c.OutChannels
		columns = make([]float32, channels*classes)
		params := m.Conditioner.Params()
		if err := m.Load(params[0].Name, columns); err != nil {
			return Condition{}, err
		}
		if c.Bias {
			bias = make([]float32, channels)
			if err := m.Load(params[1].Name, bias); err != nil {
				return Condition{}, err
			}
		}
	}
	lh, lw := h/box, w/box
	cells, share := lh*lw, 1/float64(box*box)
	out := make([]float32, len(maps)*channels*cells)
	sum := make([]float64, channels)
	for i, labels := range maps {
		if len(labels) != h*w {
			return Condition{}, exitcode.Errorf(exitcode.Internal, "label map %d of the batch has %d labels, want %dx%d", i, len(labels), h, w)
		}
		for cell := range cells {
			clear(sum)
			for p := range box * box {
				y, x := cell/lw*box+p/box, cell%lw*box+p%box
				l := int(labels[y*w+x])
				if l >= classes {
					return Condition{}, exitcode.Errorf(exitcode.Data, "label map %d of the batch: label %d at row %d, column %d is not in 0..%d", i, l, y, x, classes-1)
				}
				if columns == nil {
					sum[l]++
					continue
				}
				for o := range sum {
					sum[o] += float64(columns[o*classes+l])
				}
			}
			for o, v := range sum {
				v *= share
				if bias != nil {
					v += float64(bias[o])
				}
				out[(i*channels+o)*cells+cell] = float32(v)
			}
		}
	}
	return Condition{Concat: out}, nil
}
