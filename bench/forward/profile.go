package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// cost is the least time in seconds by the clock and on processors, all threads together. The latter is steadier where
// other processes want the processors too.
type cost struct{ clock, cpu float64 }

// row is the cost of like steps, alone and by the clock within the network.
type row struct {
	what   string
	steps  int
	flop   int64
	within float64
	cost
}

// profile times every step within the network and as a plan of its own, both on zeros, and prints the times by kind and by shape. A
// step alone finds its operands in cache more often, and the processor keeps a higher clock on zeros.
func profile(out io.Writer, o options, source plan.WeightSource, graph func() (*nn.Graph, error), open func(func(*plan.Step, time.Duration)) (*cpu.Backend, error)) error {
	within := map[*plan.Step]float64{}
	b, err := open(func(s *plan.Step, d time.Duration) {
		if t, ok := within[s]; ok {
			within[s] = min(t, d.Seconds())
		} else {
			within[s] = d.Seconds()
		}
	})
	if err != nil {
		return err
	}
	defer b.Close()
	g, err := graph()
	if err != nil {
		return err
	}
	p, err := plan.Lower(g.Program)
	if err != nil {
		return err
	}
	packed := b.NewModel(source)
	defer packed.Close()
	whole, err := fastest(packed, p, o.profile)
	if err != nil {
		return err
	}
	inNetwork := maps.Clone(within)
	kinds, shapes := map[string]*row{}, map[string]*row{}
	total := row{what: "sum of steps"}
	for _, s := range p.Steps {
		c, err := alone(packed, p, s, o.profile)
		if err != nil {
			return err
		}
		for _, r := range []*row{entry(kinds, kind(s)), entry(shapes, shape(s)), &total} {
			r.steps, r.flop = r.steps+1, r.flop+s.FLOP
			r.within, r.clock, r.cpu = r.within+inNetwork[s], r.clock+c.clock, r.cpu+c.cpu
		}
	}

	fmt.Fprintf(out, "%s, %s, input %v, best of %d\n", o.net, b.Name(), p.Inputs[0].Shape, o.profile)
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "steps\tms\tshare\talone\tCPU ms\tGFLOP\tGFLOPS\talone\t what")
	for _, group := range []map[string]*row{kinds, shapes} {
		var rows []*row
		for _, r := range group {
			rows = append(rows, r)
		}
		slices.SortFunc(rows, func(a, b *row) int {
			return cmp.Or(cmp.Compare(b.within, a.within), cmp.Compare(a.what, b.what))
		})
		for _, r := range rows {
			r.print(tw, total.within)
		}
		fmt.Fprintln(tw, "\t\t\t\t\t\t\t\t")
	}
	total.print(tw, total.within)
	(&row{"whole network", len(p.Steps), p.FLOP, whole.clock, whole}).print(tw, total.within)
	return tw.Flush()
}

func (r *row) print(w io.Writer, total float64) {
	gflop := float64(r.flop) / 1e9
	fmt.Fprintf(w, "%d\t%.1f\t%.1f%%\t%.1f\t%.1f\t%.2f\t%.0f\t%.0f\t %s\n", r.steps, 1e3*r.within, 100*r.within/total, 1e3*r.clock, 1e3*r.cpu, gflop,
		gflop/r.within, gflop/r.clock, r.what)
}

func entry(m map[string]*row, what string) *row {
	if m[what] == nil {
		m[what] = &row{what: what}
	}
	return m[what]
}

// kind tells steps apart by what computes them.
func kind(s *plan.Step) string {
	k := string(s.Kind)
	switch {
	case s.Kind == plan.Conv && s.Window.Stride > 1:
		k += " strided"
	case s.Kind == plan.Conv && s.Window.Upsample:
		k += " of doubled image"
	case s.GEGLU:
		k += " geglu"
	}
	return k
}

// shape tells steps apart by kind and sizes.
func shape(s *plan.Step) string {
	return fmt.Sprintf("%s %v -> %v", kind(s), s.In[0].Shape, s.Out.Shape)
}

// alone is the cost of a step without the others.
func alone(packed plan.Model, p *plan.Plan, s *plan.Step, times int) (cost, error) {
	one := *p
	one.Steps = []*plan.Step{s}
	return fastest(packed, &one, times)
}

// fastest is the cost of a plan's cheapest run on zeros.
func fastest(packed plan.Model, p *plan.Plan, times int) (cost, error) {
	x, err := packed.Compile(p)
	if err != nil {
		return cost{}, err
	}
	defer x.Close()
	zeros := func(ports []*plan.Value) (data [][]float32) {
		for _, v := range ports {
			data = append(data, make([]float32, v.Elems()))
		}
		return data
	}
	in, out := zeros(p.Inputs), zeros(p.Outputs)
	best := cost{math.Inf(1), math.Inf(1)}
	for i := range times + 1 {
		begin, ran := time.Now(), processorSeconds()
		if err := x.Run(in, out); err != nil {
			return cost{}, err
		}
		if i > 0 { // the first touches the memory
			best.clock, best.cpu = min(best.clock, time.Since(begin).Seconds()), min(best.cpu, processorSeconds()-ran)
		}
	}
	return best, nil
}
