package training

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

// Files of a training below its output folder.
const (
	checkpointsName = "checkpoints"
	indexName       = "index.json"
	logName         = "log.jsonl"
	modelName       = "model.safetensors"
	configName      = "config.yaml"
	progressName    = "training.json" // in the control folder
)

const indexSchema = "ldm-batch/checkpoints/v1"

// Checkpoint is one that the index names. Files are relative to the folder of checkpoints.
type Checkpoint struct {
	Step   int64    `json:"step"`
	Model  File     `json:"model"`
	State  File     `json:"state"`
	Score  *float64 `json:"score,omitempty"` // the validation loss that checkpoints are compared by
	Metric string   `json:"metric,omitempty"`
}

// File is one file of a checkpoint.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Index names the checkpoints of a folder; the last one is what a run goes on from.
type Index struct {
	Schema      string       `json:"schema"`
	Fingerprint string       `json:"fingerprint"`
	Finished    bool         `json:"finished"`
	Checkpoints []Checkpoint `json:"checkpoints"` // by step
}

// last is the newest checkpoint.
func (x *Index) last() (Checkpoint, bool) {
	if len(x.Checkpoints) == 0 {
		return Checkpoint{}, false
	}
	return x.Checkpoints[len(x.Checkpoints)-1], true
}

// better says whether a score is among the n lowest.
func (x *Index) better(score float64, n int) bool {
	for _, c := range x.Checkpoints {
		if c.Score != nil && *c.Score <= score {
			n--
		}
	}
	return n > 0
}

// store writes and reads the checkpoints of a folder.
type store struct {
	dir   string // DIR/checkpoints
	fs    atomicfile.FS
	files atomicfile.Writer
	keep  int // best ones beside the last
	index Index
}

// openStore reads the index, if there is one of this job, and removes what it does not name.
func openStore(fsys atomicfile.FS, dir, tmp, fingerprint string, keep int, again bool) (*store, error) {
	s := &store{dir: filepath.Join(dir, checkpointsName), fs: fsys, files: atomicfile.Writer{FS: fsys, TempDir: tmp, Prefix: "r."}, keep: keep}
	if err := fsys.Mkdir(s.dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, exitcode.With(exitcode.IO, err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return nil, exitcode.With(exitcode.IO, err)
	}
	x, err := readIndex(fsys, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if x == nil || x.Fingerprint != fingerprint || again {
		x = &Index{Schema: indexSchema, Fingerprint: fingerprint, Checkpoints: []Checkpoint{}}
		if err := s.replace(x); err != nil {
			return nil, err
		}
	}
	s.index = *x
	return s, s.sweep()
}

func readIndex(fsys atomicfile.FS, dir string) (*Index, error) {
	path := filepath.Join(dir, checkpointsName, indexName)
	b, err := fsys.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, exitcode.With(exitcode.IO, err)
	}
	var x Index
	if err := json.Unmarshal(b, &x); err != nil {
		return nil, exitcode.Errorf(exitcode.Data, "%s: %w", path, err)
	}
	if x.Schema != indexSchema {
		return nil, exitcode.Errorf(exitcode.Data, "%s: schema %q, want %q", path, x.Schema, indexSchema)
	}
	return &x, nil
}

// replace writes the index: what it names counts from here on.
func (s *store) replace(x *Index) error {
	b, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return err
	}
	if err := s.files.Replace(filepath.Join(s.dir, indexName), atomicfile.Bytes(append(b, '\n')), nil); err != nil {
		return exitcode.With(exitcode.IO, err)
	}
	s.index = *x
	return nil
}

// sweep removes files that the index does not name: those of a checkpoint whose run died, and dropped ones.
func (s *store) sweep() error {
	known := map[string]bool{indexName: true}
	for _, c := range s.index.Checkpoints {
		known[c.Model.Name], known[c.State.Name] = true, true
	}
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return exitcode.With(exitcode.IO, err)
	}
	for _, e := range entries {
		if name := e.Name(); !known[name] && strings.HasPrefix(name, "step-") {
			if err := s.fs.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return exitcode.With(exitcode.IO, err)
			}
		}
	}
	return nil
}

// write makes a checkpoint the last one. Of the others only the best ones stay.
func (s *store) write(l learner, state train.State, score *term) error {
	list, err := l.tensors()
	if err != nil {
		return err
	}
	moments, err := l.optimiser()
	if err != nil {
		return err
	}
	base := fmt.Sprintf("step-%08d", state.Step)
	c := Checkpoint{Step: state.Step}
	if score != nil {
		c.Score, c.Metric = &score.value, score.name
	}
	if c.Model, err = s.file(base+".safetensors", func(w io.Writer) error { return train.WriteModel(w, list) }); err != nil {
		return err
	}
	if c.State, err = s.file(base+".state.safetensors", func(w io.Writer) error { return train.WriteState(w, moments, state) }); err != nil {
		return err
	}
	x := s.index
	x.Checkpoints = s.kept(append(slices.Clone(x.Checkpoints), c))
	if err := s.replace(&x); err != nil {
		return err
	}
	return s.sweep()
}

