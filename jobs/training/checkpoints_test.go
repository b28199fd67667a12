package training

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
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
