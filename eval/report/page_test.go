package report

import (
	"bytes"
	"image"
	"image/png"
	"math"
	"strings"
	"testing"
)

const hostile = "</style><script>alert(1)</script>|`x`[a](http://evil.example)\n# head \"'>"

func thumb(t *testing.T, id string) Thumb {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 2, 2))); err != nil {
		t.Fatal(err)
	}
	return Thumb{ID: id, Class: id, Text: id, Width: 2, Height: 2, PNG: b.Bytes()}
}

func full(t *testing.T, name string) *Result {
	p := thumb(t, name)
	return &Result{
		Name: name, When: name, Warnings: []string{name},
		Scores: []Score{
			{Metric: "fid", Label: name, Value: 12.3456, StandardError: Num(0.5), Interval: Around(12.3456, 0.5), Corrected: Num(11.5), GeneratedRows: 12345, ReferenceRows: 678, Notes: []string{name}},
			{Metric: "precision", Label: "precision", Value: 0.75, GeneratedRows: 12345, ReferenceRows: 678},
		},
		Generated: Set{Path: name, Rows: 12345}, Reference: Set{Path: name, Rows: 678}, Protocol: Protocol{Name: name, Words: []string{name}}, Extractor: Extractor{Name: name},
		Provenance: []Fact{{name, name}},
		Classes:    []Class{{Label: 1, Name: "near", ToClass: Num(1)}, {Label: 2, Name: "far", ToClass: Num(9)}, {Label: 3, Name: name}},
		Samples:    []Thumb{p}, References: []Thumb{p}, Pairs: []Pair{{p, p, []Fact{{name, name}}}}, Neighbours: []Neighbour{{p, p, 0.5, true}},
		Projection: &Projection{[2]Number{0.5, 0.25}, Points{X: []float32{0, float32(math.NaN())}, Y: []float32{1, 1}}, Points{X: []float32{2}, Y: []float32{3}}},
		History:    []Run{{Name: name, Rows: 5, Scores: []Score{{Metric: "fid", Label: name, Value: 77.125}}, Differs: name}},
		Failed:     []FailedRow{{name, name, name}}, Timings: []Timing{{name, 1.5, 10}},
	}
}

func pages(t *testing.T, r *Result) (html, markdown string) {
	t.Helper()
	var h, m bytes.Buffer
	if err := r.HTML(&h); err != nil {
		t.Fatal(err)
	}
	if err := r.Markdown(&m); err != nil {
		t.Fatal(err)
	}
	return h.String(), m.String()
}

func TestPagesShowEverything(t *testing.T) {
	html, markdown := pages(t, full(t, "plain name"))
	for _, want := range []string{"12.346", "11.366 to 13.326", "12,345", "75.00 %", "Lower is better.", "77.125", "near", "Failed rows"} {
		if !strings.Contains(html, want) || !strings.Contains(markdown, want) {
			t.Errorf("%q: in the page %v, in Markdown %v", want, strings.Contains(html, want), strings.Contains(markdown, want))
		}
	}
	if strings.Index(html, ">far<") > strings.Index(html, ">near<") {
		t.Error("the farthest class is not the first")
	}
	if strings.Contains(html, "NaN") || strings.Count(html, "<circle") != 1 {
		t.Error("a point that is no number is drawn, or another is not")
	}
	again, markdownAgain := pages(t, full(t, "plain name"))
	if html != again || markdown != markdownAgain {
		t.Error("equal results have different pages")
	}
}

func TestPagesEscape(t *testing.T) {
	html, markdown := pages(t, full(t, hostile))
	for _, bad := range []string{"<script", "</style><", "ZgotmplZ", `src="http`, `href="`} {
		if strings.Count(html, bad) > 0 {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, bad := range []string{"<script", "\n# head", "[a](http"} {
		if strings.Contains(markdown, bad) {
			t.Errorf("Markdown has %q", bad)
		}
	}
}

func TestEmptySectionsAreLeftOut(t *testing.T) {
	html, markdown := pages(t, &Result{Name: "empty"})
	if strings.Contains(html, "<h2>") || strings.Contains(html, "<svg") || strings.Contains(markdown, "##") {
		t.Errorf("sections of nothing:\n%s\n%s", html, markdown)
	}
}
