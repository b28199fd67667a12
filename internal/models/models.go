// Package models holds the models that come with the program: a first stage and three diffusion models on its latents, trained by
// this program on the pictures that it draws (package demodata), 64x64 pixels in ten classes.
//
// Concept: each folder is a model: weights.safetensors (float16), config.yaml as latent-diffusion has it, train.yaml, the job that
// made it, and log.jsonl, its log. The diffusion models are stored without the first stage, which is the same for all;
// [Model.Tensors] puts it back, so that what is written is like every other model file.
//
// Data flow: embedded files -> [Open] -> a [Model]. Package shapes64 below holds the network of scores.
//
// Ownership: the bytes are shared and must not be changed. Errors: names that no model has.
package models

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

//go:embed first-stage class superres inpaint
var files embed.FS

// FirstStage is the autoencoder: 3x64x64 to 4x16x16 (NCHW).
const FirstStage = "first-stage"

// Names are the models, the first stage first.
func Names() []string { return []string{FirstStage, "class", "superres", "inpaint"} }

// Model is one of them.
type Model struct {
	Name        string
	Config, Job []byte // config.yaml and train.yaml
	weights     []byte
}

// Open finds a model.
func Open(name string) (*Model, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("model %q is not one of %v", name, Names())
	}
	m := &Model{Name: name}
	for _, f := range []struct {
		dst  *[]byte
		name string
	}{{&m.Config, "config.yaml"}, {&m.Job, "train.yaml"}, {&m.weights, "weights.safetensors"}} {
		var err error
		if *f.dst, err = files.ReadFile(path.Join(name, f.name)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Tensors are all weights of the model, its first stage included, in the order of a safetensors file.
func (m *Model) Tensors() ([]safetensors.Entry, error) {
	entries, err := m.entries("")
	if err != nil || m.Name == FirstStage {
		return entries, err
	}
	first, err := Open(FirstStage)
	if err != nil {
		return nil, err
	}
	stage, err := first.entries(weights.FirstStagePrefix)
	if err != nil {
		return nil, err
	}
	entries = append(entries, stage...)
	slices.SortStableFunc(entries, func(a, b safetensors.Entry) int { return b.DType.Size() - a.DType.Size() }) // keeps every one aligned
	return entries, nil
}

func (m *Model) entries(prefix string) ([]safetensors.Entry, error) {
	list, _, err := safetensors.Read(tensor.Memory(m.weights), safetensors.Limits{})
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", m.Name, err)
	}
	entries := make([]safetensors.Entry, len(list))
	for i, t := range list {
		raw, err := t.Bytes()
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
		entries[i] = safetensors.Entry{Name: prefix + t.Name, DType: t.DType, Shape: t.Shape, Data: func() io.Reader { return bytes.NewReader(raw) }}
	}
	return entries, nil
}
