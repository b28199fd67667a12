package training

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/commit"
)

// Status is the state of the output folder of a training.
type Status struct {
	Schema      string          `json:"schema"` // ldm-batch/status/v1
	Dir         string          `json:"dir"`
	State       string          `json:"state"` // incomplete, finished
	Fingerprint string          `json:"fingerprint"`
	Training    Progress        `json:"training"`
	Checkpoints []Checkpoint    `json:"checkpoints"`
	Holders     []commit.Holder `json:"holders,omitempty"` // runs that may be alive
	Run         *commit.Run     `json:"run,omitempty"`
}

// IsTraining says whether a folder is the output of a training.
func IsTraining(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, checkpointsName, indexName))
	return err == nil
}

// ReadStatus describes the folder of a training without locking it.
func ReadStatus(dir string) (*Status, error) {
	f, err := commit.ReadStatus(dir)
	if err != nil {
		return nil, err
	}
	x, err := readIndex(atomicfile.OS, dir)
	if err != nil {
		return nil, err
	}
	s := &Status{"ldm-batch/status/v1", dir, "incomplete", f.Fingerprint, Progress{}, x.Checkpoints, f.Holders, f.Run}
	if f.State == commit.Finished {
		s.State = "finished"
	}
	var ok bool
	if s.Training, ok = ReadProgress(dir); !ok {
		c, _ := x.last()
		s.Training = Progress{Schema: progressSchema, State: s.State, Step: c.Step}
	}
	if s.Training.State == "running" && len(s.Holders) == 0 { // it died
		s.Training.State, s.Training.ETASeconds = "stopped", 0
		if c, ok := x.last(); ok {
			s.Training.Step = c.Step
		}
	}
	return s, nil
}

// Text is the status for people.
func (s *Status) Text() string {
	var b bytes.Buffer
	p := s.Training
	fmt.Fprintf(&b, "%s: %s, step %d of %d", s.Dir, p.State, p.Step, p.Steps)
	if p.State == "running" {
		fmt.Fprintf(&b, ", %.3g steps/s, ETA %s", p.StepsPerSecond, (time.Duration(p.ETASeconds) * time.Second).Round(time.Second))
	}
	if l, ok := p.Losses["loss"]; ok {
		fmt.Fprintf(&b, ", loss %.4g", l)
	} else if l, ok := p.Losses["total_loss"]; ok {
		fmt.Fprintf(&b, ", loss %.4g", l)
	}
	fmt.Fprintf(&b, "\nfingerprint %s\n", s.Fingerprint)
	for _, c := range s.Checkpoints {
		fmt.Fprintf(&b, "checkpoint of step %d: %s", c.Step, filepath.Join(checkpointsName, c.Model.Name))
		if c.Score != nil {
			fmt.Fprintf(&b, ", %s %.4g", c.Metric, *c.Score)
		}
		b.WriteByte('\n')
	}
	for _, h := range s.Holders {
		fmt.Fprintf(&b, "in use by %s\n", h)
	}
	return b.String()
}
