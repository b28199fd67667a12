package layers

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

const module = "github.com/ldm-batch/ldm-batch"

// layers is the table of allowed imports within the module, top first. A folder's rule holds for every package below it
// that has no rule of its own, and such packages may import each other. "+" in front of a name allows what is below it too.
var layers = []struct {
	folder string
	may    []string
}{
	{"cmd/ldm-batch", []string{"+jobs", "internal/exitcode"}},
	{"bench", []string{"+jobs", "+encode", "+sample", "+eval", "+io", "+internal"}},
	{"examples", []string{"+jobs", "+io", "+internal"}},

	{"jobs", []string{"jobs/spec", "encode", "encode/training", "sample", "sample/training", "internal/train", "+eval", "+io", "internal/demodata", "internal/models", "internal/page", "internal/tile", "internal/engine", "+internal/nn", "internal/plan", "internal/cpu",
		"internal/cpu/kernel", "internal/gpu", "+internal/weights", "internal/wordpiece", "internal/exitcode"}},
	{"jobs/spec", []string{"internal/exitcode"}},

	{"sample", []string{"encode", "internal/engine", "internal/ir", "internal/plan", "internal/train", "internal/nn", "internal/patch", "internal/tile", "+internal/weights", "internal/wordpiece", "internal/exitcode"}},
	{"eval", []string{"internal/page", "io/npz", "io/part", "io/resize", "io/stats", "internal/engine", "internal/nn", "internal/nn/inception", "internal/nn/lpips", "internal/nn/classifier", "internal/models/shapes64", "+internal/weights", "internal/exitcode", "io/preprocess", "internal/plan"}},
	{"eval/training", []string{"internal/engine", "internal/plan", "internal/train", "internal/nn/classifier", "+internal/weights", "internal/exitcode"}},
	{"encode", []string{"internal/engine", "internal/ir", "internal/plan", "internal/train", "+internal/nn", "internal/patch", "internal/tile", "+internal/weights", "internal/exitcode"}},

	{"internal/engine", []string{"internal/nn", "internal/ir", "internal/plan", "internal/exitcode"}},
	{"internal/nn", []string{"internal/ir", "+internal/weights", "internal/exitcode"}},
	{"internal/cpu", []string{"internal/cpu/kernel", "internal/plan", "internal/exitcode"}},
	{"internal/cpu/kernel", []string{"internal/exitcode"}},
	{"internal/gpu", []string{"internal/plan", "internal/exitcode"}},
	{"internal/plan", []string{"internal/ir", "internal/exitcode"}},
	{"internal/ir", nil},
	{"internal/weights", []string{"internal/half", "internal/exitcode"}},
	{"internal/train", []string{"internal/ir", "+internal/weights", "internal/exitcode"}},
	{"internal/patch", []string{"internal/exitcode"}},
	{"internal/tile", []string{"internal/engine", "internal/nn", "internal/exitcode"}},
	{"internal/wordpiece", []string{"internal/exitcode"}},
	{"internal/page", []string{"internal/exitcode"}},
	{"internal/models", []string{"+internal/weights"}},
	{"internal/models/shapes64", nil},
	{"internal/demodata", []string{"internal/exitcode"}},
	{"internal/half", nil},
	{"internal/exitcode", nil},

	{"io", []string{"internal/half", "internal/exitcode"}}, // knows no model

	// For tests only, see testOnly.
	{"internal/golden", nil},
	{"internal/nn/goldencase", []string{"internal/golden", "internal/ir", "internal/nn", "internal/weights", "internal/weights/formula"}},
	{"internal/weights/weightstest", []string{"+internal/weights"}},
	{"io/atomicfile/faultfs", []string{"io/atomicfile"}},
	{"internal/layers", nil},
}

// testOnly packages are imported by tests and by each other.
var testOnly = []string{"internal/golden", "internal/nn/goldencase", "internal/weights/weightstest", "io/atomicfile/faultfs", "io/table/tabletest"}

// libraries says which folders may import what is not of this module or the standard library, tests included.
var libraries = []struct {
	path    string
	folders []string
}{
	{"C", []string{"eval/linalg", "internal/cpu/kernel", "internal/gpu"}},
	{"github.com/apache/arrow/", []string{"io"}},
	{"github.com/parquet-go/", []string{"io"}},
	{"github.com/klauspost/compress/", []string{"io"}},
	{"github.com/andybalholm/brotli", []string{"io"}},
	{"github.com/pierrec/lz4/", []string{"io"}},
	{"golang.org/x/text/", []string{"internal/wordpiece"}},
	{"golang.org/x/image/", []string{"io/picture"}},
	{"gorgonia.org/gorgonia", []string{"internal/ir"}},
	{"gorgonia.org/tensor", []string{"internal/ir"}},
	{"github.com/chewxy/hm", []string{"internal/ir"}},
	{"go4.org/unsafe/assume-no-moving-gc", []string{"internal/ir"}},
	{"gorgonia.org/cu", []string{"internal/gpu"}},
	{"go.yaml.in/yaml/", []string{"jobs/spec", "internal/nn", "io/preprocess", "examples"}},
	{"github.com/urfave/cli/", []string{"cmd"}},
	{"golang.org/x/term", []string{"cmd", "jobs"}},
	{"golang.org/x/sys/", []string{"cmd", "io", "internal/cpu", "internal/weights"}},
}

