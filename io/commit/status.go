package commit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/tree"
)

// State is the state of a folder.
type State string

// The states.
const (
	Incomplete State = "incomplete" // parts are missing
	Complete   State = "complete"   // every part is finished, the manifest is not written
	Finished   State = "finished"   // _SUCCESS exists
)

// Status describes a folder.
type Status struct {
	Dir         string        `json:"dir"`
	State       State         `json:"state"`
	Fingerprint string        `json:"fingerprint"`
	Parts       int           `json:"parts"`
	Rows        int64         `json:"rows"` // planned
	Done        Totals        `json:"done"` // of finished parts
	Reasons     []part.Reason `json:"reasons,omitempty"`
	Pending     []PartState   `json:"pending,omitempty"`
	Holders     []Holder      `json:"holders,omitempty"` // runs noted in the lock files that may be alive
	Run         *Run          `json:"run,omitempty"`     // the latest run that was not a shard
}

func (s Status) missing() []int {
	var m []int
	for _, p := range s.Pending {
		m = append(m, p.Part)
	}
	return m
}

// ReadStatus describes the folder without locking or reading parts. A part whose time was changed is hashed.
func ReadStatus(dir string) (Status, error) {
	l, fsys := layout{dir}, atomicfile.OS
	p, err := loadPlan(fsys, l)
	if err != nil {
		return Status{}, err
	}
	s := Status{Dir: dir, State: Complete, Fingerprint: p.Fingerprint, Parts: len(p.Parts), Rows: p.Rows, Holders: holders(l.control())}
	var reasons [][]part.Reason
	for i := range p.Parts {
		ps, err := inspectPart(fsys, l, p, i, false)
		if err != nil {
			return Status{}, err
		}
		if !ps.Done {
			s.State = Incomplete
			s.Pending = append(s.Pending, ps)
			continue
		}
		s.Done.add(ps.Entry.Stats)
		reasons = append(reasons, ps.Entry.Reasons)
	}
	s.Reasons = part.MergeReasons(reasons...)
	if _, err := fsys.Stat(l.success()); err == nil && s.State == Complete {
		s.State = Finished
	}
	if r, ok, err := readRun(fsys, l.run(Shard{})); err == nil && ok {
		s.Run = &r
	}
	return s, nil
}

// Problem is one thing wrong with a folder.
type Problem struct {
	File    string `json:"file"` // relative to the folder, or the folder's own name for what is missing altogether
	Problem string `json:"problem"`
}

// Report is the result of [Verify].
type Report struct {
	Dir      string    `json:"dir"`
	State    State     `json:"state"`
	Parts    int       `json:"parts"` // that were read and are good
	Rows     int64     `json:"rows"`
	Bytes    int64     `json:"bytes"`
	Files    int64     `json:"files,omitempty"` // of the tree, that were read; bad ones included
	Problems []Problem `json:"problems,omitempty"`
}

// Err is nil for a folder without problems, else an error of class data that names the first.
func (r Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	p := r.Problems[0]
	more := ""
	if n := len(r.Problems) - 1; n > 0 {
		more = fmt.Sprintf("; and %d more problems", n)
	}
	return exitcode.Errorf(exitcode.Data, "%s: %s: %s%s", r.Dir, p.File, p.Problem, more)
}

// Verify hashes every finished part and every image file that it names, counts its rows as a reader does, compares the
// manifest with plan and journal and failed.csv with the parts, and looks for files in data, and among the images of a
// published folder, that do not belong there. Parts that are not finished are a problem only in a published folder.
func Verify(dir string) (Report, error) {
	l, fsys := layout{dir}, atomicfile.OS
	p, err := loadPlan(fsys, l)
	if err != nil {
		return Report{}, err
	}
	r := Report{Dir: dir, State: Complete}
	problem := func(file, format string, args ...any) {
		r.Problems = append(r.Problems, Problem{file, fmt.Sprintf(format, args...)})
	}
	_, err = fsys.Stat(l.success())
	published := err == nil
	states := make([]PartState, len(p.Parts))
	var files listing
	known := map[string]bool{}
	for i := range p.Parts {
		known[PartFile(i)] = true
		s, _, err := inspectEntry(fsys, l, p, i)
		if err != nil {
			return Report{}, err
		}
		if s.Done {
			if err := readBack(l.part(i), s.Entry.Stats); err != nil {
				s.Done, s.Why = false, err.Error()
			}
		}
		if s.Done && s.Entry.Tree {
			err := files.add(l.part(i), s.Entry.Stats, func(x tree.File) error {
				r.Files++
				if err := x.Check(dir); err != nil {
					problem(x.Path, "%v", err)
				}
				return nil
			})
			if err != nil {
				s.Done, s.Why = false, err.Error()
			}
		}
		states[i] = s
		if !s.Done {
			r.State = Incomplete
			if published || s.Why != "not finished" {
				problem(PartFile(i), "%s", s.Why)
			}
			continue
		}
		r.Parts++
		r.Rows += s.Entry.Rows
		r.Bytes += s.Entry.Bytes
	}
	entries, err := fsys.ReadDir(l.data())
	if err != nil {
		return Report{}, outputError(err)
	}
	for _, e := range entries {
		if name := dataName + "/" + e.Name(); !known[name] {
			problem(name, "is not a part of this job")
		}
	}
	if !published {
		return r, nil
	}
	if r.State == Complete {
		r.State = Finished
		if err := verifyManifest(fsys, l, p, states); err != nil {
			problem(manifestName, "%v", err)
		}
		if err := files.verify(fsys, l, problem); err != nil {
			return Report{}, err
		}
	}
	return r, nil
}

func verifyManifest(fsys atomicfile.FS, l layout, p Plan, states []PartState) error {
	got, err := fsys.ReadFile(l.manifest())
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("is missing")
	}
	if err != nil {
		return err
	}
	m, err := newManifest(l.dir, p, states)
	if err != nil {
		return err
	}
	want, err := indent(m)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("is not what plan and journal give")
	}
	if info, err := os.Stat(l.success()); err == nil && info.Size() != 0 {
		return errors.New("_SUCCESS is not empty")
	}
	return nil
}

// Entries returns the journal entries of a folder whose parts are all finished, in order; else an [IncompleteError].
func Entries(dir string) ([]Entry, error) {
	l, fsys := layout{dir}, atomicfile.OS
	p, err := loadPlan(fsys, l)
	if err != nil {
		return nil, err
	}
	var out []Entry
	var missing []int
	for i := range p.Parts {
		s, err := inspectPart(fsys, l, p, i, false)
		if err != nil {
			return nil, err
		}
		if !s.Done {
			missing = append(missing, i)
		}
		out = append(out, s.Entry)
	}
	if missing != nil {
		return nil, exitcode.With(exitcode.Temporary, &IncompleteError{Dir: dir, Parts: len(p.Parts), Missing: missing})
	}
	return out, nil
}
