package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

const docs = "../../docs"

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(docs, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReference: the checked-in reference is what gen-docs writes.
func TestReference(t *testing.T) {
	dir := t.TempDir()
	if got := invoke(t, "gen-docs", dir); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	fresh, err := os.ReadFile(filepath.Join(dir, "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	if page(t, "cli.md") != string(fresh) {
		t.Error("docs/cli.md is out of date: run ldm-batch gen-docs docs")
	}
	for _, c := range newApp(newConsole(nil, io.Discard, io.Discard)).VisibleCommands() {
		if !strings.Contains(string(fresh), "\n## "+c.Name+"\n") {
			t.Errorf("%s is missing", c.Name)
		}
	}
}

// TestExitCodePage: the page lists the table, and nothing else.
func TestExitCodePage(t *testing.T) {
	var want strings.Builder
	for _, i := range exitcode.Table {
		retry := "no"
		if i.Retryable {
			retry = "yes"
		}
		fmt.Fprintf(&want, "| %d | %s | %s | %s |\n", i.Code, i.Name, retry, i.Meaning)
	}
	_, rows, ok := strings.Cut(page(t, "exit-codes.md"), "|---|---|---|---|\n")
	if got, _, _ := strings.Cut(rows, "\n\n"); !ok || got+"\n" != want.String() {
		t.Errorf("the table is\n%s\nwant\n%s", got, want.String())
	}
}

// TestRetryLists: the lists of codes in the pages are those of the table, ascending as Kubernetes wants them.
func TestRetryLists(t *testing.T) {
	var useless, useful []string
	for _, i := range exitcode.Table {
		switch {
		case i.Retryable:
			useful = append(useful, fmt.Sprint(int(i.Code)))
		case i.Code != exitcode.OK && i.Code != exitcode.Nothing:
			useless = append(useless, fmt.Sprint(int(i.Code)))
		}
	}
	text := page(t, "kubernetes.md")
	for name, c := range map[string]struct {
		re   string
		want []string
	}{"podFailurePolicy": {`values: \[([0-9, ]+)\]`, useless}, "retryStrategy": {`exitCode\) in \[([0-9, ]+)\]`, useful}} {
		m := regexp.MustCompile(c.re).FindStringSubmatch(text)
		if m == nil || m[1] != strings.Join(c.want, ", ") {
			t.Errorf("%s lists %q, want %q", name, m, strings.Join(c.want, ", "))
		}
	}
}

// TestPagesUseRealFlags: every flag named in a command line of a page exists.
func TestPagesUseRealFlags(t *testing.T) {
	reference := page(t, "cli.md")
	for _, name := range []string{"kubernetes.md", "airflow.md", "slurm.md", "exit-codes.md"} {
		lines := 0
		for line := range strings.Lines(page(t, name)) {
			_, command, ok := strings.Cut(line, "ldm-batch ")
			if !ok {
				continue
			}
			lines++
			for _, flag := range regexp.MustCompile(`--[a-z][a-z0-9-]+`).FindAllString(command, -1) {
				if !strings.Contains(reference, "| `"+flag) {
					t.Errorf("%s: %s is no flag", name, flag)
				}
			}
		}
		if lines == 0 && name != "exit-codes.md" {
			t.Errorf("%s: no command line found", name)
		}
	}
}
