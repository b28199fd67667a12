package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// TestMain lets the test binary stand in for the program: see child.
func TestMain(m *testing.M) {
	if os.Getenv("LDM_BATCH_TEST_MAIN") != "" {
		os.Unsetenv("LDM_BATCH_TEST_MAIN")
		main()
		return
	}
	for _, name := range schedulers { // the tests' own surroundings shall not count
		os.Unsetenv(name)
	}
	os.Exit(m.Run())
}

type outcome struct {
	code           int
	stdout, stderr string
}

// invoke runs a command line in this process.
func invoke(t *testing.T, args ...string) outcome {
	t.Helper()
	var out, errs pipe
	code := run(append([]string{"ldm-batch"}, args...), &out, &errs)
	return outcome{code, out.String(), errs.String()}
}

// pipe is a buffer that several goroutines write to, as they do to a file: the word that a run stops may come at any time.
type pipe struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

func (p *pipe) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.String()
}

// document decodes the last line of standard output, which must be its only JSON.
func (o outcome) document(t *testing.T) map[string]any {
	t.Helper()
	if !strings.HasSuffix(o.stdout, "\n") || strings.Count(o.stdout, "\n") != 1 {
		t.Fatalf("stdout is not one line: %q", o.stdout)
	}
	var doc map[string]any
	if err := json.Unmarshal([]byte(o.stdout), &doc); err != nil {
		t.Fatalf("stdout is not JSON: %v: %q", err, o.stdout)
	}
	return doc
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	job := filepath.Join(dir, "job.yaml")
	write(t, job, "apiVersion: ldm-batch/v1\nkind: Sample\nspec:\n  sampler: {steps: 1.5}\n")
	cases := []struct {
		name, args string
		says       string
	}{
		{"no command", "", "no command given"},
		{"unknown command", "nosuch", `unknown command "nosuch"; commands: run, encode, sample`},
		{"no such kind of job", "distil", `unknown command "distil"`},
		{"help command", "help", "unknown command"},
		{"unknown flag", "run --bogus", "unknown flag --bogus"},
		{"unknown flag of the program", "--bogus run", "unknown flag --bogus"},
		{"flag behind the job file", "run JOB --overwrite", "flag --overwrite must come before"},
		{"short flag behind the job file", "run JOB -x", "flag -x must come before"},
		{"flag behind a folder", "status DIR --quiet", "flag --quiet must come before"},
		{"no job file", "run", "JOB.yaml is missing"},
		{"two job files", "run JOB JOB", "unexpected argument"},
		{"duration without unit", "run --timeout 5 JOB", "use 5s, 10m, 2h"},
		{"negative duration", "run --lock-wait -5s JOB", "use 5s, 10m, 2h"},
		{"shard without count", "run --shard 3 JOB", "expected i/n"},
		{"shard beyond count", "run --shard 8/8 JOB", "0 <= i < n"},
		{"negative shard", "run --shard -1/8 JOB", "0 <= i < n"},
		{"log format", "run --log-format xml JOB", "auto, text, json"},
		{"if locked", "run --if-locked wait JOB", "fail, skip"},
		{"skip code", "run --skip-exit-code 256 JOB", "0..255"},
		{"set without value", "run --set sampler.steps JOB", "expected key=value"},
		{"set of an unknown key", "run --set sampler.step=3 GOOD", "did you mean steps?"},
		{"param without value", "run --param x JOB", "expected name=value"},
		{"param twice", "run --param x=1 --param x=2 JOB", "given twice"},
		{"bad value in the job file", "run JOB", `job.yaml:4:20: spec.sampler.steps: "1.5" is not a whole number`},
		{"kind of another command", "encode --set sampler.steps=3 GOOD", "kind is Sample"},
		{"missing values", "sample --steps 3", "spec.model.checkpoint: missing"},
		{"bad flag value", "sample --steps many", "--steps: spec.sampler.steps"},
		{"bad enumeration", "encode --latent median", "mode, sample"},
		{"shards", "plan --shards 0 JOB", "at least 1"},
		{"plan flag without plan", "inspect --size 3 JOB", "--plan only"},
		{"plan without configuration", "inspect --plan", "needs --config"},
		{"format", "export --format gif DIR OUT", "png, jpeg, tar, parquet"},
		{"dtype", "convert --dtype f8 JOB OUT", "f64, f32, f16, bf16"},
	}
	good := filepath.Join(dir, "good.yaml")
	write(t, good, sampleJob(dir))
	for _, c := range cases {
		for _, quiet := range []bool{false, true} {
			args := strings.Fields(c.args)
			for i, a := range args {
				args[i] = map[string]string{"JOB": job, "DIR": dir, "GOOD": good, "OUT": filepath.Join(dir, "out")}[a]
				if args[i] == "" {
					args[i] = a
				}
			}
			if quiet {
				if len(args) == 0 || strings.HasPrefix(args[0], "-") || args[0] == "nosuch" || args[0] == "distil" || args[0] == "help" {
					continue
				}
				args = append([]string{args[0], "--quiet"}, args[1:]...)
			}
			got := invoke(t, args...)
			if got.code != int(exitcode.Usage) || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, c.says) {
				t.Errorf("%s (quiet %t): code %d, stdout %q, stderr %q; want 64, nothing, one line with %q", c.name, quiet, got.code, got.stdout, got.stderr, c.says)
			}
			if len(args) == 0 || quiet || args[0] == "--bogus" || args[0] == "nosuch" || args[0] == "distil" || args[0] == "help" {
				continue
			}
			result := filepath.Join(dir, "result.json")
			asJSON := invoke(t, append([]string{args[0], "--json", "--result-file", result}, args[1:]...)...)
			doc := asJSON.document(t)
			if asJSON.code != 64 || doc["exit_code"] != 64.0 || doc["retryable"] != false || !strings.Contains(doc["error"].(string), c.says) {
				t.Errorf("%s with --json: code %d, %v", c.name, asJSON.code, doc)
			}
			if b, err := os.ReadFile(result); err != nil || string(b) != asJSON.stdout {
				t.Errorf("%s: result file %q (%v), stdout %q", c.name, b, err, asJSON.stdout)
			}
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "-h", "run --help", "encode -h", "--version", "version --help"} {
		got := invoke(t, strings.Fields(args)...)
		if got.code != 0 || got.stdout == "" || got.stderr != "" {
			t.Errorf("%s: code %d, %d bytes on stdout, stderr %q", args, got.code, len(got.stdout), got.stderr)
		}
	}
	if help := invoke(t, "--help").stdout; strings.Contains(help, "gen-docs") {
		t.Error("a hidden command is listed")
	}
}

