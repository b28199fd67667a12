package training

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestKilledTenTimes kills a run with SIGKILL ten times, at moments spread over it, and goes on each time: the folder ends with the
// bytes of a run that nothing happened to. Epochs end in the middle of the run, and steps take two batches.
func TestKilledTenTimes(t *testing.T) {
	settings := []string{"accumulate: 2", "checkpoint_every: 2", "shuffle: 6", "clip: 0.5", "schedule: cosine", "warmup: 4",
		"validation: pictures", "validation_rows: 4", "validate_every: 6", "keep_best: 2"}
	t.Run("diffusion", func(t *testing.T) {
		killedTenTimes(t, "diffusion", classes("use_ema: true"), 40, append(settings[:len(settings):len(settings)], "drop: 0.2", "offset_noise: 0.1", "min_snr: 5"))
	})
	t.Run("classifier", func(t *testing.T) { // whose steps are short
		killedTenTimes(t, "classifier", twoClasses("cat, dog"), 120, settings)
	})
}

func killedTenTimes(t *testing.T, stage, model string, steps int64, settings []string) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "pictures")
	pictures(t, data, 17)
	folder := func() (dir, path string) {
		dir = t.TempDir()
		if err := os.Symlink(data, filepath.Join(dir, "pictures")); err != nil {
			t.Skip(err)
		}
		path = job(t, dir, model, append(settings, fmt.Sprint("steps: ", steps))...)
		text := strings.Replace(string(read(t, path)), "stage: diffusion", "stage: "+stage, 1)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return dir, path
	}
	whole, path := folder()
	if _, err := runFile(context.Background(), path, jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	killed, path := folder()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 6))
	kills := 0
	for kills < 10 {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childJob+"="+path)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Die some time after the log has come a few lines further.
		goal := bytes.Count(logOf(killed), []byte("\n")) + r.IntN(3)
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		deadline := time.After(time.Minute)
		for alive := true; alive; {
			select {
			case err := <-done:
				t.Fatalf("the run ended after %d kills: %v\n%s", kills, err, errs.String())
			case <-deadline:
				t.Fatalf("no progress after %d kills\n%s", kills, errs.String())
			case <-time.After(time.Millisecond):
				if bytes.Count(logOf(killed), []byte("\n")) < goal {
					continue
				}
				time.Sleep(time.Duration(r.IntN(8000)) * time.Microsecond)
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				<-done
				kills++
				alive = false
			}
		}
	}
	res, err := runFile(context.Background(), path, jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if res.State != "finished" || res.Step != steps {
		t.Errorf("%s at step %d", res.State, res.Step)
	}
	var compared int
	for _, pattern := range []string{"*.*", "checkpoints/*"} {
		names, err := filepath.Glob(filepath.Join(whole, "out", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if base := filepath.Base(name); base[0] == '.' || filepath.Ext(base) == ".html" {
				continue // what tells of times
			}
			compared++
			if !bytes.Equal(read(t, name), read(t, strings.Replace(name, whole, killed, 1))) {
				t.Errorf("%s differs", strings.TrimPrefix(name, whole))
			}
		}
	}
	if compared < 6 {
		t.Errorf("only %d files were compared", compared)
	}
	for _, dir := range []string{whole, killed} {
		left, err := filepath.Glob(filepath.Join(dir, "out", "checkpoints", "*"))
		if err != nil || len(left) > 1+2*3 {
			t.Errorf("%d files are left of checkpoints: %q", len(left), left)
		}
	}
}

func logOf(dir string) []byte {
	b, _ := os.ReadFile(filepath.Join(dir, "out", logName))
	return b
}
