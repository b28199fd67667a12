package part

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOtherReaders reads parts with pyarrow, polars, DuckDB, pandas and Hugging Face datasets and compares every row. It
// needs a Python that has them, named by LDM_PYTHON.
func TestOtherReaders(t *testing.T) {
	python := os.Getenv("LDM_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import pyarrow, polars, duckdb, pandas, datasets, PIL").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: %s cannot import the readers (set LDM_PYTHON to one that can): %v\n%s", python, err, out)
	}
	fixed := func(l Layout, d DType) Schema {
		return Schema{Latent: &Latent{C: 4, H: 3, W: 2, Layout: l, DType: d}, Label: true, Extra: extras[:1]}
	}
	zstd := fixed(List, Float32)
	zstd.Compression = Zstd
	lz4 := fixed(List, Float32)
	lz4.Compression = LZ4
	cases := []struct {
		name    string
		kind    string
		schema  Schema
		readers []string
	}{
		{"list float32", "list", fixed(List, Float32), []string{"pyarrow_dataset", "pyarrow_mmap", "polars", "duckdb",
			"pandas", "datasets_dir", "datasets_glob", "datasets_folder", "datasets_stream", "datasets_numpy"}},
		{"list float32 zstd", "list", zstd, []string{"pyarrow_dataset", "polars", "duckdb", "datasets_dir"}},
		{"list float32 lz4", "list", lz4, []string{"pyarrow_dataset", "polars", "duckdb", "datasets_dir"}},
		{"list float16", "list", fixed(List, Float16), []string{"pyarrow_dataset", "pyarrow_mmap", "polars", "datasets_dir"}},
		{"tensor float32", "tensor", fixed(Tensor, Float32), []string{"tensor_ndarray", "pyarrow_mmap", "polars", "duckdb"}},
		{"tensor float16", "tensor", fixed(Tensor, Float16), []string{"tensor_ndarray", "pyarrow_mmap"}},
		{"ragged float32", "ragged", Schema{Latent: &Latent{C: 4, Layout: Ragged}}, []string{"pyarrow_dataset", "polars",
			"duckdb", "pandas", "datasets_dir"}},
		{"images", "image", Schema{Image: true, Sampling: true, LabelNames: []string{"cat", "dog"}}, []string{
			"pyarrow_dataset", "polars", "duckdb", "pandas", "datasets_dir", "datasets_glob", "datasets_folder", "datasets_stream"}},
		{"images and latents", "both", Schema{Image: true, Latent: &Latent{C: 4, H: 3, W: 2}}, []string{"pyarrow_dataset",
			"polars", "duckdb", "datasets_dir"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "out")
			expect := outputFolder(t, dir, c.schema)
			path := filepath.Join(root, "expect.json")
			if err := os.WriteFile(path, expect, 0o666); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(python, append([]string{filepath.Join("testdata", "readers.py"), dir, path, c.kind}, c.readers...)...)
			cmd.Env = append(os.Environ(), "HF_HOME="+filepath.Join(root, "hf"), "PYTHONDONTWRITEBYTECODE=1")
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// outputFolder writes a finished output folder of two parts as a job leaves it, and returns the expected rows as JSON.
func outputFolder(t *testing.T, dir string, s Schema) []byte {
	t.Helper()
	for _, d := range []string{"data", ".ldm-batch/journal", ".ldm-batch/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"_manifest.json", ".ldm-batch/plan.json", ".ldm-batch/journal/00000.json"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(`{"schema":"x"}`), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "_SUCCESS"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	rows := rowsOf(t, s, 40)
	for i := range rows { // a null latent in the first row of the first batch is the harder case
		rows[i].Label = max(rows[i].Label, 0)
	}
	rows[0] = Row{ID: "in#0", Status: Failed, Error: "zero bytes", Extra: make([]any, len(s.Extra))}
	for p, part := range [][]Row{rows[:25], rows[25:]} {
		f, err := os.Create(filepath.Join(dir, "data", fmt.Sprintf("part-%05d.arrow", p)))
		if err != nil {
			t.Fatal(err)
		}
		s.Meta = Meta{JobFingerprint: "sha256:00", Part: p, Parts: 2}
		if _, err := writePart(f, s, part); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var expect []map[string]any
	for i, r := range rows {
		m := map[string]any{"id": r.ID, "status": r.Status, "error": null(r.Error), "source_sha256": null(r.SourceSHA256), "width": nil}
		if r.Width > 0 {
			m["width"] = r.Width
		}
		if s.Label || len(s.LabelNames) > 0 {
			m["label"] = nil
			if r.HasLabel {
				m["label"] = r.Label
			}
		}
		if s.Sampling {
			m["seed"] = r.Seed
		}
		for k, c := range s.Extra {
			m[c.Name] = r.Extra[k]
		}
		if s.Latent != nil {
			m["latent"], m["shape"] = any(r.Latent), r.LatentShape
			if r.Latent == nil {
				m["latent"], m["shape"] = nil, [3]int{s.Latent.C, s.Latent.H, s.Latent.W}
			}
		}
		if s.Image {
			m["pixel"], m["size"] = nil, [2]int{16, 12}
			if r.Image != nil {
				m["pixel"] = []int{3 * 16, 5 * 16, i}
			}
		}
		expect = append(expect, m)
	}
	b, err := json.Marshal(expect)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}
