package eval

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/eval/stats"
	"github.com/ldm-batch/ldm-batch/io/resize"
)

// Side is the height and width of a network input, in pixels.
const Side = 299

// Scaling says how values 0..255 get to the network's range.
type Scaling string

// The scalings.
const (
	Centered  Scaling = "v/128-1"    // (v - 128) / 128, after resizing
	UnitTwice Scaling = "2(v/255)-1" // v / 255 before resizing, 2x - 1 after it
)

// Protocol is what an evaluation tool does to pictures and features, as far as it changes scores. Scores made by different
// protocols must not be compared. Where a tool accumulates in single precision or lets a solver round, this program does
// not: its scores are those the tool would have without these errors, which are below 1e-5 of a FID of usual size.
type Protocol struct {
	Name       string
	Resize     resize.Method
	Clip       bool // to 0..255 after resizing; nothing is rounded
	Scaling    Scaling
	KID        stats.Subsets // Count 0: the tool has none; sets of fewer rows than Size take all of the smaller one where Shrink is set
	Shrink     bool
	Score      stats.Splits // of the inception score; zero: the tool has none
	Neighbours int          // of precision and recall, closed balls; 0: the tool has none
	Unseeded   bool         // the tool draws without a seed; the seeds here are this program's
}

// Protocols are the known ones. FID, KID, precision and recall use the tap "2048", the score "logits_unbiased", sFID
// "sfid_2023".
//
//   - torch-fidelity: also what the latent diffusion paper used for FID and score.
//   - pytorch-fid.
//   - clean-fid: its mode "clean".
//   - adm: the evaluation suite of guided-diffusion. Its precision and recall come from distances in half precision, which
//     move them by up to 0.007 and depend on the device; they are computed in double precision here.
//   - torchmetrics: with antialiasing, its default since 2025.
var Protocols = []Protocol{
	{Name: "torch-fidelity", Resize: "tf1-bilinear", Scaling: Centered, KID: stats.Subsets{Count: 100, Size: 1000, Seed: 2020},
		Score: stats.Splits{Count: 10, Shuffle: true, Seed: 2020}, Neighbours: 3},
	{Name: "pytorch-fid", Resize: "torch-bilinear", Scaling: UnitTwice},
	{Name: "clean-fid", Resize: "pil-bicubic", Clip: true, Scaling: Centered,
		KID: stats.Subsets{Count: 100, Size: 1000, Seed: 2020, SecondFirst: true}, Shrink: true, Unseeded: true},
	{Name: "adm", Resize: "tf1-bilinear", Scaling: Centered, Score: stats.Splits{Size: 5000}, Neighbours: 3},
	{Name: "torchmetrics", Resize: "torch-bilinear-antialias", Scaling: Centered, KID: stats.Subsets{Count: 100, Size: 1000, Seed: 2020},
		Score: stats.Splits{Count: 10, Chunks: true, Shuffle: true, Seed: 2020, DDOF: 1}, Unseeded: true},
}

// ParseProtocol returns the protocol of that name, or an error that lists the known ones.
func ParseProtocol(name string) (Protocol, error) {
	if i := slices.IndexFunc(Protocols, func(p Protocol) bool { return p.Name == name }); i >= 0 {
		return Protocols[i], nil
	}
	var known []string
	for _, p := range Protocols {
		known = append(known, p.Name)
	}
	return Protocol{}, fmt.Errorf("unknown protocol %q, want one of %q", name, known)
}

// Preparer makes network inputs. It keeps scratch memory and is for one goroutine.
type Preparer struct {
	p        Protocol
	resizer  *resize.Resizer
	src, dst []float32
}

// NewPreparer returns the preparer of a protocol.
func NewPreparer(p Protocol) (*Preparer, error) {
	r, err := resize.New(p.Resize)
	if err != nil {
		return nil, err
	}
	if p.Scaling != Centered && p.Scaling != UnitTwice {
		return nil, fmt.Errorf("unknown scaling %q", p.Scaling)
	}
	return &Preparer{p: p, resizer: r, dst: make([]float32, Side*Side*3)}, nil
}

// Prepare writes the input of one picture to dst, 3 x 299 x 299, about [-1, 1]. Gray is repeated, alpha dropped. The
// protocols are defined for 8 bits; other pictures are an error.
func (r *Preparer) Prepare(dst []float32, p Picture) error {
	if err := p.check(); err != nil {
		return err
	}
	if p.Pix16 != nil {
		return fmt.Errorf("protocol %s is defined for pictures of 8 bits", r.p.Name)
	}
	if len(dst) != 3*Side*Side {
		return fmt.Errorf("input has %d values, not %d", len(dst), 3*Side*Side)
	}
	r.src = slices.Grow(r.src[:0], 3*p.H*p.W)[:3*p.H*p.W]
	step := 1
	if p.C < 3 {
		step = 0
	}
	unit := r.p.Scaling == UnitTwice
	for i, at := 0, 0; i < len(r.src); i, at = i+3, at+p.C {
		for c := range 3 {
			v := float32(p.Pix8[at+c*step])
			if unit {
				v /= 255
			}
			r.src[i+c] = v
		}
	}
	if err := r.resizer.Float32(r.dst, r.src, resize.Shape{SrcH: p.H, SrcW: p.W, DstH: Side, DstW: Side, Channels: 3}); err != nil {
		return err
	}
	for i, v := range r.dst {
		if r.p.Clip {
			v = min(max(v, 0), 255)
		}
		if unit {
			v = 2*v - 1
		} else {
			v = (v - 128) / 128
		}
		dst[i%3*Side*Side+i/3] = v
	}
	return nil
}