// kept are the newest checkpoint and the best of the others, by step. One that was written again replaces its older self.
func (s *store) kept(list []Checkpoint) []Checkpoint {
	last := list[len(list)-1]
	var scored []Checkpoint
	for _, c := range list[:len(list)-1] {
		if c.Score != nil && c.Step < last.Step {
			scored = append(scored, c)
		}
	}
	slices.SortStableFunc(scored, func(a, b Checkpoint) int {
		switch {
		case *a.Score < *b.Score:
			return -1
		case *a.Score > *b.Score:
			return 1
		}
		return 0
	})
	keep := s.keep
	if last.Score != nil { // the newest may be one of the best
		better := 0
		for _, c := range scored {
			if *c.Score <= *last.Score {
				better++
			}
		}
		if better < keep {
			keep--
		}
	}
	out := append(scored[:min(max(keep, 0), len(scored))], last)
	slices.SortFunc(out, func(a, b Checkpoint) int { return int(a.Step - b.Step) })
	return out
}

// file writes one file of a checkpoint, read back before it gets its name.
func (s *store) file(name string, write func(io.Writer) error) (File, error) {
	sum := sha256.New()
	n := &counter{}
	err := s.files.Replace(filepath.Join(s.dir, name), func(w io.Writer) error { return write(io.MultiWriter(w, sum, n)) }, func(tmp string) error {
		got, size, err := weights.SHA256(tmp)
		if err == nil && (size != n.n || got != hex.EncodeToString(sum.Sum(nil))) {
			err = fmt.Errorf("%d bytes were written, and %d others read back", n.n, size)
		}
		return err
	})
	if err != nil {
		return File{}, exitcode.With(exitcode.IO, fmt.Errorf("checkpoint: %w", err))
	}
	return File{name, n.n, hex.EncodeToString(sum.Sum(nil))}, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// restore goes on from the last checkpoint, if there is one.
func (s *store) restore(l learner) (train.State, bool, error) {
	c, ok := s.index.last()
	if !ok {
		return train.State{}, false, nil
	}
	model, err := s.open(c.Model)
	if err != nil {
		return train.State{}, false, err
	}
	defer model.Close()
	state, err := s.open(c.State)
	if err != nil {
		return train.State{}, false, err
	}
	defer state.Close()
	at, err := train.ReadState(state)
	if err != nil {
		return train.State{}, false, err
	}
	if at.Step != c.Step {
		return train.State{}, false, exitcode.Errorf(exitcode.Data, "%s: is of step %d, the index says %d", state.Path(), at.Step, c.Step)
	}
	return at, true, l.restore(model, state, at.Step)
}

// open opens a file of a checkpoint after comparing its bytes with the index.
func (s *store) open(f File) (*weights.File, error) {
	path := filepath.Join(s.dir, f.Name)
	sum, size, err := weights.SHA256(path)
	if err != nil {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("checkpoint: %w", err))
	}
	if size != f.Bytes || sum != f.SHA256 {
		return nil, exitcode.Errorf(exitcode.Data, "checkpoint %s: is damaged: %d bytes with SHA-256 %s, the index says %d with %s", path, size, sum, f.Bytes, f.SHA256)
	}
	return weights.Open(path, weights.Limits{})
}

// publish writes the model of the last checkpoint beside the checkpoints, and notes that the run is finished.
func (s *store) publish(dir string) error {
	c, ok := s.index.last()
	if !ok {
		return exitcode.Errorf(exitcode.Internal, "no checkpoint to publish")
	}
	from := filepath.Join(s.dir, c.Model.Name)
	err := s.files.Replace(filepath.Join(dir, modelName), func(w io.Writer) error {
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{f}, make([]byte, 1<<20))
		return err
	}, func(tmp string) error {
		sum, _, err := weights.SHA256(tmp)
		if err == nil && sum != c.Model.SHA256 {
			err = fmt.Errorf("SHA-256 is %s, that of the checkpoint %s", sum, c.Model.SHA256)
		}
		return err
	})
	if err != nil {
		return exitcode.With(exitcode.IO, err)
	}
	x := s.index
	x.Finished = true
	return s.replace(&x)
}

// logFile is the log of losses, one JSON object a line. It holds no times, so that a run that was stopped leaves the same bytes.
type logFile struct {
	f *os.File
}

// openLog opens the log behind the lines up to a step; what a dead run wrote after its last checkpoint is cut off.
func openLog(dir string, step int64) (*logFile, error) {
	path := filepath.Join(dir, logName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, exitcode.With(exitcode.IO, err)
	}
	data, err := io.ReadAll(f)
	if err == nil {
		keep := 0
		for keep < len(data) {
			end := bytes.IndexByte(data[keep:], '\n')
			if end < 0 {
				break
			}
			var line struct {
				Step int64 `json:"step"`
			}
			if json.Unmarshal(data[keep:keep+end], &line) != nil || line.Step > step || line.Step < 1 {
				break
			}
			keep += end + 1
		}
		if err = f.Truncate(int64(keep)); err == nil {
			_, err = f.Seek(int64(keep), io.SeekStart)
		}
	}
	if err != nil {
		f.Close()
		return nil, exitcode.With(exitcode.IO, err)
	}
	return &logFile{f}, nil
}

// write appends a line. Numbers that JSON does not have are written as null.
func (l *logFile) write(step int64, terms []term) error {
	_, err := l.f.Write(line(step, terms))
	return exitcode.With(exitcode.IO, err)
}

func (l *logFile) sync() error { return exitcode.With(exitcode.IO, l.f.Sync()) }

func (l *logFile) close() error { return l.f.Close() }

// line is a line of the log.
func line(step int64, terms []term) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"step":%d`, step)
	for _, t := range terms {
		v, err := json.Marshal(t.value)
		if err != nil {
			v = []byte("null")
		}
		fmt.Fprintf(&b, `,%q:%s`, t.name, v)
	}
	b.WriteString("}\n")
	return b.Bytes()
}
