// Command demo writes what the demonstration runs on: a small class-conditional latent diffusion model and a small dataset.
//
// Concept: nothing is downloaded. The model has the structure and the file layout of a released class-conditional model with
// few channels; its weights follow from their names by a formula, so it is untrained, and what it generates is noise. The
// pictures are drawn here, one kind of shape for each class. The same files come out every time, byte for byte.
//
// Data flow: model.yaml -> names and shapes of its state dict -> DIR/model/{model.yaml, model.safetensors}; drawings ->
// Parquet files in the layout of Hugging Face image datasets, DIR/dataset.
package main

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

//go:embed model.yaml
var modelConfig []byte

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo DIR")
		os.Exit(64)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	if err := writeModel(filepath.Join(dir, "model")); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if err := writeDataset(filepath.Join(dir, "dataset")); err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	return nil
}

// writeModel writes the configuration and the weights.
func writeModel(dir string) error {
	c, err := nn.ParseConfig("model.yaml", modelConfig)
	if err != nil {
		return err
	}
	var params []weights.Param // without schedule tables, which follow from the configuration
	for _, p := range nn.New(c).Params() {
		params = append(params, weights.Param(p))
	}
	model, err := formula.Source{}.File(params)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	w := atomicfile.Writer{TempDir: dir}
	if err := w.Replace(filepath.Join(dir, "model.yaml"), atomicfile.Bytes(modelConfig), nil); err != nil {
		return err
	}
	return w.Replace(filepath.Join(dir, "model.safetensors"), func(out io.Writer) error {
		return weights.Convert(model, out, weights.ConvertOptions{})
	}, nil)
}
