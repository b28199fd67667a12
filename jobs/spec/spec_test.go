package spec

import (
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

const encodeJob = `apiVersion: ldm-batch/v1
kind: Encode
metadata: {name: clothing-latents}
spec:
  model: {checkpoint: m.ckpt, config: m.yaml}
  input: {path: "data/train-*.parquet", label: label, columns: [a, b]}
  preprocess: {size: [256, 384], resize: pil-lanczos}
  output: {path: out/${day}, rows_per_part: 64}
  compute: {batch: 4, seed: 18446744073709551615}
  limits: {max_bad_rows: "1.5%", memory: 2GiB}
`

func load(text string, params map[string]string, settings ...Setting) (*Resolved, error) {
	r, err := Load("jobs/job.yaml", []byte(text), "/base", params, settings)
	if err != nil {
		return nil, err
	}
	return r, r.Validate()
}

func TestLoad(t *testing.T) {
	r, err := load(encodeJob, map[string]string{"day": "2026-01-02"}, Setting{"compute.batch", "16", "--set"}, Setting{"input.columns", "[c]", "--set"})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Spec
	if s.Output.Path != "/base/out/2026-01-02" || s.Model.Checkpoint != "/base/m.ckpt" || s.Input.Path != "/base/data/train-*.parquet" {
		t.Errorf("paths: %+v", s)
	}
	if s.Compute.Batch != 16 || s.Compute.Seed != 1<<64-1 || s.Preprocess.Size != (Extent{256, 384}) || s.Limits.Memory != 2<<30 {
		t.Errorf("values: %+v", s)
	}
	if len(s.Input.Columns) != 1 || s.Input.Columns[0] != "c" {
		t.Errorf("columns: %v", s.Input.Columns)
	}
	if got := s.Limits.MaxBadRows.Rows(1000); got != 15 {
		t.Errorf("budget: %d", got)
	}
	for key, want := range map[string]string{
		"spec.compute.batch": "--set", "spec.output.rows_per_part": "job.yaml:8:45", "kind": "job.yaml:2:7",
	} {
		if r.Origins[key] != want {
			t.Errorf("origin of %s: %q, want %q", key, r.Origins[key], want)
		}
	}
	for _, v := range r.Values() {
		if v.Key == "spec.sampler.steps" && (v.Value != "50" || v.Origin != "default") {
			t.Errorf("%+v", v)
		}
	}
}

func TestErrors(t *testing.T) {
	base := "apiVersion: ldm-batch/v1\nkind: Encode\nspec:\n  model: {checkpoint: a, config: b}\n  input: {path: x}\n  output: {path: o}\n"
	gen := "apiVersion: ldm-batch/v1\nkind: Sample\nspec:\n  model: {checkpoint: a, config: b}\n  output: {path: o}\n"
	cases := []struct{ name, text, want string }{
		{"unknown key", base + "  computer: {batch: 1}\n", "job.yaml:7:3: spec.computer: unknown key (did you mean compute?)"},
		{"unknown nested key", base + "  compute: {bach: 1}\n", "job.yaml:7:13: spec.compute.bach: unknown key (did you mean batch?)"},
		{"duplicate key", base + "  compute: {batch: 1, batch: 2}\n", "spec.compute.batch: duplicate key, first at line 7"},
		{"float for int", base + "  compute: {batch: 1.5}\n", `spec.compute.batch: "1.5" is not a whole number`},
		{"octal", base + "  compute: {batch: 010}\n", `"010" is not a whole number`},
		{"quoted number", base + "  compute: {batch: \"10\"}\n", `"10" is not a whole number`},
		{"number for text", base + "  preprocess: {crop: 12}\n", "spec.preprocess.crop: 12 is not text"},
		{"not a number", base + "  sampler: {eta: .nan}\n", `spec.sampler.eta: ".nan" is not a number`},
		{"enum", base + "  encode: {latent: mean}\n", `spec.encode.latent: "mean" is not one of mode, sample`},
		{"anchor", base + "  encode: &a {latent: mode}\n", "anchors and aliases are not allowed"},
		{"alias", base + "  encode: {latent: mode}\n  sampler: *x\n", "unknown anchor"},
		{"tag", base + "  encode: {latent: !!str mode}\n", "tags such as !!str are not allowed"},
		{"two documents", base + "---\nkind: Encode\n", "more than one document"},
		{"list for mapping", base + "  compute: [1]\n", "spec.compute: expected keys and values, not a list"},
		{"size", base + "  limits: {memory: much}\n", `spec.limits.memory: "much" is not a size`},
		{"budget", base + "  limits: {max_bad_rows: 120%}\n", `"120%" is not a share`},
		{"extent", base + "  preprocess: {size: [1, 2, 3]}\n", "is not a size in pixels"},
		{"empty", "", "missing"},
		{"other version", "apiVersion: ldm-batch/v2\n", `apiVersion: "ldm-batch/v2" is not one of ldm-batch/v1`},
		{"missing parameter", base + "  metadata2: 1\n  compute: {threads: ${n}}\n", "${n} has no value; give --param n=VALUE"},
		{"missing kind", "apiVersion: ldm-batch/v1\n", "kind: missing; one of Encode, Sample"},
		{"missing checkpoint", "kind: Encode\nspec:\n  output: {path: o}\n", "spec.model.checkpoint: missing"},
		{"range", base + "  compute: {batch: 0}\n", "job.yaml:7:20: spec.compute.batch: not in 1..4096"},
		{"sampler with encode", base + "  sampler: {steps: 5}\n", "spec.sampler.steps: has no meaning for kind Encode"},
		{"task missing", gen, "spec.sample.task: missing"},
		{"uncond without rows", gen + "  sample: {task: uncond}\n", "spec.sample.rows: missing"},
		{"class without classes", gen + "  sample: {task: class}\n", "spec.sample.classes: missing"},
		{"bad classes", gen + "  sample: {task: class, classes: \"9-2\"}\n", `"9-2" is not a class or a range`},
		{"uncond guided", gen + "  sample: {task: uncond, rows: 3}\n  sampler: {guidance: 2}\n", "spec.sampler.guidance: must be 1 with task uncond"},
		{"plms eta", gen + "  sample: {task: uncond, rows: 3}\n  sampler: {name: plms, eta: 1}\n", "spec.sampler.eta: must be 0 with plms"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(c.text, nil)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q lacks %q", err, c.want)
			}
			if exitcode.Of(err) != exitcode.Usage {
				t.Errorf("class %d", exitcode.Of(err))
			}
		})
	}
	for _, c := range []struct {
		s    Setting
		want string
	}{
		{Setting{"compute.bach", "1", "--set"}, "--set: unknown key spec.compute.bach (did you mean batch?)"},
		{Setting{"compute.batch.x", "1", "--set"}, "spec.compute.batch is a value"},
		{Setting{"compute.batch", "a", "--batch"}, "--batch: spec.compute.batch"},
	} {
		if _, err := load(base, nil, c.s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: error %v lacks %q", c.s, err, c.want)
		}
	}
}

