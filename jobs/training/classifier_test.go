package training

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn/classifier"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// twoClasses is the model of the fixture's folders; names are its classes.
func twoClasses(names string) string {
	return fmt.Sprintf("model:\n  target: ldm_batch.Classifier\n  params: {classes: [%s], size: 8, channels: [8, 16]}\n", names)
}

// TestClassifier trains the network of classes: a run that is stopped goes on to the same bytes, and the model file is one that binds.
func TestClassifier(t *testing.T) {
	t.Parallel()
	lines := []string{"steps: 6", "checkpoint_every: 2", "accumulate: 2", "clip: 1", "schedule: cosine", "validation: pictures", "validate_every: 3"}
	stage := set("train.stage", "classifier")
	whole, path := fixture(t, twoClasses("cat, dog"), lines...)
	res, err := runFile(context.Background(), path, jobs.RunOptions{}, stage...)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := res.Losses["accuracy"]; !ok || res.Losses["loss"] == 0 || res.Validation["val/loss"] == 0 || res.Validation["val/accuracy"] == 0 {
		t.Errorf("losses %v, validation %v", res.Losses, res.Validation)
	}
	dir, path := fixture(t, twoClasses("cat, dog"), lines...)
	stopAfter(t, path, 3, stage...)
	if res, err = runFile(context.Background(), path, jobs.RunOptions{}, stage...); err != nil || res.StepsDone != 3 {
		t.Errorf("%d more steps, %v", res.StepsDone, err)
	}
	for _, name := range []string{modelName, logName, configName, "checkpoints/step-00000006.state.safetensors"} {
		if !bytes.Equal(read(t, filepath.Join(whole, "out", name)), read(t, filepath.Join(dir, "out", name))) {
			t.Errorf("%s differs from that of a run that was not stopped", name)
		}
	}
	c, err := classifier.LoadConfig(filepath.Join(whole, "out", configName))
	if err != nil {
		t.Fatal(err)
	}
	f, err := weights.Open(filepath.Join(whole, "out", modelName), weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := classifier.Bind(c, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	// Trained further, from the weights of a file.
	more := append(stage, set("model.checkpoint", filepath.Join(whole, "out", modelName), "output.path", filepath.Join(dir, "more"), "train.steps", "1")...)
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}, more...); err != nil {
		t.Error(err)
	}
}

// TestClassifierRefused gives jobs whose model does not fit their rows.
func TestClassifierRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		model string
		set   []spec.Setting
		class exitcode.Code
		want  string
	}{
		{twoClasses("dog, cat"), nil, exitcode.Data, `classes are ["cat" "dog"], those of the model ["dog" "cat"]`},
		{twoClasses("cat, dog"), set("preprocess.size", "16"), exitcode.Usage, "spec.preprocess.size: 16 is not 8"},
		{unconditional(), nil, exitcode.Data, "is not ldm_batch.Classifier"},
	} {
		dir, path := fixture(t, c.model, "steps: 1")
		_, err := runFile(context.Background(), path, jobs.RunOptions{}, append(set("train.stage", "classifier"), c.set...)...)
		if exitcode.Of(err) != c.class || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
			t.Errorf("%s: an output folder was made", c.want)
		}
	}
}
