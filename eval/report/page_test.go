package report

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/browser"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
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
			{Metric: "fid", Label: name, Value: 12.3456, StandardError: Num(0.5), Interval: Around(12.3456, 0.5), Corrected: Num(11.5), GeneratedRows: 12345, ReferenceRows: 678, Ranks: &Ranks{99, 120, 2048}, Notes: []string{name}},
			{Metric: "precision", Label: "precision", Value: 0.75, GeneratedRows: 12345, ReferenceRows: 678},
		},
		Generated: Set{Path: name, Rows: 12345, Failed: 3}, Reference: Set{Path: name, Rows: 678}, Protocol: Protocol{Name: name, Words: []string{name}}, Extractor: Extractor{Name: name},
		Provenance: []Fact{{name, name}},
		Classes:    []Class{{Label: 1, Name: "near", ToClass: Num(1)}, {Label: 2, Name: "far", ToClass: Num(9)}, {Label: 3, Name: name}},
		Samples:    []Thumb{p}, References: []Thumb{p}, Pairs: []Pair{{p, p, []Fact{{name, name}}}}, Neighbours: []Neighbour{{p, p, 0.5, true}},
		Projection: &Projection{[2]Number{0.5, 0.25}, Points{X: []float32{0, float32(math.NaN())}, Y: []float32{1, 1}}, Points{X: []float32{2}, Y: []float32{3}}},
		History:    []Run{{Name: name, When: "2026-11-26T13:40:00+01:00", Rows: 5, Scores: []Score{{Metric: "fid", Label: name, Value: 77.125}}, Differs: name}},
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
	for _, want := range []string{"12.346", "11.366 to 13.326", "12,345", "75.00 %", "Lower is better.", "77.125", "near", "Failed rows", "These are 1 of 3.", "effective rank 99 of the generated", "interval of 95 %", "2026-11-26 12:40 UTC"} {
		if !strings.Contains(html, want) || !strings.Contains(markdown, want) {
			t.Errorf("%q: in the page %v, in Markdown %v", want, strings.Contains(html, want), strings.Contains(markdown, want))
		}
	}
	if strings.Index(html, ">far<") > strings.Index(html, ">near<") {
		t.Error("the farthest class is not the first")
	}
	if _, plane, _ := strings.Cut(html, `id="plane-desc"`); strings.Contains(html, "NaN") || strings.Count(plane[:strings.Index(plane, "</svg>")], "<circle") != 1 {
		t.Error("a point that is no number is drawn, or another is not")
	}
	again, markdownAgain := pages(t, full(t, "plain name"))
	if html != again || markdown != markdownAgain {
		t.Error("equal results have different pages")
	}
}