// TestJob runs a job from end to end, and then everything that can be asked about it.
func TestJob(t *testing.T) {
	model := writeModel(t)
	dir := t.TempDir()
	job, out := filepath.Join(dir, "job.yaml"), filepath.Join(dir, "out")
	write(t, job, sampleJob(model))

	if got := invoke(t, "validate", job); got.code != 0 || !strings.Contains(got.stdout, "valid, kind Sample, 6 rows in 3 parts") {
		t.Fatalf("validate: %+v", got)
	}
	got := invoke(t, "plan", "--shards", "2", "--json", "--result-file", filepath.Join(dir, "plan.json"), job)
	if got.code != 0 || got.stdout != `[{"shard":0,"of":2,"parts":2,"rows":4},{"shard":1,"of":2,"parts":1,"rows":2}]`+"\n" &&
		got.stdout != `[{"shard":0,"of":2,"parts":1,"rows":2},{"shard":1,"of":2,"parts":2,"rows":4}]`+"\n" {
		t.Errorf("plan --json: %+v", got)
	}
	if got := invoke(t, "plan", "--set", "sampler.eta=0.5", job); got.code != 0 || !strings.Contains(got.stdout, "--set sampler.eta") || !strings.Contains(got.stdout, "job.yaml:6:") {
		t.Errorf("plan does not tell origins: %+v", got)
	}
	if got := invoke(t, "status", out); got.code != int(exitcode.NoInput) {
		t.Errorf("status of a folder that is not there: %+v", got)
	}

	// One shard, then finalize too early, then the rest.
	if got := invoke(t, "run", "--shard", "0/2", "--json", job); got.code != 0 || got.document(t)["state"] != "partial" {
		t.Fatalf("run --shard 0/2: %+v", got)
	}
	if got := invoke(t, "finalize", out); got.code != int(exitcode.Temporary) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("finalize too early: %+v", got)
	}
	metrics, result := filepath.Join(dir, "m.prom"), filepath.Join(dir, "r.json")
	got = invoke(t, "run", "--json", "--metrics-file", metrics, "--result-file", result, job)
	doc := got.document(t)
	if got.code != 0 || doc["state"] != "finished" || doc["rows"] != 6.0 || doc["ok"] != 6.0 {
		t.Fatalf("run: %+v", got)
	}
	if b, err := os.ReadFile(result); err != nil || string(b) != got.stdout {
		t.Errorf("result file %q (%v) differs from stdout", b, err)
	}
	if b, _ := os.ReadFile(metrics); !strings.Contains(string(b), `ldm_batch_rows{job="test",status="ok"} 6`) {
		t.Errorf("metrics: %s", b)
	}
	if leftover, _ := filepath.Glob(filepath.Join(dir, ".ldm-batch-*")); leftover != nil {
		t.Errorf("temporary files remain: %v", leftover)
	}

	for _, c := range []struct {
		args string
		code int
	}{{"run --quiet", 0}, {"run --quiet --skip-exit-code 99", 99}, {"run --quiet --skip-exit-code 99 --fail-on-row-errors", 99}, {"sample --quiet --rehash", 0}} {
		if got := invoke(t, append(strings.Fields(c.args), job)...); got.code != c.code || got.stdout+got.stderr != "" {
			t.Errorf("%s on a finished folder: %+v, want silence and code %d", c.args, got, c.code)
		}
	}
	for _, c := range []struct{ args, says string }{
		{"status", "finished, 3 of 3 parts, 6 of 6 rows"}, {"verify", "3 parts with 6 rows"}, {"finalize", "finished, 6 rows in 3 parts"},
	} {
		if got := invoke(t, c.args, out); got.code != 0 || !strings.Contains(got.stdout, c.says) || got.stderr != "" {
			t.Errorf("%s: %+v", c.args, got)
		}
		if doc := invoke(t, c.args, "--json", out).document(t); doc["schema"] != "ldm-batch/"+c.args+"/v1" || doc["state"] != "finished" {
			t.Errorf("%s --json: %v", c.args, doc)
		}
	}
	if got := invoke(t, "run", "--set", "compute.seed=5", job); got.code != int(exitcode.Conflict) || got.stdout != "" {
		t.Errorf("another job on the folder: %+v", got)
	}
	if doc := invoke(t, "inspect", "--json", filepath.Join(out, "data", "part-00000.arrow")).document(t); doc["kind"] != "arrow-part" {
		t.Errorf("inspect of a part: %v", doc)
	}
	if got := invoke(t, "export", "--format", "png", out, filepath.Join(dir, "png")); got.code != 0 || !strings.Contains(got.stdout, "6 images of 6 rows") {
		t.Errorf("export: %+v", got)
	}

	// Damage is found, with text and code, and with JSON.
	part := filepath.Join(out, "data", "part-00001.arrow")
	b, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	write(t, part, string(b))
	if got := invoke(t, "verify", out); got.code != int(exitcode.Data) || !strings.Contains(got.stdout, "1 problems") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("verify of a damaged part: %+v", got)
	}
	if got := invoke(t, "verify", "--json", out); got.code != int(exitcode.Data) || got.document(t)["exit_code"] != 65.0 {
		t.Errorf("verify --json of a damaged part: %+v", got)
	}
}

