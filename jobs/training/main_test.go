package training

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// childJob is the variable by which this binary runs a job file instead of tests, so that a test can kill it.
const childJob = "LDM_TEST_TRAINING_JOB"

func TestMain(m *testing.M) {
	path := os.Getenv(childJob)
	if path == "" {
		os.Exit(m.Run())
	}
	_, err := runFile(context.Background(), path, jobs.RunOptions{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(int(exitcode.Of(err)))
}

func runFile(ctx context.Context, path string, o jobs.RunOptions, settings ...spec.Setting) (*Result, error) {
	r, err := spec.LoadFile(path, nil, settings)
	if err != nil {
		return nil, err
	}
	p, err := Prepare(ctx, r, nil)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return p.Run(ctx, o)
}

// unconditional is a model small enough that a step takes milliseconds; more are lines of its parameters.
func unconditional(more ...string) string {
	return modelYAML("cond_stage_config: __is_unconditional__", "", 3, more...)
}

// classes is one that is conditioned on two classes and the null class.
func classes(more ...string) string {
	return modelYAML(`cond_stage_config: {target: ldm.modules.encoders.modules.ClassEmbedder, params: {n_classes: 3, embed_dim: 8, key: class_label}}
    cond_stage_key: class_label
    cond_stage_trainable: true
    conditioning_key: crossattn`, ", use_spatial_transformer: true, context_dim: 8", 3, more...)
}

func modelYAML(cond, unet string, in int, more ...string) string {
	return `model:
  base_learning_rate: 1.0e-4
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    timesteps: 100
    linear_start: 0.0015
    linear_end: 0.0195
    image_size: 8
    channels: 3
    ` + cond + `
    ` + strings.Join(more, "\n    ") + `
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params: {in_channels: ` + fmt.Sprint(in) + `, out_channels: 3, model_channels: 32, attention_resolutions: [1], num_res_blocks: 1, channel_mult: [1], num_heads: 1` + unet + `}
    first_stage_config: {target: ldm.models.autoencoder.IdentityFirstStage}
`
}

// pictures writes n pictures in two folders, which are their classes.
func pictures(t testing.TB, dir string, n int) {
	t.Helper()
	for i := range n {
		m := image.NewRGBA(image.Rect(0, 0, 12, 10))
		for y := range 10 {
			for x := range 12 {
				m.Set(x, y, color.RGBA{uint8(20 * x), uint8(25 * y), uint8(i * 255 / n), 255})
			}
		}
		path := filepath.Join(dir, []string{"cat", "dog"}[i%2], fmt.Sprintf("%03d.png", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := png.Encode(f, m); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// job writes a model and a job file to a folder and returns the job's path; lines are what its train section holds besides.
func job(t testing.TB, dir, model string, train ...string) string {
	t.Helper()
	path := filepath.Join(dir, "job.yaml")
	for name, text := range map[string]string{
		"model.yaml": model,
		"job.yaml": `kind: Train
spec:
  model: {config: model.yaml}
  input: {path: pictures}
  preprocess: {size: 8, crop: random, flip: true}
  train:
    stage: diffusion
    batch: 3
    learning_rate: 1.0e-3
    log_every: 1
    ` + strings.Join(train, "\n    ") + `
  output: {path: out}
  compute: {threads: 1}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stopAfter runs a job file as if SIGTERM came during a step.
func stopAfter(t *testing.T, path string, step int, settings ...spec.Setting) {
	t.Helper()
	r, err := spec.LoadFile(path, nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Prepare(context.Background(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithCancelCause(context.Background())
	p.learner = &stopping{learner: p.learner, left: step, stop: func() { cancel(exitcode.Errorf(exitcode.Terminated, "stopped by SIGTERM")) }}
	res, err := p.Run(ctx, jobs.RunOptions{})
	if want := fmt.Sprintf("step %d of ", step); exitcode.Of(err) != exitcode.Terminated || res.State != "stopped" || res.Step != int64(step) || !strings.Contains(err.Error(), want) {
		t.Fatalf("%s at step %d: %v", res.State, res.Step, err)
	}
}

// stopping calls stop after some steps.
type stopping struct {
	learner
	left int
	stop func()
}

func (s *stopping) step(rate float64) ([]term, error) {
	if s.left--; s.left == 0 {
		s.stop()
	}
	return s.learner.step(rate)
}

// resolved is the job of the fixture.
func resolved(t testing.TB) *spec.Resolved {
	t.Helper()
	_, path := fixture(t, unconditional(), "steps: 1")
	r, err := spec.LoadFile(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
