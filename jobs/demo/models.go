package demo

import (
	"io"
	"os"
	"path/filepath"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/models"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

// writeModels writes the models that come along, each into a folder of its name: model.safetensors, config.yaml, train.yaml.
func writeModels(dir string) error {
	for _, name := range models.Names() {
		m, err := models.Open(name)
		if err != nil {
			return err
		}
		tensors, err := m.Tensors()
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(to, 0o777); err != nil {
			return exitcode.With(exitcode.IO, err)
		}
		w := atomicfile.Writer{TempDir: to}
		for _, f := range []struct {
			name  string
			write func(io.Writer) error
		}{
			{"config.yaml", atomicfile.Bytes(m.Config)},
			{"train.yaml", atomicfile.Bytes(m.Job)},
			{"model.safetensors", func(out io.Writer) error { return safetensors.Write(out, tensors, map[string]string{"format": "pt"}) }},
		} {
			if err := w.Replace(filepath.Join(to, f.name), f.write, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
