package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/dataset"
)

func TestWrite(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := write(dir); err != nil {
			t.Fatal(err)
		}
	}

	f, err := weights.Open(filepath.Join(a, "model", "model.safetensors"), weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := nn.Load(filepath.Join(a, "model", "model.yaml"), f, nn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Conditioner.Config.NClasses; n != len(shapes)+1 {
		t.Errorf("model of %d classes, %d shapes", n, len(shapes))
	}

	ds, err := dataset.Open(context.Background(), dataset.Spec{Path: filepath.Join(a, "dataset")}, dataset.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if names := ds.Features().ClassNames; ds.NumRows() != int64(perClass*len(shapes)) || len(names) != len(shapes) {
		t.Errorf("%d rows, classes %v", ds.NumRows(), names)
	}

	for _, name := range []string{"model/model.safetensors", "dataset/train-00001-of-00002.parquet"} {
		x, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(b, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(x, y) {
			t.Errorf("%s differs from run to run", name)
		}
	}
}
