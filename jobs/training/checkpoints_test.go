package training

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/atomicfile/faultfs"
)

// TestKept keeps the newest checkpoint and the best of those before it.
func TestKept(t *testing.T) {
	score := func(v float64) *float64 { return &v }
	for _, c := range []struct {
		keep int
		list []Checkpoint
		want string
	}{
		{0, []Checkpoint{{Step: 1, Score: score(1)}, {Step: 2}}, "[2]"},
		{1, []Checkpoint{{Step: 1, Score: score(1)}, {Step: 2}}, "[1 2]"},
		{1, []Checkpoint{{Step: 1, Score: score(1)}, {Step: 2, Score: score(0.5)}}, "[2]"},
		{1, []Checkpoint{{Step: 1, Score: score(1)}, {Step: 2, Score: score(1)}}, "[1 2]"},
		{2, []Checkpoint{{Step: 1, Score: score(3)}, {Step: 2, Score: score(1)}, {Step: 3, Score: score(2)}, {Step: 4}}, "[2 3 4]"},
		{2, []Checkpoint{{Step: 1, Score: score(3)}, {Step: 2, Score: score(1)}, {Step: 3}, {Step: 4, Score: score(2)}}, "[2 4]"},
		{3, []Checkpoint{{Step: 1}, {Step: 2}, {Step: 3}}, "[3]"},
		{1, []Checkpoint{{Step: 5, Score: score(1)}, {Step: 5, Score: score(1)}}, "[5]"}, // written again after a kill
	} {
		s := &store{keep: c.keep}
		var got []int64
		for _, x := range s.kept(c.list) {
			got = append(got, x.Step)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("keep %d of %v: %v, want %s", c.keep, c.list, got, c.want)
		}
	}
}

// TestBetter compares a score with those of the checkpoints that are kept.
func TestBetter(t *testing.T) {
	score := func(v float64) *float64 { return &v }
	x := Index{Checkpoints: []Checkpoint{{Step: 1, Score: score(2)}, {Step: 2}, {Step: 3, Score: score(1)}}}
	for _, c := range []struct {
		score float64
		n     int
		want  bool
	}{{0.5, 0, false}, {0.5, 1, true}, {1, 1, false}, {1.5, 1, false}, {1.5, 2, true}, {2.5, 2, false}, {2.5, 3, true}} {
		if got := x.better(c.score, c.n); got != c.want {
			t.Errorf("%v is among the best %d: %t", c.score, c.n, got)
		}
	}
}

// TestLogCut opens a log behind a step: later lines and half ones go.
func TestLogCut(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n": "{\"step\":1}\n{\"step\":2}\n",
		"{\"step\":1}\n{\"step\":2,\"lo":             "{\"step\":1}\n",
		"{\"step\":2}\n{\"step\":2,\"val\":1}\n":     "{\"step\":2}\n{\"step\":2,\"val\":1}\n",
		"no json\n{\"step\":1}\n":                    "",
		"{\"step\":1}\n\x00\x00\x00\n{\"step\":2}\n": "{\"step\":1}\n",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, logName)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		l, err := openLog(dir, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.write(3, []term{{"loss", 0.5}}); err != nil {
			t.Fatal(err)
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		if got := string(read(t, path)); got != want+"{\"step\":3,\"loss\":0.5}\n" {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

// counted is a learner whose weights and moments are a number, for tests of files.
type counted struct {
	learner
	value float32
}

func (c *counted) list(name string) ([]*weights.Tensor, error) {
	x, err := tensor.FromFloat32(name, []int{3}, []float32{c.value, c.value, c.value})
	return []*weights.Tensor{x}, err
}

func (c *counted) tensors() ([]*weights.Tensor, error)   { return c.list("w") }
func (c *counted) optimiser() ([]*weights.Tensor, error) { return c.list("m") }

func (c *counted) restore(model, optimiser *weights.File, steps int64) error {
	var w, m [3]float32
	for name, dst := range map[string][]float32{"w": w[:], "m": m[:]} {
		f := model
		if name == "m" {
			f = optimiser
		}
		x, ok := f.Lookup(name)
		if !ok {
			return fmt.Errorf("no %s", name)
		}
		if err := x.Float32(dst); err != nil {
			return err
		}
	}
	if w != m || w[0] != float32(steps) {
		return fmt.Errorf("weights %v, moments %v at step %d", w, m, steps)
	}
	c.value = w[0]
	return nil
}

// TestStoreFaults lets every call of the file system fail, crash or lose power while checkpoints are written and published: what is
// found afterwards is a whole checkpoint, the last one or the one before, and the run can go on from it.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	write := func(fsys atomicfile.FS, dir string, steps ...int64) error {
		s, err := openStore(fsys, dir, filepath.Join(dir, "tmp"), "a job", 1, false)
		if err != nil {
			return err
		}
		for _, n := range steps {
			score := term{"val", 1 / float64(n)}
			if err := s.write(&counted{value: float32(n)}, train.State{Step: n}, &score); err != nil {
				return err
			}
		}
		return s.publish(dir)
	}
	for name, fault := range map[string]faultfs.Fault{"no space": faultfs.NoSpace, "quiet short write": faultfs.ShortQuiet, "crash after": faultfs.CrashAfter} {
		t.Run(name, func(t *testing.T) {
			for k := 1; ; k++ {
				dir, stash := t.TempDir(), t.TempDir()
				if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o777); err != nil {
					t.Fatal(err)
				}
				if err := write(atomicfile.OS, dir, 1); err != nil {
					t.Fatal(err)
				}
				fsys := faultfs.New(stash, k, fault)
				err := write(fsys, dir, 2)
				if !fsys.Fired() {
					if err != nil {
						t.Fatal(err)
					}
					if k < 25 {
						t.Errorf("only %d calls", k)
					}
					return
				}
				if err == nil && fault != faultfs.CrashAfter {
					t.Errorf("call %d, %s: no error", k, fsys.Calls()[k-1])
				}
				if err != nil && exitcode.Of(err) != exitcode.IO {
					t.Errorf("call %d, %s: class %d of %v", k, fsys.Calls()[k-1], exitcode.Of(err), err)
				}
				if err := fsys.PowerLoss(); err != nil {
					t.Fatal(err)
				}
				s, err := openStore(atomicfile.OS, dir, filepath.Join(dir, "tmp"), "a job", 1, false)
				if err != nil {
					t.Fatalf("call %d: %v", k, err)
				}
				at, ok, err := s.restore(&counted{})
				if err != nil || !ok || at.Step < 1 {
					t.Fatalf("call %d, %s: step %d, found %t, %v", k, fsys.Calls()[k-1], at.Step, ok, err)
				}
				if err := write(atomicfile.OS, dir, 3); err != nil {
					t.Fatalf("call %d: going on: %v", k, err)
				}
				if !bytes.Equal(read(t, filepath.Join(dir, modelName)), read(t, filepath.Join(dir, checkpointsName, "step-00000003.safetensors"))) {
					t.Errorf("call %d: the published model is not that of the last step", k)
				}
			}
		})
	}
}