func TestCanonical(t *testing.T) {
	text := strings.ReplaceAll(encodeJob, "${day}", "x")
	base, err := load(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key, value string
		same       bool
	}{
		{"compute.threads", "7", true}, {"compute.batch", "1", true}, {"output.path", "elsewhere", true}, {"limits.memory", "1GiB", true},
		{"metadata.name", "other", true}, {"model.checkpoint", "moved.ckpt", true},
		{"compute.seed", "1", false}, {"preprocess.size", "64", false}, {"output.rows_per_part", "3", false}, {"encode.scale", "false", false},
		{"model.weights", "raw", false}, {"compute.precision", "mixed", false}, {"input.label", "y", false},
	} {
		r, err := load(text, nil, Setting{c.key, c.value, "--set"})
		if err != nil {
			t.Fatal(err)
		}
		same := true
		a, b := base.Canonical(), r.Canonical()
		for k := range a {
			if s, ok := a[k].([]string); ok {
				same = same && strings.Join(s, ",") == strings.Join(b[k].([]string), ",")
			} else {
				same = same && a[k] == b[k]
			}
		}
		if same != c.same {
			t.Errorf("%s=%s: same=%v, want %v", c.key, c.value, same, c.same)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(encodeJob))
	f.Add([]byte("kind: [a, {b: c}]\nspec: 1\n"))
	f.Add([]byte("a: &x [*x]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Load("job.yaml", data, "/base", map[string]string{"day": "1"}, nil)
		if err == nil {
			_ = r.Validate()
		}
	})
}
