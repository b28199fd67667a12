package models_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/models"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
)

// TestModels binds every model to its configuration, which leaves no weight out and none over.
func TestModels(t *testing.T) {
	for _, name := range models.Names() {
		t.Run(name, func(t *testing.T) {
			m, err := models.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			c, err := nn.ParseConfig(name, m.Config)
			if err != nil {
				t.Fatal(err)
			}
			tensors, err := m.Tensors()
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := safetensors.Write(&b, tensors, nil); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "model.safetensors")
			if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			f, err := weights.Open(path, weights.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := nn.Bind(c, f, nn.Options{}); err != nil {
				t.Error(err)
			}
			if !strings.Contains(string(m.Job), "kind: Train") {
				t.Error("the job that made it is missing")
			}
		})
	}
	if _, err := models.Open("nonsense"); err == nil || !strings.Contains(err.Error(), "superres") {
		t.Errorf("a name that no model has: %v", err)
	}
}

// TestSize keeps what every clone and every program carries small.
func TestSize(t *testing.T) {
	const most = 20 << 20
	var total int64
	if err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		total += info.Size()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if total > most {
		t.Errorf("%d bytes, more than %d", total, most)
	}
}