// TestFlagsAreTheJobFile compares a run from flags with the same job from a file.
func TestFlagsAreTheJobFile(t *testing.T) {
	model, dir := writeModel(t), t.TempDir()
	job := filepath.Join(dir, "job.yaml")
	write(t, job, sampleJob(model))
	t.Chdir(dir)
	fromFile := invoke(t, "run", "--json", job).document(t)
	fromFlags := invoke(t, "sample", "--json", "--model", filepath.Join(model, "model.safetensors"), "--config", filepath.Join(model, "model.yaml"),
		"--task", "uncond", "--rows", "6", "--size", "16", "--steps", "2", "--output", "flags,1", "--rows-per-part", "2", "--batch", "3", "--threads", "2").document(t)
	if fromFile["fingerprint"] != fromFlags["fingerprint"] || fromFile["state"] != "finished" || fromFlags["state"] != "finished" {
		t.Fatalf("file: %v\nflags: %v", fromFile, fromFlags)
	}
	for _, name := range []string{"_manifest.json", "data/part-00002.arrow"} {
		a, aerr := os.ReadFile(filepath.Join(dir, "out", name))
		b, berr := os.ReadFile(filepath.Join(dir, "flags,1", name))
		if aerr != nil || berr != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs between file and flags (%v, %v)", name, aerr, berr)
		}
	}
}

