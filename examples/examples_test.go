package examples

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

var placeholder = regexp.MustCompile(`\$\{([A-Za-z0-9_.-]+)\}`)

// check resolves and validates a job, every placeholder filled with the same text.
func check(t *testing.T, name string, data []byte) {
	t.Helper()
	params := map[string]string{}
	for _, m := range placeholder.FindAllSubmatch(data, -1) {
		params[string(m[1])] = "value"
	}
	r, err := spec.Load(name, data, t.TempDir(), params, nil)
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		t.Error(err)
	}
}

// TestJobFiles loads every job file of the folder.
func TestJobFiles(t *testing.T) {
	jobs := 0
	for _, glob := range []string{"*.yaml", "*/*.yaml"} {
		files, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(f) == "model.yaml" { // a model's configuration
				continue
			}
			jobs++
			t.Run(f, func(t *testing.T) { check(t, f, data) })
		}
	}
	if jobs == 0 {
		t.Error("no job file found")
	}
}

// TestDocuments loads every job file that the documentation shows in full.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	jobs := 0
	for _, f := range append(files, "../README.md") {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(data), "```yaml\n")[1:] {
			if text, _, _ := strings.Cut(block, "```"); strings.HasPrefix(text, "apiVersion: "+spec.APIVersion) {
				jobs++
				t.Run(filepath.Base(f), func(t *testing.T) { check(t, f, []byte(text)) })
			}
		}
	}
	if jobs == 0 {
		t.Error("no job file found in the documentation")
	}
}