// topLevel are the folders of the repository; names that begin with a dot and what is generated aside.
var topLevel = []string{"bench", "cmd", "docs", "encode", "eval", "examples", "internal", "io", "jobs", "sample"}

// generated files and folders are not part of the repository; .gitignore lists them too.
var generated = []string{".git", "bin", "demo", "bench/out", "ldm-batch"}

func TestImports(t *testing.T) {
	root := golden.ModuleRoot(t)
	packages := 0
	seen := map[string]bool{}
	each(t, root, func(name string) {
		if path.Ext(name) != ".go" {
			return
		}
		from := path.Dir(name)
		if !seen[from] {
			seen[from] = true
			packages++
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if err := check(from, to, strings.HasSuffix(name, "_test.go")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	if packages < 20 {
		t.Errorf("only %d packages found below %s", packages, root)
	}
}

// TestCheck makes sure that the rules can fail.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		from, to string
		test, ok bool
	}{
		{"jobs", module + "/sample", false, true},
		{"sample", module + "/jobs", false, false},
		{"internal/ir", module + "/internal/plan", false, false},
		{"io/part", module + "/internal/nn", false, false},
		{"io/part", module + "/io/picture", false, true},
		{"internal/weights/torch", module + "/internal/weights/pickle", false, true},
		{"internal/plan", module + "/internal/cpu", false, false},
		{"encode", module + "/internal/cpu", true, true},
		{"encode", module + "/internal/golden", false, false},
		{"io/part", "github.com/apache/arrow/go/v17/arrow", false, true},
		{"jobs", "github.com/apache/arrow/go/v17/arrow", true, false},
		{"internal/nn", "gorgonia.org/gorgonia", false, false},
		{"internal/ir", "gorgonia.org/cu", false, false},
		{"jobs", "example.org/anything", false, false},
		{"unknown", module + "/io/part", false, false},
	} {
		if err := check(c.from, c.to, c.test); (err == nil) != c.ok {
			t.Errorf("%s imports %s: %v", c.from, c.to, err)
		}
	}
}

// check says why a package may not import another.
func check(from, to string, test bool) error {
	to, own := strings.CutPrefix(to, module+"/")
	if !own {
		return checkLibrary(from, to)
	}
	isTest := test || slices.Contains(testOnly, from)
	if slices.Contains(testOnly, to) && !isTest {
		return fmt.Errorf("imports %s, which is for tests", to)
	}
	if test {
		return nil
	}
	rule, ok := ruleOf(from)
	if !ok {
		return fmt.Errorf("folder %s is in no layer", from)
	}
	if other, _ := ruleOf(to); other == rule && !slices.Contains(testOnly, to) {
		return nil // of one folder
	}
	may := layers[rule].may
	for _, m := range may {
		if below, ok := strings.CutPrefix(m, "+"); to == m || ok && within(to, below) {
			return nil
		}
	}
	return fmt.Errorf("%s imports %s; allowed: %s", from, to, strings.Join(may, ", "))
}

// ruleOf is the index of the innermost rule for a folder.
func ruleOf(folder string) (best int, ok bool) {
	for i, l := range layers {
		if within(folder, l.folder) && (!ok || len(l.folder) > len(layers[best].folder)) {
			best, ok = i, true
		}
	}
	return best, ok
}

func checkLibrary(from, to string) error {
	for _, l := range libraries {
		if to != l.path && !strings.HasPrefix(to, strings.TrimSuffix(l.path, "/")+"/") {
			continue
		}
		if slices.ContainsFunc(l.folders, func(f string) bool { return within(from, f) }) {
			return nil
		}
		return fmt.Errorf("imports %s, which belongs to %s", to, strings.Join(l.folders, ", "))
	}
	if first, _, _ := strings.Cut(to, "/"); strings.Contains(first, ".") {
		return fmt.Errorf("imports %s, which is in no table", to)
	}
	return nil // the standard library
}

func within(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

func TestTopLevel(t *testing.T) {
	root := golden.ModuleRoot(t)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && e.Name()[0] != '.' && !slices.Contains(topLevel, e.Name()) && !slices.Contains(generated, e.Name()) {
			t.Errorf("folder %s is not one of %s", e.Name(), strings.Join(topLevel, ", "))
		}
	}
}

// each calls f with every file of the repository, by its slashed path below root.
func each(t *testing.T, root string, f func(name string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		switch {
		case slices.Contains(generated, name) && d.IsDir():
			return filepath.SkipDir
		case slices.Contains(generated, name):
		case d.Type().IsRegular():
			f(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
