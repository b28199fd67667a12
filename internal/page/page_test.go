package page

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func TestChart(t *testing.T) {
	nan := math.NaN()
	long := Series{Name: "long"}
	for i := range 10000 {
		long.X, long.Y = append(long.X, float64(i)), append(long.Y, 1+float64(i%7))
	}
	for _, c := range []struct {
		name  string
		chart Chart
		want  []string
	}{
		{"nothing finite", Chart{Series: []Series{{Name: "a", X: []float64{1, 2}, Y: []float64{nan, nan}}}}, nil},
		{"gap", Chart{Title: "loss", Series: []Series{{Name: "a", X: []float64{1, 2, 3, 4}, Y: []float64{3, nan, 2, 1}}}},
			[]string{`d="M52.0 8.0M332.0 92.0L472.0 176.0"`, "loss: a from 3 to 1"}},
		{"decades", Chart{Series: []Series{{Name: "a", X: []float64{0, 1}, Y: []float64{1e-2, 100}}}}, []string{">0.01<", ">1<", ">100<"}},
		{"one point", Chart{Series: []Series{{Name: "a", X: []float64{5}, Y: []float64{0}}}}, []string{"<path"}},
		{"hostile", Chart{Title: `"><script>`, Series: []Series{{Name: "a", X: []float64{0, 1}, Y: []float64{0, 1}}}}, []string{"&#34;&gt;&lt;script&gt;"}},
		{"marks", Chart{Whole: true, Series: []Series{{Name: "a", Marked: true, X: []float64{1, 2}, Y: []float64{1, 2}, Low: []float64{0.5, nan}, High: []float64{1.5, nan}, Labels: []string{"<one>", "two"}}}},
			[]string{">1</text>", ">2</text>", "<title>&lt;one&gt;</title><path", "<title>two</title><circle", `class="dot s0"`, ">0.5</text>"}},
		{"loose", Chart{Whole: true, Series: []Series{{Name: "a", Loose: true, X: []float64{1, 3}, Y: []float64{1, 2}}}}, []string{`class="hole s0"><circle`}},
		{"long", Chart{Series: []Series{long}}, []string{"<path"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			svg := string(c.chart.SVG())
			if c.want == nil && svg != "" {
				t.Errorf("drawn: %s", svg)
			}
			for _, w := range c.want {
				if !strings.Contains(svg, w) {
					t.Errorf("lacks %q: %s", w, svg)
				}
			}
			if strings.Contains(svg, "line s0") == (c.name == "loose") && svg != "" {
				t.Error("points are joined, or are not")
			}
			if c.chart.Whole && strings.Contains(svg, `text-anchor="middle">1.5<`) {
				t.Error("an axis of whole numbers has another")
			}
			if len(svg) > 6000 || strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
				t.Errorf("%d bytes: %.300s", len(svg), svg)
			}
		})
	}
}

func TestTrainingPage(t *testing.T) {
	p := Training{
		Name: `<script>alert(1)</script>`, State: "finished", Warnings: []string{"few rows"}, Headline: []Fact{{"loss", "0.1"}},
		Grids: []Grid{{Title: "Step 1", Text: "above & below", Width: 2, Height: 1, PNG: []byte("png")}}, Checkpoints: []Checkpoint{{Step: 1, File: "a"}}, Facts: []Fact{{"seed", "1"}},
	}
	var a, b bytes.Buffer
	if err := p.HTML(&a); err != nil {
		t.Fatal(err)
	}
	if err := p.HTML(&b); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Errorf("a second page differs (%v)", err)
	}
	for _, want := range []string{"&lt;script&gt;alert", "above &amp; below", "data:image/png;base64,cG5n", "few rows"} {
		if !strings.Contains(a.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(a.String(), "<script") || strings.Contains(a.String(), "http") {
		t.Error("the page holds a script or needs the network")
	}
}
