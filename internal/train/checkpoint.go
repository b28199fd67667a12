package train

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
)

// State is where a run stands, beside weights and moments.
type State struct {
	Step    int64 `json:"step"`    // steps that the optimiser has made
	Samples int64 `json:"samples"` // that were used; the number of the next one
	Epoch   int64 `json:"epoch"`   // of the next row
	Place   int64 `json:"place"`   // of the next row in its epoch
	Bad     int64 `json:"bad"`     // rows that were passed over
}

// stateKey is the entry of a file's metadata that holds the state.
const stateKey = "ldm-batch.state"

// Write writes tensors as safetensors, in their order. meta is kept beside them.
func Write(w io.Writer, list []*weights.Tensor, meta map[string]string) error {
	entries := make([]safetensors.Entry, len(list))
	for i, t := range list {
		entries[i] = safetensors.Entry{Name: t.Name, DType: t.DType, Shape: t.Shape, Data: t.Reader}
	}
	return safetensors.Write(w, entries, meta)
}

// WriteModel writes the model file of a checkpoint.
func WriteModel(w io.Writer, list []*weights.Tensor) error {
	return Write(w, list, map[string]string{"format": "pt"})
}

// WriteState writes the second file of a checkpoint: the state of the optimiser and of the run.
func WriteState(w io.Writer, list []*weights.Tensor, s State) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return Write(w, list, map[string]string{"format": "pt", stateKey: string(b)})
}

// ReadState reads the state of the run from the second file of a checkpoint.
func ReadState(f *weights.File) (State, error) {
	var s State
	text, ok := f.Metadata()[stateKey]
	if !ok {
		return s, exitcode.Errorf(exitcode.Data, "%s: holds no state of a training", f.Path())
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return s, exitcode.Errorf(exitcode.Data, "%s: state of the training: %w", f.Path(), err)
	}
	if s.Step < 0 || s.Samples < 0 || s.Epoch < 0 || s.Place < 0 || s.Bad < 0 {
		return s, exitcode.Errorf(exitcode.Data, "%s: state of the training: %s holds a negative number", f.Path(), text)
	}
	return s, nil
}
