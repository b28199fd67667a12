// Package golden finds reference vectors and real data for tests.
//
// Concept: tests compare with vectors that live outside the repository, in a folder named by the environment. A missing
// folder skips the test loudly, except under CI=true, where it fails: a green CI must mean that the vectors were compared.
// Data flow: folder names in, paths out; nothing is read here. The package is imported by tests only.
package golden

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir returns the folder of reference vectors named by path elements below LDM_GOLDEN (default ../shared/golden beside the
// module). It skips, or under CI=true fails, when the folder is missing.
func Dir(t testing.TB, elem ...string) string {
	t.Helper()
	return find(t, "LDM_GOLDEN", "golden", elem)
}

// Data returns the folder of real images named by path elements below LDM_DATA (default ../shared/data beside the module),
// under the same rules as [Dir].
func Data(t testing.TB, elem ...string) string {
	t.Helper()
	return find(t, "LDM_DATA", "data", elem)
}

// Cases returns the sub-folders of Dir(elem...), by name. A folder without a case fails the test.
func Cases(t testing.TB, elem ...string) []string {
	t.Helper()
	dir := Dir(t, elem...)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var cases []string
	for _, e := range entries {
		if e.IsDir() {
			cases = append(cases, filepath.Join(dir, e.Name()))
		}
	}
	if len(cases) == 0 {
		t.Fatalf("%s holds no case", dir)
	}
	return cases
}

func find(t testing.TB, env, name string, elem []string) string {
	t.Helper()
	root := os.Getenv(env)
	if root == "" {
		root = filepath.Join(ModuleRoot(t), "..", "shared", name)
	}
	dir := filepath.Join(append([]string{root}, elem...)...)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("reference data missing: %v (set %s)", err, env)
		}
		t.Skipf("SKIPPED, NOTHING COMPARED: reference data missing: %v (set %s)", err, env)
	}
	return dir
}

// ModuleRoot is the folder of go.mod, found from the working folder upwards.
func ModuleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = up
	}
}
