package training

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/browser"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestPage looks at what a short training of each stage leaves for people.
func TestPage(t *testing.T) {
	settings := []string{"steps: 4", "checkpoint_every: 2", "validation: pictures", "validate_every: 2", "validation_rows: 4", "samples: 3"}
	for _, c := range []struct {
		stage, model string
		more         []string
		sheets       int
		want         []string
	}{
		{"diffusion", classes("use_ema: true"), []string{"drop: 0.2"}, 2, []string{"loss_simple", "val/loss_simple_ema", "Samples for the classes", "grad_norm"}},
		{"classifier", twoClasses("cat, dog"), nil, 0, []string{"val/accuracy"}},
	} {
		t.Run(c.stage, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			pictures(t, filepath.Join(dir, "pictures"), 8)
			path := job(t, dir, c.model, append(settings[:len(settings):len(settings)], c.more...)...)
			text := strings.Replace(string(read(t, path)), "stage: diffusion", "stage: "+c.stage, 1)
			text = strings.Replace(text, "kind: Train\n", "kind: Train\nmetadata: {name: \"a <b>bold</b> name\"}\n", 1)
			if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
			if _, err := runFile(context.Background(), path, jobs.RunOptions{}); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "out", pageName)
			html := string(read(t, file))
			for _, want := range append(c.want, "finished at step 4 of 4", "<svg", "checkpoints/step-00000004.safetensors", "a &lt;b&gt;bold&lt;/b&gt; name") {
				if !strings.Contains(html, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
			if n := strings.Count(html, "data:image/png;base64,"); n != c.sheets {
				t.Errorf("%d sheets of pictures, want %d", n, c.sheets)
			}
			if strings.Contains(html, "<b>bold") || strings.Contains(html, "http") {
				t.Error("a name is not escaped, or the page needs the network")
			}
			if c.sheets > 0 {
				browser.Look(t, file)
			}
		})
	}
}

// sheetRows is how many rows of pictures of so many pixels the sheet of a step has.
func sheetRows(t *testing.T, dir string, step, size int) int {
	t.Helper()
	c, err := png.DecodeConfig(bytes.NewReader(read(t, filepath.Join(dir, "out", samplesName, fmt.Sprintf("step-%08d.png", step)))))
	if err != nil {
		t.Fatal(err)
	}
	return (c.Height + 2) / (size + 2)
}
