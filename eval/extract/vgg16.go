package extract

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/io/resize"
)

// VGG16Name is the name of the network.
const VGG16Name = "vgg16"

// vggResize is how pictures get to the network's input, whatever the protocol: as torch-fidelity does it.
const vggResize resize.Method = "tf1-bilinear"

// VGG16 takes the features of the second hidden layer of VGG16, after its rectifier, of which torch-fidelity makes precision and
// recall.
type VGG16 struct {
	session  *engine.Session
	model    *lpips.Model
	double   *nn.Double // in the session's place, if features are computed in double precision
	identity Identity
}

// OpenVGG16 opens a file of weights; see [lpips.OpenFeatures] for what it holds.
func OpenVGG16(path string, b plan.Backend) (*VGG16, error) {
	m, err := lpips.OpenFeatures(path)
	if err != nil {
		return nil, err
	}
	return NewVGG16(m, b), nil
}

// NewVGG16 is [OpenVGG16] for weights that are open; they are closed with the network.
func NewVGG16(m *lpips.Model, b plan.Backend) *VGG16 {
	x := &VGG16{session: engine.NewWeights(m, b), model: m, identity: Identity{
		Name: VGG16Name, Resize: fmt.Sprintf("%s to %dx%d, the whole picture", vggResize, lpips.Side, lpips.Side),
		Words: "VGG16, rectified second hidden layer (fc2_relu), inputs scaled to the means and deviations of ImageNet",
	}}
	for _, f := range m.Files {
		x.identity.SHA256, x.identity.Path, x.identity.Known = f.SHA256, f.Path, published[f.SHA256]
	}
	return x
}

// Identity implements [Network].
func (x *VGG16) Identity() Identity { return x.identity }

// Taps implements [Network].
func (x *VGG16) Taps() []Tap { return []Tap{{"fc2_relu", lpips.Hidden}} }

// Inputs implements [Network].
func (x *VGG16) Inputs() int { return 3 * lpips.Side * lpips.Side }

// NewPreparer implements [Network].
func (x *VGG16) NewPreparer() (Preparer, error) {
	r, err := resize.New(vggResize)
	return &vggPreparer{resizer: r, dst: make([]float32, x.Inputs())}, err
}

type vggPreparer struct {
	resizer  *resize.Resizer
	rgb      []uint8
	src, dst []float32
}

// Prepare implements [Preparer]: 3 x 224 x 224 in [-1, 1].
func (v *vggPreparer) Prepare(dst []float32, p eval.Picture) error {
	pix, err := rgb8(&v.rgb, p)
	if err != nil {
		return err
	}
	v.src = slices.Grow(v.src[:0], len(pix))[:len(pix)]
	for i, b := range pix {
		v.src[i] = float32(b)
	}
	if err := v.resizer.Float32(v.dst, v.src, resize.Shape{SrcH: p.H, SrcW: p.W, DstH: lpips.Side, DstW: lpips.Side, Channels: 3}); err != nil {
		return err
	}
	for i, b := range v.dst {
		dst[i%3*lpips.Side*lpips.Side+i/3] = b/127.5 - 1
	}
	return nil
}

// Features implements [Network].
func (x *VGG16) Features(inputs []float32, n int) ([][]float32, error) {
	if err := checkInputs(x, inputs, n); err != nil {
		return nil, err
	}
	if x.double != nil {
		return runDouble(x.double, inputs, n, x.Taps())
	}
	return run(x.session, VGG16Name, n, inputs, x.Taps(), func() (*nn.Graph, error) { return lpips.FeatureGraph(n) })
}

// UseDouble implements [Auditable].
func (x *VGG16) UseDouble() error {
	g, err := lpips.FeatureGraph(1)
	if err != nil {
		return err
	}
	x.double, err = nn.NewDouble(g, stored(x.model))
	return err
}

// Close implements [Network].
func (x *VGG16) Close() {
	x.session.Close()
	_ = x.model.Close() // of a file that was only read
}
