package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/page"
)

//go:embed report.html
var pageText string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{"style": page.Style, "png": page.PNG, "alt": alt}).Parse(pageText))

// HTML writes the result as one page that needs no other file, no network and no script. Equal results have equal bytes.
func (r *Result) HTML(w io.Writer) error {
	return pageTemplate.Execute(w, struct {
		*view
		Projection, Chart template.HTML
	}{viewOf(r), r.Projection.svg(), r.chart()})
}

// alt says which picture it is.
func alt(t Thumb) string {
	words := "row " + t.ID
	if t.Class != "" {
		words += ", class " + t.Class
	}
	if t.Text != "" {
		words += ": " + t.Text
	}
	return words
}

// svg draws both sets: reference crosses under generated circles. It holds nothing but numbers and its own words.
func (p *Projection) svg() template.HTML {
	if p == nil || len(p.Generated.X)+len(p.Reference.X) == 0 {
		return ""
	}
	const width, height, edge = 640.0, 400.0, 12.0
	low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for _, q := range []Points{p.Generated, p.Reference} {
		for axis, values := range [][]float32{q.X, q.Y} {
			for _, x := range values {
				if v := float64(x); !math.IsNaN(v) && !math.IsInf(v, 0) {
					low[axis], high[axis] = min(low[axis], v), max(high[axis], v)
				}
			}
		}
	}
	// One scale for both axes, so that distances are true.
	scale := min((width-2*edge)/max(high[0]-low[0], 1e-12), (height-2*edge)/max(high[1]-low[1], 1e-12))
	place := func(q Points, draw func(x, y float64)) {
		for i := range q.X {
			x := width/2 + scale*(float64(q.X[i])-(low[0]+high[0])/2)
			y := height/2 - scale*(float64(q.Y[i])-(low[1]+high[1])/2)
			if !math.IsNaN(x+y) && !math.IsInf(x+y, 0) {
				draw(x, y)
			}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %g %g" role="img" aria-labelledby="plane-title plane-desc"><title id="plane-title">Features of both sets in the plane</title>`, width, height)
	fmt.Fprintf(&b, `<desc id="plane-desc">%d generated pictures as circles and %d reference pictures as crosses.</desc><path class="s1" fill="none" d="`, len(p.Generated.X), len(p.Reference.X))
	place(p.Reference, func(x, y float64) { fmt.Fprintf(&b, "M%.1f %.1fl5 5m0-5l-5 5", x-2.5, y-2.5) })
	b.WriteString(`"/><g class="s0" fill="none">`)
	place(p.Generated, func(x, y float64) { fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="2.6"/>`, x, y) })
	b.WriteString(`</g></svg>`)
	return template.HTML(b.String())
}
