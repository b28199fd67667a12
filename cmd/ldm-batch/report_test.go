package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// TestReport scores pictures twice, and makes the report of both.
func TestReport(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := invoke(t, "demo-data", "--rows", "20", "--split", "some", "data"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	eval := func(dir string, more ...string) outcome {
		t.Helper()
		args := append([]string{"eval", "--quiet", "--threads", "2", "--generated", "data/some-*.parquet", "--reference", "data/some-*.parquet", "--metrics", "fid,accuracy", "--rows-per-part", "10", "--output", dir}, more...)
		got := invoke(t, args...)
		if got.code != 0 {
			t.Fatalf("%+v", got)
		}
		return got
	}
	eval("score-1")
	eval("score-2", "--limit", "15")
	got := invoke(t, "report", "score-1", "score-2")
	if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "score-1: FD(shapes64) ") || !strings.Contains(got.stdout, "wrote "+filepath.Join("score-2", "report.html")) ||
		!strings.Contains(got.stdout, "does not compare: ") {
		t.Fatalf("report: %+v", got)
	}
	page, err := os.ReadFile(filepath.Join("score-2", "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<h2>History</h2>", "1. score-1<", "2. score-2 (this run)", "generated 20 pictures, not 15", "interval of 95 %"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	doc := invoke(t, "report", "--json", "--format", "html, md,json", "--output", "pages", "score-*").document(t)
	if runs, files := doc["runs"].([]any), doc["files"].([]any); doc["schema"] != "ldm-batch/reports/v1" || len(runs) != 2 || len(files) != 3 || runs[0].(map[string]any)["differs"] == "" {
		t.Errorf("report --json: %v", doc)
	}
	for _, name := range []string{"report.html", "report.md", "report.json"} {
		if _, err := os.Stat(filepath.Join("pages", name)); err != nil {
			t.Error(err)
		}
	}
	if got := invoke(t, "report", "--quiet", "--output", "only.md", "pages"); got.code != 0 || got.stdout+got.stderr != "" {
		t.Errorf("report of a report: %+v", got)
	}
	if got := invoke(t, "verify", "score-2"); got.code != 0 {
		t.Errorf("a page in the folder is taken for damage: %+v", got)
	}

	if got := eval("half", "--shard", "0/2", "--json"); got.document(t)["state"] != "partial" {
		t.Fatalf("%+v", got)
	}
	broken := filepath.Join("score-1", "report.json")
	b, err := os.ReadFile(broken)
	if err != nil {
		t.Fatal(err)
	}
	write(t, broken, strings.Replace(string(b), "ldm-batch/report/v1", "ldm-batch/report/v9", 1))
	for _, c := range []struct {
		args, says string
		code       exitcode.Code
	}{
		{"", "DIR is missing", exitcode.Usage},
		{"--format pdf score-2", `"pdf" is not one of html, md, json`, exitcode.Usage},
		{"none", "none", exitcode.NoInput},
		{"none-*", "none-*: matches nothing", exitcode.NoInput},
		{"data", "data: has no report.json", exitcode.NoInput},
		{"score-2 half", "half: 2 of 4 parts are not finished", exitcode.Temporary},
		{"score-2 score-1", "score-1/report.json: schema: \"ldm-batch/report/v9\" is of another version", exitcode.Data},
	} {
		got := invoke(t, append([]string{"report"}, strings.Fields(c.args)...)...)
		if got.code != int(c.code) || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(filepath.ToSlash(got.stderr), c.says) {
			t.Errorf("report %s: %+v, want code %d and %q", c.args, got, c.code, c.says)
		}
	}
}
