package training

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// Progress is how a run gets on, for whoever asks from outside. It is written now and then and may be a little old.
type Progress struct {
	Schema         string             `json:"schema"` // ldm-batch/training/v1
	State          string             `json:"state"`  // running, stopped, finished
	Step           int64              `json:"step"`
	Steps          int64              `json:"steps"`
	StepsPerSecond float64            `json:"steps_per_second"`
	ETASeconds     float64            `json:"eta_seconds"`
	Losses         map[string]float64 `json:"losses,omitempty"`
	Updated        time.Time          `json:"updated"`
}

const progressSchema = "ldm-batch/training/v1"

// ReadProgress reads how the run of an output folder gets on; ok is false for a folder without one.
func ReadProgress(dir string) (p Progress, ok bool) {
	b, err := os.ReadFile(filepath.Join(dir, ".ldm-batch", progressName))
	if err != nil || json.Unmarshal(b, &p) != nil || p.Schema != progressSchema {
		return Progress{}, false
	}
	return p, true
}

// progress writes the file. It informs; that it cannot be written stops no run.
type progress struct {
	path    string
	steps   int64
	first   int64 // step that the run began with
	started time.Time
	last    time.Time
}

// progressEvery is how old the file may be.
const progressEvery = 2 * time.Second

func (p *progress) due(step int64, losses map[string]float64) {
	if time.Since(p.last) >= progressEvery {
		p.write(step, losses, "running")
	}
}

// rate is steps a second since the run began.
func (p *progress) rate(step int64) float64 {
	return float64(step-p.first) / max(time.Since(p.started).Seconds(), 1e-9)
}

func (p *progress) write(step int64, losses map[string]float64, state string) {
	p.last = time.Now()
	x := Progress{progressSchema, state, step, p.steps, p.rate(step), 0, losses, p.last.UTC().Truncate(time.Second)}
	if x.StepsPerSecond > 0 {
		x.ETASeconds = float64(p.steps-step) / x.StepsPerSecond
	}
	b, err := json.Marshal(x)
	if err != nil {
		return
	}
	tmp := p.path + ".tmp"
	if os.WriteFile(tmp, append(b, '\n'), 0o666) == nil {
		_ = os.Rename(tmp, p.path)
	}
}