// TestPageInBrowser looks at a page with all sections, long tables and names among them.
func TestPageInBrowser(t *testing.T) {
	r := full(t, strings.Repeat("a long name ", 8))
	for i := range 40 {
		r.Samples = append(r.Samples, thumb(t, fmt.Sprint("picture ", i)))
	}
	page := filepath.Join(t.TempDir(), "report.html")
	html, _ := pages(t, r)
	if err := os.WriteFile(page, []byte(html), 0o666); err != nil {
		t.Fatal(err)
	}
	browser.Look(t, page)
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

func TestClassesWithoutNames(t *testing.T) {
	r := &Result{Scores: []Score{{Metric: "class_fid", Label: "FID, mean over classes", Value: 12.34567}}, Classes: []Class{{Label: 7, Name: "7", ToClass: Num(1)}, {Label: 8, Name: "8", ToClass: Num(2)}}}
	html, markdown := pages(t, r)
	if strings.Contains(html, ">name<") || strings.Contains(markdown, "| name") || !strings.Contains(markdown, "| 12.346 |") || !strings.Contains(markdown, "| lower |") {
		t.Errorf("a column repeats the label, or the mean over classes is no known metric:\n%s", markdown)
	}
}

// TestHistory: runs that were measured otherwise are listed with the reason, and not joined by the line.
func TestHistory(t *testing.T) {
	run := func(name, protocol string, fid float64, rows int64) *Result {
		return &Result{Name: name, Scores: []Score{{Metric: "fid", Label: "FID", Value: Number(fid), Interval: Around(fid, 0.5), GeneratedRows: rows}},
			Generated: Set{Path: "pictures", Rows: rows}, Reference: Set{Path: "test.arrow", Rows: 500}, Protocol: Protocol{Name: protocol}, Extractor: Extractor{Name: "inception", SHA256: "0123456789abcdef"}}
	}
	other := run("other scores", "adm", 1, 1000)
	other.Scores[0].Metric, other.Scores[0].Label = "is", "IS"
	moved := run("moved", "adm", 8, 1000)
	moved.Reference.Path = "train.arrow"
	r := run("newest", "adm", 7, 1000)
	r.Since([]*Result{run("first", "adm", 9, 1000), run("bad", "adm", 8.5, 995), run("clean", "clean-fid", 5, 1000), run("few", "adm", 12, 900), moved, other})
	var got []string
	for _, h := range r.History {
		got = append(got, h.Name+": "+h.Differs)
	}
	want := "first: |bad: |clean: protocol clean-fid, not adm|few: generated 900 pictures, not 1,000|moved: reference train.arrow, not test.arrow|other scores: "
	if strings.Join(got, "|") != want {
		t.Errorf("history\n%s\nwant\n%s", strings.Join(got, "|"), want)
	}
	html, markdown := pages(t, r)
	for _, w := range []string{"The line joins the FID of 3 runs", "3 runs were measured otherwise", "One run was without this score", "7. newest (this run)", "no: protocol clean-fid, not adm"} {
		if !strings.Contains(html, w) || !strings.Contains(markdown, w) {
			t.Errorf("%q: in the page %v, in Markdown %v", w, strings.Contains(html, w), strings.Contains(markdown, w))
		}
	}
	if dots, holes := strings.Count(html, `class="dot s0"`), strings.Count(html, `class="hole s1"`); dots != 3 || holes != 3 || strings.Count(html, `class="line`) != 1 {
		t.Errorf("%d points on the line and %d beside it", dots, holes)
	}
	kept := *r
	kept.Since(nil)
	if html, _ := pages(t, &kept); strings.Contains(html, "History") {
		t.Error("a history of one run")
	}
	sha := func(s string) *Result {
		o := run("", "adm", 1, 1000)
		o.Reference.Path, o.Reference.SHA256 = s, s[:1]
		return o
	}
	if sha("ab").differs(sha("ac")) != "" || sha("ab").differs(sha("bb")) == "" {
		t.Error("a reference is not known by its content")
	}
}

// TestReadNamesWhatIsWrong: documents that are damaged, of another version or of something else.
func TestReadNamesWhatIsWrong(t *testing.T) {
	original := full(t, "name")
	original.Projection.Generated.X[1] = 1 // JSON has no numbers that are none
	var whole bytes.Buffer
	if err := original.JSON(&whole); err != nil {
		t.Fatal(err)
	}
	r, err := Read(bytes.NewReader(whole.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	html, _ := pages(t, original)
	if again, _ := pages(t, r); again != html {
		t.Error("the page of a result that was written and read differs")
	}
	for text, says := range map[string]string{
		whole.String()[:whole.Len()/2]: "unexpected end",
		whole.String() + "x":           "after top-level value",
		strings.Replace(whole.String(), Schema, "ldm-batch/report/v2", 1):     `schema: "ldm-batch/report/v2" is of another version`,
		strings.Replace(whole.String(), "12.3456", `"high"`, 1):               `scores.value: value "high" is out of place`,
		strings.Replace(whole.String(), "12345", `"12345"`, 1):                `generated_rows: string is out of place`,
		strings.Replace(whole.String(), `"metric": "fid"`, `"metric": ""`, 1): `scores[0]: metric ""`,
		`{"schema": "` + Schema + `", "colour": 1}`:                           `unknown field "colour"`,
		`{"rows": 3}`: "schema: missing",
		`[]`:          "document: array is out of place",
	} {
		if _, err := Read(strings.NewReader(text)); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s: %v, want an error of class data with %q", text, err, says)
		}
	}
}