func TestPrecedence(t *testing.T) {
	model, dir := writeModel(t), t.TempDir()
	job := filepath.Join(dir, "job.yaml")
	write(t, job, sampleJob(model))
	threads := func(args ...string) (value, origin string) {
		t.Helper()
		result := filepath.Join(dir, "plan.json")
		if got := invoke(t, append(append([]string{"plan", "--quiet", "--result-file", result}, args...), job)...); got.code != 0 {
			t.Fatalf("%v: %+v", args, got)
		}
		var d struct {
			Values []struct{ Key, Value, Origin string }
		}
		b, err := os.ReadFile(result)
		if err != nil || json.Unmarshal(b, &d) != nil {
			t.Fatalf("plan document %q: %v", b, err)
		}
		for _, v := range d.Values {
			if v.Key == "spec.compute.threads" {
				return v.Value, v.Origin
			}
		}
		t.Fatal("no compute.threads in the plan")
		return
	}
	check := func(wantValue, wantOrigin string, args ...string) {
		t.Helper()
		if value, origin := threads(args...); value != wantValue || !strings.HasPrefix(origin, wantOrigin) {
			t.Errorf("%v: %s from %s, want %s from %s", args, value, origin, wantValue, wantOrigin)
		}
	}
	check("1", "job.yaml:")
	if got := invoke(t, "plan", "--set", "metadata.name=a,b=c", job); !strings.Contains(got.stdout, " a,b=c ") {
		t.Errorf("a value with comma and equals sign: %+v", got)
	}
	t.Setenv("LDM_BATCH_THREADS", "2")
	check("2", "LDM_BATCH_THREADS")
	check("3", "--set", "--set", "compute.threads=3")
	check("4", "--threads", "--set", "compute.threads=3", "--threads", "4")
	t.Setenv("LDM_BATCH_THREADS", "two")
	if got := invoke(t, "plan", job); got.code != 64 || !strings.Contains(got.stderr, "LDM_BATCH_THREADS: spec.compute.threads") {
		t.Errorf("bad environment: %+v", got)
	}
	t.Setenv("LDM_BATCH_THREADS", "")
	t.Setenv("LDM_BATCH_JSON", "maybe")
	if got := invoke(t, "plan", job); got.code != 64 || !strings.Contains(got.stderr, "LDM_BATCH_JSON") {
		t.Errorf("bad environment of an output flag: %+v", got)
	}
}

// TestRowErrors: failed rows are rows, unless they are too many or somebody minds.
func TestRowErrors(t *testing.T) {
	model, dir := writeModel(t), t.TempDir()
	data := filepath.Join(dir, "input.parquet")
	writeImages(t, data, 10, true)
	args := []string{"encode", "--json", "--quiet", "--model", filepath.Join(model, "model.safetensors"), "--config", filepath.Join(model, "model.yaml"),
		"--input", data, "--size", "16", "--output"}
	budget := invoke(t, append(args, filepath.Join(dir, "a"))...)
	if doc := budget.document(t); budget.code != int(exitcode.Data) || doc["exit_code"] != 65.0 || doc["state"] != "failed" {
		t.Errorf("over the budget: %+v", budget)
	}
	tolerant := invoke(t, append(args, filepath.Join(dir, "b"), "--max-bad-rows", "2")...)
	if doc := tolerant.document(t); tolerant.code != 0 || doc["failed"] != 2.0 || doc["ok"] != 8.0 || doc["state"] != "finished" {
		t.Errorf("within the budget: %+v", tolerant)
	}
	minding := invoke(t, append(args, filepath.Join(dir, "b"), "--max-bad-rows", "2", "--fail-on-row-errors")...)
	if doc := minding.document(t); minding.code != int(exitcode.RowErrors) || doc["exit_code"] != 3.0 || strings.Count(minding.stderr, "\n") != 1 {
		t.Errorf("minding failed rows: %+v", minding)
	}
	if got := invoke(t, "export", filepath.Join(dir, "b"), filepath.Join(dir, "png")); got.code != int(exitcode.Data) || !strings.Contains(got.stderr, "no images") {
		t.Errorf("export of latents: %+v", got)
	}
}

