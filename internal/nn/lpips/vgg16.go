package lpips

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// Side is the height and width of the images that VGG16 was trained on and whose features are taken.
const Side = 224

// Hidden is the number of features of each of the two layers of VGG16 that are connected fully.
const Hidden = 4096

// cells is the height and width of what the convolutions leave of such an image.
const cells = Side / 32

func fullKey(number int, what string) string { return fmt.Sprintf("classifier.%d.%s", number, what) }

// FeatureKeys lists what features of VGG16 need of its state dict, in the order in which it is saved: the convolutions, under the names
// of [Keys], and the two hidden layers of its classifier.
func FeatureKeys() []ir.Param {
	keys := Keys("")
	keys = keys[:len(keys)-Layers]
	in := parts[Layers-1].channels * cells * cells
	for _, k := range []int{0, 3} {
		keys = append(keys,
			ir.Param{Name: fullKey(k, "weight"), Shape: []int{Hidden, in}},
			ir.Param{Name: fullKey(k, "bias"), Shape: []int{Hidden}})
		in = Hidden
	}
	return keys
}

// hidden returns the features (N,Hidden) of maps x (N,512,14,14), the last of [Features]: the second hidden layer after its rectifier.
// Dropout is off.
func hidden(x *ir.Tensor) *ir.Tensor {
	g, c := x.Graph(), x.Dim(1)
	x = ir.MaxPool(x, ir.Pool{Kernel: 2, Stride: 2})
	// The first layer takes all cells of all channels, channel by channel: a convolution that fits once.
	w := g.Param(fullKey(0, "weight"), Hidden, c, cells, cells)
	x = ir.ReLU(ir.Conv2D(x, w, g.Param(fullKey(0, "bias"), Hidden), ir.Conv{Stride: 1}))
	w = g.Param(fullKey(3, "weight"), Hidden, Hidden)
	return ir.ReLU(ir.Linear(ir.PixelMean(x), w, g.Param(fullKey(3, "bias"), Hidden)))
}

// FeatureGraph makes features: input "image" (n,3,224,224) in [-1,1], which it scales to the means and deviations of ImageNet as the
// distance does; output "fc2_relu" (n,4096).
func FeatureGraph(n int) (*nn.Graph, error) {
	if n < 1 {
		return nil, fmt.Errorf("graph vgg16: %d images", n)
	}
	g := ir.New("vgg16")
	var y *ir.Tensor
	if err := ir.Build(func() {
		_, features := Features(g.Input("image", n, 3, Side, Side), "")
		y = hidden(features[Layers-1])
	}); err != nil {
		return nil, fmt.Errorf("graph vgg16: %w", err)
	}
	p, err := g.Program(y)
	if err != nil {
		return nil, fmt.Errorf("graph vgg16: %w", err)
	}
	return &nn.Graph{Program: p, Inputs: []string{"image"}, Outputs: []string{"fc2_relu"}}, nil
}
