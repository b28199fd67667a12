package nn

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// Norms says where the group normalisations of a graph get their statistics; see [ir.Norms].
type Norms = ir.Norms

// WithNorms is the graph with its group normalisations changed, for images that are computed in parts; see [ir.Norms] for the inputs
// that are added. Collected moments are the last outputs: "moments.0", "moments.1", ... (N,2*groups).
func (g *Graph) WithNorms(n Norms) *Graph {
	p, count := g.Program.WithNorms(n)
	out := &Graph{Program: p, Inputs: append([]string(nil), g.Inputs...), Outputs: append([]string(nil), g.Outputs...)}
	if count > 0 && (n.Pool > 0 || n.Collect) {
		out.Inputs = append(out.Inputs, "window")
	}
	if count > 0 && n.Pool > 0 {
		out.Inputs = append(out.Inputs, "weight")
	}
	for i := range count {
		if n.Given {
			out.Inputs = append(out.Inputs, fmt.Sprint("norm.", i))
		}
		if n.Collect {
			out.Outputs = append(out.Outputs, fmt.Sprint("moments.", i))
		}
	}
	return out
}