func TestConvertAndInspect(t *testing.T) {
	model, dir := writeModel(t), t.TempDir()
	in, out := filepath.Join(model, "model.safetensors"), filepath.Join(dir, "half.safetensors")
	if got := invoke(t, "convert", "--dtype", "bf16", "--first-stage-only", in, out); got.code != 0 || !strings.Contains(got.stdout, "tensors") {
		t.Fatalf("convert: %+v", got)
	}
	if got := invoke(t, "convert", in, out); got.code != 64 || !strings.Contains(got.stderr, "--overwrite") {
		t.Errorf("convert over a file: %+v", got)
	}
	if got := invoke(t, "inspect", out); got.code != 0 || !strings.Contains(got.stdout, "KL first stage, factor 2, latents of 4 channels alone") || !strings.Contains(got.stdout, "type BF16") {
		t.Errorf("inspect: %+v", got)
	}
	if got := invoke(t, "inspect", "--plan", "--config", filepath.Join(model, "model.yaml"), "--model", in, "--batch", "2"); got.code != 0 || strings.Count(got.stdout, "kernel") < 3 || !strings.Contains(got.stdout, "[2 3 16 16]") {
		t.Errorf("inspect --plan: %+v", got)
	}
	if got := invoke(t, "convert", filepath.Join(dir, "none"), filepath.Join(dir, "x")); got.code != int(exitcode.NoInput) {
		t.Errorf("convert of nothing: %+v", got)
	}
	if got := invoke(t, "version", "--json"); got.document(t)["isa"] == "" {
		t.Errorf("version: %+v", got)
	}
}

// TestTerminationLog: Kubernetes shows what is in the file, if there is one.
func TestTerminationLog(t *testing.T) {
	defer func(old string) { terminationLog = old }(terminationLog)
	terminationLog = filepath.Join(t.TempDir(), "termination-log")
	invoke(t, "nosuch")
	if _, err := os.Stat(terminationLog); !os.IsNotExist(err) {
		t.Error("the file was made; it must exist before")
	}
	write(t, terminationLog, "")
	got := invoke(t, "nosuch")
	if b, _ := os.ReadFile(terminationLog); string(b) != got.stderr || len(b) == 0 {
		t.Errorf("termination log %q, stderr %q", b, got.stderr)
	}
}

type brokenWriter struct{ err error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.err }

// TestBrokenOutput: a reader that went away changes nothing; a full disk under standard output is an error.
func TestBrokenOutput(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
	}{{&os.PathError{Op: "write", Path: "stdout", Err: syscall.EPIPE}, 0}, {&os.PathError{Op: "write", Path: "stdout", Err: syscall.ENOSPC}, int(exitcode.IO)}} {
		for _, args := range [][]string{{"ldm-batch", "version"}, {"ldm-batch", "version", "--json"}} {
			var errs bytes.Buffer
			if code := run(args, brokenWriter{c.err}, &errs); code != c.code || (errs.Len() > 0) != (c.code != 0) {
				t.Errorf("%v with %v: code %d, stderr %q, want code %d", args, c.err, code, errs.String(), c.code)
			}
		}
	}
	if code := run([]string{"ldm-batch", "nosuch"}, brokenWriter{errors.New("x")}, brokenWriter{errors.New("x")}); code != 64 {
		t.Errorf("code %d with nobody to tell, want 64", code)
	}
}

// TestResultFileFails: a result that cannot be written is a failure, and the other result says so.
func TestResultFileFails(t *testing.T) {
	got := invoke(t, "version", "--json", "--result-file", filepath.Join(t.TempDir(), "no", "such", "folder.json"))
	if got.code != int(exitcode.IO) || !strings.Contains(got.stderr, "result file") || got.document(t)["exit_code"] != 74.0 {
		t.Errorf("%+v", got)
	}
}

// TestEnvironment: output flags of the environment count even when the command line cannot be parsed.
func TestEnvironment(t *testing.T) {
	result := filepath.Join(t.TempDir(), "r.json")
	t.Setenv("LDM_BATCH_JSON", "1")
	t.Setenv("LDM_BATCH_RESULT_FILE", result)
	for _, args := range [][]string{{"run", "--bogus"}, {"nosuch"}, {"run", "--timeout", "5", "x"}} {
		got := invoke(t, args...)
		if b, err := os.ReadFile(result); err != nil || string(b) != got.stdout || got.document(t)["exit_code"] != 64.0 {
			t.Errorf("%v: result file %q (%v), %+v", args, b, err, got)
		}
	}
	t.Setenv("LDM_BATCH_TIMEOUT", "5")
	if got := invoke(t, "run", "x"); got.code != 64 || !strings.Contains(got.stderr, "LDM_BATCH_TIMEOUT") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("bad duration in the environment: %+v", got)
	}
}

// TestJSONLogs: with JSON logs the failure is a record as well.
func TestJSONLogs(t *testing.T) {
	got := invoke(t, "status", "--log-format", "json", filepath.Join(t.TempDir(), "none"))
	var record map[string]any
	if err := json.Unmarshal([]byte(got.stderr), &record); err != nil || record["level"] != "ERROR" || record["code"] != 66.0 || record["err"] == "" {
		t.Errorf("%v: %+v", err, got)
	}
}
