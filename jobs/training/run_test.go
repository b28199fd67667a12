package training

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	diffusion "github.com/ldm-batch/ldm-batch/sample/training"
)

// set makes settings of keys and values.
func set(pairs ...string) []spec.Setting {
	var list []spec.Setting
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, spec.Setting{Key: pairs[i], Value: pairs[i+1], Origin: "--set"})
	}
	return list
}

func fixture(t testing.TB, model string, train ...string) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	pictures(t, filepath.Join(dir, "pictures"), 7)
	return dir, job(t, dir, model, train...)
}

// TestRun trains, finds nothing to do, refuses another job's folder, and begins again when it is told to.
func TestRun(t *testing.T) {
	t.Parallel()
	dir, path := fixture(t, classes("use_ema: true", "scale_by_std: true"), "steps: 5", "checkpoint_every: 2", "validation: pictures", "validate_every: 2")
	res, err := runFile(context.Background(), path, jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if res.State != "finished" || res.Step != 5 || res.StepsDone != 5 || res.Losses["loss"] == 0 || res.Validation["val/loss_simple_ema"] == 0 || !strings.Contains(res.Text(), "step 5 of 5") {
		t.Errorf("%+v", res)
	}
	if p, ok := ReadProgress(filepath.Join(dir, "out")); !ok || p.State != "finished" || p.Step != 5 {
		t.Errorf("progress %+v", p)
	}
	if s, err := ReadStatus(filepath.Join(dir, "out")); err != nil || !IsTraining(s.Dir) || s.State != "finished" || len(s.Checkpoints) != 2 && len(s.Checkpoints) != 1 ||
		!strings.Contains(s.Text(), "finished, step 5 of 5, loss ") {
		t.Errorf("status %+v, %v", s, err)
	}
	model := filepath.Join(dir, "out", modelName)
	f, err := weights.Open(model, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := nn.Load(filepath.Join(dir, "out", configName), f, nn.Options{Weights: weights.EMA})
	if err != nil {
		t.Fatal(err)
	}
	if m.ScaleFactor == 1 || m.ScaleFactor <= 0 {
		t.Errorf("scale factor %v was not measured", m.ScaleFactor)
	}
	if lines := strings.Count(string(read(t, filepath.Join(dir, "out", logName))), "\n"); lines != 5+3 {
		t.Errorf("%d lines in the log", lines)
	}
	first := read(t, model)
	if v, err := Verify(filepath.Join(dir, "out")); err != nil || v.Files < 3 {
		t.Errorf("verification %+v, %v", v, err)
	}

	if res, err = runFile(context.Background(), path, jobs.RunOptions{}); err != nil || res.State != "nothing" {
		t.Errorf("again: %s, %v", res.State, err)
	}
	_, err = runFile(context.Background(), path, jobs.RunOptions{}, set("train.learning_rate", "2e-3")...)
	if exitcode.Of(err) != exitcode.Conflict {
		t.Errorf("another learning rate in the same folder: %v", err)
	}
	if res, err = runFile(context.Background(), path, jobs.RunOptions{Overwrite: true}); err != nil || res.StepsDone != 5 {
		t.Errorf("overwrite: %d steps, %v", res.StepsDone, err)
	}
	if !bytes.Equal(first, read(t, model)) {
		t.Error("the same run gives other bytes")
	}
	if res, err = runFile(context.Background(), path, jobs.RunOptions{Overwrite: true}, set("train.learning_rate", "2e-3")...); err != nil || res.StepsDone != 5 {
		t.Errorf("overwrite by another job: %d steps, %v", res.StepsDone, err)
	}
	if bytes.Equal(first, read(t, model)) {
		t.Error("another learning rate gives the same bytes")
	}
}

// TestDrain stops a run as SIGTERM does: it ends with a checkpoint and the class of the signal, and goes on to the same bytes.
func TestDrain(t *testing.T) {
	settings := []string{"steps: 8", "checkpoint_every: 100"}
	whole, path := fixture(t, unconditional(), settings...)
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	dir, path := fixture(t, unconditional(), settings...)
	stopAfter(t, path, 3)
	if res, err := runFile(context.Background(), path, jobs.RunOptions{}); err != nil || res.StepsDone != 5 {
		t.Errorf("%d more steps, %v", res.StepsDone, err)
	}
	for _, name := range []string{modelName, logName, "checkpoints/step-00000008.state.safetensors"} {
		if !bytes.Equal(read(t, filepath.Join(whole, "out", name)), read(t, filepath.Join(dir, "out", name))) {
			t.Errorf("%s differs from that of a run that was not stopped", name)
		}
	}
}

// TestStatus asks for the state of a run from outside while it works: step, rate and the time that is left are there.
func TestStatus(t *testing.T) {
	dir, path := fixture(t, unconditional(), "steps: 6")
	r, err := spec.LoadFile(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Prepare(context.Background(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var seen *Status
	p.learner = &watched{p.learner, func() {
		if seen, err = ReadStatus(filepath.Join(dir, "out")); err != nil {
			t.Error(err)
		}
	}}
	if _, err := p.Run(context.Background(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	if g := seen.Training; g.State != "running" || g.Step != 1 || g.Steps != 6 || g.StepsPerSecond <= 0 || g.ETASeconds <= 0 || len(seen.Holders) != 1 {
		t.Errorf("%+v, holders %v", g, seen.Holders)
	}
	for _, want := range []string{"running, step 1 of 6, ", " steps/s, ETA ", ", loss ", "in use by "} {
		if !strings.Contains(seen.Text(), want) {
			t.Errorf("the text does not say %q:\n%s", want, seen.Text())
		}
	}
}

// watched calls look before every step.
type watched struct {
	learner
	look func()
}

func (w *watched) step(rate float64) ([]term, error) {
	w.look()
	return w.learner.step(rate)
}

// TestWorkers divides the batches of steps among workers and threads, which may change when a run goes on: the bytes are the same.
func TestWorkers(t *testing.T) {
	t.Parallel()
	settings := []string{"steps: 4", "accumulate: 4", "clip: 0.5", "drop: 0.2", "shuffle: 4", "checkpoint_every: 100", "validation: pictures", "validate_every: 4", "validation_rows: 4"}
	model := classes("use_ema: true", "scale_by_std: true")
	whole, path := fixture(t, model, settings...)
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, workers := range [][2]string{{"2", "3"}, {"3", "1"}, {"4", "2"}} {
		dir, path := fixture(t, model, settings...)
		stopAfter(t, path, 2, set("train.workers", workers[0], "compute.threads", "1")...)
		if _, err := runFile(context.Background(), path, jobs.RunOptions{}, set("train.workers", workers[1], "compute.threads", "3")...); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{modelName, logName, "checkpoints/step-00000004.state.safetensors"} {
			if !bytes.Equal(read(t, filepath.Join(whole, "out", name)), read(t, filepath.Join(dir, "out", name))) {
				t.Errorf("%s workers: %s differs from that of one worker", workers, name)
			}
		}
	}
	_, path = fixture(t, model, "steps: 1", "accumulate: 2", "workers: 2")
	r, err := spec.LoadFile(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Prepare(context.Background(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	one, err := p.learner.(*diffusionLearner).trainer.Memory(diffusion.Size{N: 3, H: 8, W: 8})
	if d := p.Describe(); err != nil || d.Workers != 2 || d.StepBytes != one || d.MemoryBytes != 4*(5+2)*int64(d.Trained) {
		t.Errorf("%+v; a step takes %d (%v)", d, one, err)
	}
}

// TestDiverges trains with an absurd learning rate: the message names the step, the parameter and the last good checkpoint, which
// is sound.
func TestDiverges(t *testing.T) {
	dir, path := fixture(t, unconditional(), "steps: 50", "checkpoint_every: 1", "schedule: constant")
	res, err := runFile(context.Background(), path, jobs.RunOptions{}, set("train.learning_rate", "1e30")...)
	if exitcode.Of(err) != exitcode.Internal {
		t.Fatalf("%+v, %v", res, err)
	}
	_, first := fixture(t, kl, "steps: 50", "checkpoint_every: 1", "schedule: constant")
	bad, err2 := runFile(context.Background(), first, jobs.RunOptions{}, firstStageSettings("train.learning_rate", "1e30")...)
	if exitcode.Of(err2) != exitcode.Internal || !strings.Contains(err2.Error(), "parameter ") || !strings.Contains(err2.Error(), "not finite") || bad.State != "failed" {
		t.Errorf("a first stage: %v", err2)
	}
	for _, want := range []string{"step ", "model.diffusion_model.", "not finite", "the last good checkpoint is " + filepath.Join(dir, "out", checkpointsName, "step-")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	f, err := weights.Open(res.Checkpoint, weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, x := range f.Tensors() {
		v := make([]float32, x.NumElements())
		if err := x.Float32(v); err != nil {
			t.Fatal(err)
		}
		for _, y := range v {
			if y-y != 0 {
				t.Fatalf("%s of the last good checkpoint is not finite", x.Name)
			}
		}
	}
}

// TestBadRows passes over pictures that cannot be read, up to the budget.
func TestBadRows(t *testing.T) {
	dir, path := fixture(t, unconditional(), "steps: 5")
	if err := os.WriteFile(filepath.Join(dir, "pictures", "cat", "bad.png"), []byte("\x89PNG\r\n\x1a\nnothing"), 0o666); err != nil {
		t.Fatal(err)
	}
	if res, err := runFile(context.Background(), path, jobs.RunOptions{}, set("limits.max_bad_rows", "1")...); err != nil || res.Step != 5 {
		t.Errorf("step %d, %v", res.Step, err)
	}
	_, err := runFile(context.Background(), path, jobs.RunOptions{}, set("limits.max_bad_rows", "0", "output.path", filepath.Join(dir, "strict"))...)
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "bad.png") {
		t.Errorf("without a budget: %v", err)
	}
}

// TestLatents trains on what a job of kind Encode wrote. With an identity as the first stage these are the pictures, so that the
// weights are those of a training on pictures, whatever factor the latents were stored with.
func TestLatents(t *testing.T) {
	t.Parallel()
	dir, path := fixture(t, classes("scale_factor: 0.5"), "steps: 3", "validation: pictures", "validate_every: 3")
	plain := set("preprocess.crop", "center", "preprocess.flip", "false")
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}, plain...); err != nil {
		t.Fatal(err)
	}
	for _, scale := range []bool{true, false} {
		out := filepath.Join(dir, "latents-"+strconv.FormatBool(scale))
		encodePictures(t, dir, out, scale)
		run := filepath.Join(dir, "run-"+strconv.FormatBool(scale))
		_, err := runFile(context.Background(), path, jobs.RunOptions{}, set("input.path", out, "train.validation", out, "train.latent", "latent", "preprocess.size", "0", "output.path", run)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{modelName, logName} {
			if !bytes.Equal(read(t, filepath.Join(dir, "out", name)), read(t, filepath.Join(run, name))) {
				t.Errorf("scaled %t: %s differs", scale, name)
			}
		}
	}
}

// encodePictures runs a job of kind Encode on the pictures with the identity.
func encodePictures(t *testing.T, dir, out string, scale bool) {
	t.Helper()
	encodeInput(t, dir, out, identity(t, dir), "model.yaml", "{path: pictures}", scale)
}

// identity writes the model file of an identity, which has no weights.
func identity(t *testing.T, dir string) string {
	t.Helper()
	var none bytes.Buffer
	if err := train.WriteModel(&none, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "identity.safetensors")
	if err := os.WriteFile(path, none.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// encodeInput runs a job of kind Encode.
func encodeInput(t *testing.T, dir, out, model, config, input string, scale bool) {
	t.Helper()
	text := "kind: Encode\nspec:\n  model: {checkpoint: " + model + ", config: " + config + "}\n  input: " + input + "\n  preprocess: {size: 8}\n  encode: {scale: " +
		strconv.FormatBool(scale) + "}\n  output: {path: " + out + ", rows_per_part: 3}\n"
	r, err := spec.Load("encode.yaml", []byte(text), dir, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := jobs.Prepare(context.Background(), r, jobs.PrepareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Run(context.Background(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedCheckpoint refuses to go on from a checkpoint whose bytes have changed.
func TestDamagedCheckpoint(t *testing.T) {
	dir, path := fixture(t, unconditional(), "steps: 4", "checkpoint_every: 2")
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}, set("train.resume", "never")...); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"_SUCCESS", "_manifest.json"} {
		if err := os.Remove(filepath.Join(dir, "out", name)); err != nil {
			t.Fatal(err)
		}
	}
	state := filepath.Join(dir, "out", checkpointsName, "step-00000004.state.safetensors")
	b := read(t, state)
	b[len(b)-1] ^= 1
	if err := os.WriteFile(state, b, 0o666); err != nil {
		t.Fatal(err)
	}
	if v, err := Verify(filepath.Join(dir, "out")); exitcode.Of(err) != exitcode.Data || v == nil || len(v.Problems) != 1 || !strings.Contains(err.Error(), "step-00000004.state") {
		t.Errorf("verification %+v, %v", v, err)
	}
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("error %v", err)
	}
	if res, err := runFile(context.Background(), path, jobs.RunOptions{}, set("train.resume", "never")...); err != nil || res.StepsDone != 4 {
		t.Errorf("beginning again: %d steps, %v", res.StepsDone, err)
	}
}

// TestDescribe tells what a job would do without touching its folder.
func TestDescribe(t *testing.T) {
	dir, path := fixture(t, classes(), "steps: 14", "accumulate: 2")
	r, err := spec.LoadFile(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Prepare(context.Background(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	d := p.Describe()
	if d.Rows != 7 || d.Epochs != 12 || d.Condition != "classes" || d.Trained < 1000 || d.MemoryBytes != 24*int64(d.Trained) || d.StepBytes < 1<<20 || d.Rate != 1e-3 {
		t.Errorf("%+v", d)
	}
	var b bytes.Buffer
	if err := d.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"spec.train.steps ", "14 ", "12 epochs", "M parameters", "MB within a step"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text does not say %q:\n%s", want, b.String())
		}
	}
	if s := d.Shards(); len(s) != 1 || s[0].Of != 1 {
		t.Errorf("shards %v", s)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); !os.IsNotExist(err) {
		t.Errorf("the output folder: %v", err)
	}
}

// TestPrepareRefuses lists jobs that cannot be run; every message names a key or a file.
func TestPrepareRefuses(t *testing.T) {
	_, path := fixture(t, classes(), "steps: 2")
	for want, settings := range map[string][]spec.Setting{
		"spec.model.config: missing":          set("model.config", ""),
		"has no scheduler_config":             set("train.schedule", "config"),
		"describes no autoencoder":            firstStageSettings(),
		"holds no Arrow file":                 set("train.latent", "latent", "preprocess.size", "0"),
		"spec.train.first_stage: open":        set("train.first_stage", "nowhere.safetensors"),
		"input: ":                             set("input.path", "nowhere"),
		"device gpu":                          set("compute.device", "gpu"),
		"validation: ":                        set("train.validation", "nowhere", "train.validate_every", "1"),
		"spec.limits.memory: less than 64MiB": set("limits.memory", "1MB"),
		"spec.train.steps: not at least 1":    set("train.steps", "0"),
		"unknown key spec.train.step":         set("train.step", "3"),
		"spec.compute.precision: training is": set("compute.precision", "mixed"),
		"spec.train.workers: more than":       set("train.workers", "2"),
	} {
		_, err := runFile(context.Background(), path, jobs.RunOptions{}, settings...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", settings, err, want)
		}
		if c := exitcode.Of(err); c != exitcode.Usage && c != exitcode.NoInput && c != exitcode.Unavailable && c != exitcode.Data {
			t.Errorf("%v: class %d", settings, c)
		}
	}
}
