package page

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Chart is a drawing of series over a common axis.
type Chart struct {
	Title  string
	Series []Series
	Whole  bool // X are whole numbers, and only those are written at the axis
}

// Series are points joined by a line, in order of X; of many that are not marked the means of neighbours are drawn. Values that are
// not finite leave a gap.
type Series struct {
	Name string
	X, Y []float64

	Marked    bool      // every point is marked
	Loose     bool      // points are marked as holes and not joined
	Low, High []float64 // intervals of marked points, NaN where there is none; nil for none at all
	Labels    []string  // what marked points are called when they are pointed at; nil for nothing
}

// Size of a chart in its own units, and the room for its axes.
const (
	chartW, chartH                                   = 480, 200
	marginLeft, marginRight, marginTop, marginBottom = 52, 8, 8, 24
	// Drawn points of a series: more cannot be told apart.
	drawn = 160
)

// SVG draws the chart. Positive values that span more than two decades get a logarithmic axis.
func (c Chart) SVG() template.HTML {
	var lines []Series
	x0, x1, y0, y1 := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	aside := 0.0
	for _, s := range c.Series {
		s = s.thinned()
		for i, y := range s.Y {
			if finite(y) {
				x0, x1, y0, y1 = min(x0, s.X[i]), max(x1, s.X[i]), min(y0, y), max(y1, y)
				if low, high, ok := s.interval(i); ok {
					y0, y1 = min(y0, low), max(y1, high)
				}
			}
		}
		if s.Marked || s.Loose {
			aside = 0.3
		}
		lines = append(lines, s)
	}
	if x0 > x1 {
		return ""
	}
	logarithmic := y0 > 0 && y1 > 100*y0
	if logarithmic {
		y0, y1 = math.Log10(y0), math.Log10(y1)
	}
	if y0 == y1 {
		y0, y1 = y0-math.Max(1e-3, math.Abs(y0)/10), y1+math.Max(1e-3, math.Abs(y1)/10)
	}
	if x0 == x1 {
		x0, x1 = x0-1, x1+1
	}
	x0, x1 = x0-aside, x1+aside // marks shall not lie on the edges
	px := func(x float64) float64 { return marginLeft + (x-x0)/(x1-x0)*(chartW-marginLeft-marginRight) }
	py := func(y float64) float64 {
		if logarithmic {
			y = math.Log10(y)
		}
		return chartH - marginBottom - (y-y0)/(y1-y0)*(chartH-marginTop-marginBottom)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartW, chartH, template.HTMLEscapeString(c.describe()))
	for _, y := range ticks(y0, y1, 4, logarithmic) {
		v := y
		if logarithmic {
			v = math.Pow(10, y)
		}
		fmt.Fprintf(&b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`,
			marginLeft, chartW-marginRight, py(v), py(v), marginLeft-6, py(v)+4, short(v))
	}
	for _, x := range ticks(x0, x1, 5, c.Whole) {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`, px(x), chartH-6, short(x))
	}
	for k, s := range lines {
		pen := false
		if s.Loose {
			s.marks(&b, k, px, py)
			continue
		}
		fmt.Fprintf(&b, `<path class="line s%d" d="`, k%4)
		for i, y := range s.Y {
			if !finite(y) || logarithmic && y <= 0 {
				pen = false
				continue
			}
			b.WriteByte("ML"[btoi(pen)])
			fmt.Fprintf(&b, "%.1f %.1f", px(s.X[i]), py(y))
			pen = true
		}
		b.WriteString(`"/>`)
		if s.Marked {
			s.marks(&b, k, px, py)
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// interval is that of point i.
func (s Series) interval(i int) (low, high float64, ok bool) {
	if s.Low == nil || !finite(s.Low[i]) || !finite(s.High[i]) {
		return 0, 0, false
	}
	return s.Low[i], s.High[i], true
}

// marks draws the points of series k with their intervals.
func (s Series) marks(b *strings.Builder, k int, px, py func(float64) float64) {
	kind := map[bool]string{false: "dot", true: "hole"}[s.Loose]
	for i, y := range s.Y {
		if !finite(y) {
			continue
		}
		x := px(s.X[i])
		fmt.Fprintf(b, `<g class="%s s%d">`, kind, k%4)
		if s.Labels != nil {
			fmt.Fprintf(b, "<title>%s</title>", template.HTMLEscapeString(s.Labels[i]))
		}
		if low, high, ok := s.interval(i); ok {
			fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1fm-4 0h8M%.1f %.1fh8"/>`, x, py(low), py(high), x-4, py(low))
		}
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%s"/></g>`, x, py(y), map[bool]string{false: "1.6", true: "3.2"}[s.Loose])
	}
}

// describe is the chart for those who do not see it: where every series begins and ends.
func (c Chart) describe() string {
	var parts []string
	for _, s := range c.Series {
		first, last := math.NaN(), math.NaN()
		for _, y := range s.Y {
			if finite(y) {
				if !finite(first) {
					first = y
				}
				last = y
			}
		}
		parts = append(parts, fmt.Sprintf("%s from %s to %s", s.Name, short(first), short(last)))
	}
	return c.Title + ": " + strings.Join(parts, ", ")
}

// thinned is the series with at most as many points as can be drawn, each the mean of neighbours.
func (s Series) thinned() Series {
	n := min(len(s.X), len(s.Y))
	if n <= drawn || s.Marked || s.Loose {
		s.X, s.Y = s.X[:n], s.Y[:n]
		return s
	}
	out := Series{Name: s.Name}
	for k := range drawn {
		from, to := k*n/drawn, (k+1)*n/drawn
		x, y, m := 0.0, 0.0, 0
		for i := from; i < to; i++ {
			if finite(s.Y[i]) {
				x, y, m = x+s.X[i], y+s.Y[i], m+1
			}
		}
		if m == 0 {
			x, y, m = s.X[from], math.NaN(), 1
		}
		out.X, out.Y = append(out.X, x/float64(m)), append(out.Y, y/float64(m))
	}
	return out
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// ticks are about n round numbers from a to b, with whole only whole ones: of a logarithmic axis those are decades.
func ticks(a, b float64, n int, whole bool) (list []float64) {
	step := math.Pow(10, math.Floor(math.Log10((b-a)/float64(n))))
	for _, f := range []float64{1, 2, 5, 10} {
		if (b-a)/(f*step) <= float64(n) {
			step *= f
			break
		}
	}
	if whole && step < 1 {
		step = 1
	}
	for k := math.Ceil(a/step - 1e-9); k*step <= b+1e-9*step; k++ {
		list = append(list, k*step)
	}
	return list
}

// short writes a number with few digits.
func short(v float64) string {
	switch a := math.Abs(v); {
	case !finite(v):
		return "none"
	case a >= 1e6 || a > 0 && a < 1e-3:
		return strings.Replace(strconv.FormatFloat(v, 'e', -1, 32), "e-0", "e-", 1)
	case a >= 1000 && a == math.Trunc(a):
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(math.Round(v*1e4)/1e4, 'f', -1, 64)
}
