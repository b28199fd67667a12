package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// row is the time of like steps.
type row struct {
	what  string
	steps int
	flop  int64
	time  time.Duration
}

// profile collects the times of steps by kind and shape.
type profile struct {
	kinds  map[string]*row
	shapes map[string]*row
}

func (p *profile) add(s *plan.Step, d time.Duration) {
	var from []int
	if len(s.In) > 0 {
		from = s.In[0].Shape
	}
	for _, r := range []*row{entry(p.kinds, kind(s)), entry(p.shapes, fmt.Sprintf("%s %v -> %v", kind(s), from, s.Out.Shape))} {
		r.steps++
		r.flop += s.FLOP
		r.time += d
	}
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
	case s.Transposed:
		k += " transposed"
	case s.Window.Stride > 1:
		k += " strided"
	case s.Window.Upsample:
		k += " doubled"
	case s.SiLU:
		k += " silu"
	}
	return k
}

// run makes steps and prints the means of their times.
func (p *profile) run(out io.Writer, backend string, t trainer, times int) error {
	p.reset()
	if _, err := t.step(); err != nil { // touches the memory
		return err
	}
	p.reset()
	var all, best time.Duration
	for range times {
		begin := time.Now()
		if _, err := t.step(); err != nil {
			return err
		}
		d := time.Since(begin)
		all += d
		if best == 0 || d < best {
			best = d
		}
	}
	fmt.Fprintf(out, "%s, mean of %d steps, fastest %.0f ms\n", backend, times, 1e3*best.Seconds())
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "steps\tms\tshare\tGFLOP\tGFLOPS\t what")
	total, sum := row{what: "a step of training", time: all}, row{what: "packing, optimiser, average"}
	for _, r := range p.kinds {
		total.steps += r.steps
		total.flop += r.flop
		sum.time += r.time
	}
	sum.time = all - sum.time
	for _, group := range []map[string]*row{p.kinds, p.shapes} {
		var rows []*row
		for _, r := range group {
			rows = append(rows, r)
		}
		slices.SortFunc(rows, func(a, b *row) int { return cmp.Or(cmp.Compare(b.time, a.time), cmp.Compare(a.what, b.what)) })
		for _, r := range rows {
			r.print(tw, times, all)
		}
		fmt.Fprintln(tw, "\t\t\t\t\t")
	}
	sum.print(tw, times, all)
	total.print(tw, times, all)
	return tw.Flush()
}

func (p *profile) reset() { p.kinds, p.shapes = map[string]*row{}, map[string]*row{} }

func (r *row) print(w io.Writer, times int, total time.Duration) {
	ms, gflop := 1e3*r.time.Seconds()/float64(times), float64(r.flop)/1e9/float64(times)
	fmt.Fprintf(w, "%d\t%.1f\t%.1f%%\t%.2f\t%.0f\t %s\n", r.steps/times, ms, 100*r.time.Seconds()/total.Seconds(), gflop, 1e3*gflop/ms, r.what)
}
