package reporting

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs/scoring"
)

// kept leaves a report in a folder of no job.
func kept(t *testing.T, dir, name, when, protocol string, fid float64) string {
	t.Helper()
	r := report.Result{Name: name, When: when, Protocol: report.Protocol{Name: protocol}, Extractor: report.Extractor{Name: "inception"}, Generated: report.Set{Rows: 100},
		Scores: []report.Score{{Metric: "fid", Label: "FID", Value: report.Number(fid), Interval: report.Around(fid, 1), GeneratedRows: 100}}}
	var b bytes.Buffer
	if err := r.JSON(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, scoring.ReportName), b.String())
	return dir
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// run makes the output folder of a job with one part, which is written or not, and published or not.
func run(t *testing.T, dir string, write, publish bool) string {
	t.Helper()
	plan, err := commit.NewPlan(map[string]any{}, []commit.PartPlan{{FirstRow: 0, Rows: 1}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := commit.Open(context.Background(), dir, plan, commit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if write {
		if _, err := f.WritePart(0, part.Schema{Image: true}, func(w *part.Writer) error { return w.Append(part.Row{ID: "a", Status: part.OK, Image: []byte("x")}) }); err != nil {
			t.Fatal(err)
		}
	}
	if publish {
		if _, err := f.Finalize(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMake(t *testing.T) {
	ctx, root := context.Background(), t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	kept(t, at("c"), "score", "2026-03-01T10:00:00Z", "adm", 7)
	kept(t, at("a"), "score", "2026-01-01T10:00:00Z", "adm", 9)
	kept(t, at("b"), "clean", "2026-02-01T10:00:00Z", "clean-fid", 5)

	// Named twice, once as a pattern, in no order.
	r, err := Make(ctx, []string{at("c"), at("?"), at("b/report.json")}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, run := range r.Runs {
		order = append(order, run.Name+" "+run.Differs)
	}
	if got := strings.Join(order, "|"); got != "score in a |clean protocol clean-fid, not adm|score in c " || r.Newest != at("c/report.json") {
		t.Errorf("runs %q, newest %s", got, r.Newest)
	}
	if strings.Join(r.Files, " ") != at("c/report.html")+" "+at("c/report.md") {
		t.Errorf("files %v", r.Files)
	}
	page, text := read(t, at("c/report.html")), read(t, at("c/report.md"))
	for _, want := range []string{"The line joins the FID of 2 runs", "no: protocol clean-fid, not adm", "3. score in c (this run)"} {
		if !strings.Contains(page, want) || !strings.Contains(text, want) {
			t.Errorf("%q: in the page %t, in Markdown %t", want, strings.Contains(page, want), strings.Contains(text, want))
		}
	}
	if said := r.Text(); !strings.Contains(said, "score in a: FID 9.000 (7.040 to 10.960), N 100\n") || !strings.Contains(said, "does not compare: protocol clean-fid") {
		t.Errorf("said:\n%s", said)
	}

	// JSON in another folder has the history, and a report of it alone keeps it.
	if r, err = Make(ctx, []string{at("a"), at("c")}, Options{Output: at("new/folder"), Formats: []Format{JSON, JSON}}); err != nil || len(r.Files) != 1 {
		t.Fatal(r, err)
	}
	if _, err = Make(ctx, []string{at("new/folder")}, Options{Output: at("one.html")}); err != nil {
		t.Fatal(err)
	}
	if page := read(t, at("one.html")); !strings.Contains(page, "1. score in a<") || strings.Contains(page, "clean-fid") {
		t.Error("the history of a single report is lost, or is another")
	}
	// A report alone has none.
	if _, err = Make(ctx, []string{at("a")}, Options{Output: at("alone.md")}); err != nil || strings.Contains(read(t, at("alone.md")), "History") {
		t.Errorf("a history of one run (%v)", err)
	}
}

// TestTimes: the order is that of the runs, whatever their names and the times of files that were copied.
func TestTimes(t *testing.T) {
	root := t.TempDir()
	job := kept(t, run(t, filepath.Join(root, "b"), true, true), "of a job", "", "adm", 3)
	old := time.Now().Add(-48 * time.Hour)
	file := filepath.Join(kept(t, filepath.Join(root, "a"), "of a file", "", "adm", 4), scoring.ReportName)
	if err := os.Chtimes(file, old.Add(time.Hour), old.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(job, scoring.ReportName), old, old); err != nil { // the record of the run counts
		t.Fatal(err)
	}
	r, err := Make(context.Background(), []string{filepath.Join(root, "*")}, Options{Output: filepath.Join(root, "x.json")})
	if err != nil || r.Runs[0].Name != "of a file" || r.Runs[1].Name != "of a job" {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.Runs[0].When != old.Add(time.Hour).UTC().Format(time.RFC3339) {
		t.Errorf("time %s", r.Runs[0].When)
	}
	if got := read(t, filepath.Join(root, "x.json")); !strings.Contains(got, `"history"`) || !strings.Contains(got, `"when": "20`) {
		t.Errorf("the document lacks history or time:\n%s", got)
	}
}

func TestErrors(t *testing.T) {
	root := t.TempDir()
	at := func(name string) string { return filepath.Join(root, name) }
	good := kept(t, at("good"), "good", "", "adm", 1)
	doc := read(t, filepath.Join(good, scoring.ReportName))
	change := func(name, old, new string) string {
		put(t, filepath.Join(kept(t, at(name), name, "", "adm", 1), scoring.ReportName), strings.Replace(doc, old, new, 1))
		return at(name)
	}
	put(t, at("file.txt"), "")
	if err := os.Mkdir(at("empty"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		path string
		o    Options
		code exitcode.Code
		says []string
	}{
		{"nothing there", at("none"), Options{}, exitcode.NoInput, []string{"none"}},
		{"pattern", at("none-*"), Options{}, exitcode.NoInput, []string{"none-*: matches nothing"}},
		{"bad pattern", at("[x"), Options{}, exitcode.Usage, []string{"[x"}},
		{"no report", at("empty"), Options{}, exitcode.NoInput, []string{"empty: has no report.json"}},
		{"another job", run(t, at("other"), true, true), Options{}, exitcode.NoInput, []string{"other: has no report.json"}},
		{"unfinished", kept(t, run(t, at("half"), false, false), "half", "", "adm", 1), Options{}, exitcode.Temporary, []string{"half: 1 of 1 parts are not finished"}},
		{"not published", kept(t, run(t, at("ready"), true, false), "ready", "", "adm", 1), Options{}, exitcode.Temporary, []string{"ready: all parts are finished", "finalize"}},
		{"damaged", change("damaged", "}\n", ""), Options{}, exitcode.Data, []string{"damaged/report.json: byte"}},
		{"of the future", change("future", "report/v1", "report/v2"), Options{}, exitcode.Data, []string{"future/report.json: schema:", "report/v2"}},
		{"wrong field", change("field", `"value": 1`, `"value": "x"`), Options{}, exitcode.Data, []string{"field/report.json: scores.value"}},
		{"no scores", change("scoreless", `"scores"`, `"timings": [], "history"`), Options{}, exitcode.Data, []string{"scoreless/report.json: "}},
		{"another document", at("file.txt"), Options{}, exitcode.Data, []string{"file.txt: "}},
		{"format", good, Options{Formats: []Format{"pdf"}}, exitcode.Usage, []string{`"pdf" is not one of html, md, json`}},
		{"format of a file", good, Options{Output: at("x.html"), Formats: []Format{HTML, JSON}}, exitcode.Usage, []string{"x.html is one file"}},
		{"output is a file", good, Options{Output: at("file.txt")}, exitcode.Usage, []string{"file.txt is a file"}},
		{"output below a file", good, Options{Output: at("file.txt/sub/x.md")}, exitcode.IO, []string{"file.txt"}},
	} {
		_, err := Make(context.Background(), []string{good, c.path}, c.o)
		if exitcode.Of(err) != c.code {
			t.Errorf("%s: %v of class %d, want %d", c.name, err, exitcode.Of(err), c.code)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v does not say %q", c.name, err, s)
			}
		}
	}
	if files, _ := filepath.Glob(at("*/*.html")); files != nil {
		t.Errorf("an error left %v", files)
	}
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Make(stopped, []string{good}, Options{}); err != context.Canceled {
		t.Errorf("stopped: %v", err)
	}
}
