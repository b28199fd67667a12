package plan

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Write prints the plan as a table: one line a step with its operation, shapes, kernel, bytes read and written, and GFLOP.
// kernel names what runs a step on the chosen backend; nil prints the kind alone.
func (p *Plan) Write(w io.Writer, kernel func(*Step) string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "step\tkernel\tinput\toutput\tfused\tMB\tGFLOP\tname\n")
	for i, s := range p.Steps {
		name := string(s.Kind)
		if kernel != nil {
			name = kernel(s)
		}
		var shape []int
		if len(s.In) > 0 {
			shape = s.In[0].Shape
		}
		fmt.Fprintf(tw, "%d\t%s\t%v\t%v\t%s\t%.2f\t%.3f\t%s\n", i, name, shape, s.Out.Shape, s.fused(),
			float64(s.Bytes())/1e6, float64(s.FLOP)/1e9, s.Name)
	}
	fmt.Fprintf(tw, "total\t%d steps\t\t\t\t%.2f arena (%.2f without reuse)\t%.3f\t%s\n",
		len(p.Steps), float64(4*p.ArenaElems)/1e6, float64(4*p.NaiveElems)/1e6, float64(p.FLOP)/1e9, p.Name)
	return tw.Flush()
}

// Bytes is what the step reads and writes, weights included.
func (s *Step) Bytes() int64 {
	n := 0
	for _, v := range s.outputs() {
		n += v.Elems()
	}
	for _, v := range append(append(s.operands(), s.Weights...), s.Bias...) {
		if v != nil {
			n += v.Elems()
		}
	}
	return int64(4 * n)
}

func (s *Step) fused() string {
	text := ""
	add := func(on bool, what string) {
		if on {
			if text != "" {
				text += "+"
			}
			text += what
		}
	}
	add(s.Window.Upsample, "upsample")
	add(s.Moments != nil, "given")
	add(s.Batch, "batch")
	add(s.ScaleShift != nil, "modulate")
	add(s.SiLU || s.Act == ActSiLU, "silu")
	add(s.Act == ActGELU, "gelu")
	add(s.Act == ActReLU, "relu")
	add(s.GEGLU, "geglu")
	add(s.Transposed, "transposed")
	add(s.Affine != nil, "affine")
	add(s.SampleBias != nil, "sample")
	add(s.Residual != nil, "residual")
	add(len(s.Weights) > 1 && s.Kind == Linear, fmt.Sprintf("%d parts", len(s.Weights)))
	if text == "" {
		return "-"
	}
	return text
}
