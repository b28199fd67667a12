package commit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/tree"
)

const journalSchema = "ldm-batch/journal/v1"

// Entry is the journal entry of a finished part.
type Entry struct {
	Schema      string `json:"schema"`
	Part        int    `json:"part"`
	File        string `json:"file"`
	Fingerprint string `json:"fingerprint"`
	Tree        bool   `json:"tree,omitempty"` // the part names image files, which are in the tree
	part.Stats
	ModTime int64   `json:"mtime_ns"` // of the part, to see changes without reading it
	Seconds float64 `json:"seconds"`  // it took to make and write the part
	Attempt int     `json:"attempt"`  // the run that wrote it, see run.json
}

func parseEntry(b []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(b, &e); err != nil {
		return Entry{}, err
	}
	if e.Schema != journalSchema {
		return Entry{}, fmt.Errorf("schema %q, want %q", e.Schema, journalSchema)
	}
	return e, nil
}

// check compares an entry with the plan.
func (e Entry) check(p Plan, i int) error {
	switch {
	case e.Part != i || e.File != PartFile(i):
		return fmt.Errorf("entry is of part %d, file %s", e.Part, e.File)
	case e.Fingerprint != p.Fingerprint:
		return fmt.Errorf("entry is of another job, %s", e.Fingerprint)
	case e.Rows != p.Parts[i].Rows || e.OK+e.Skipped+e.Failed != e.Rows:
		return fmt.Errorf("entry counts %d rows, %d ok, %d skipped, %d failed; the plan has %d rows", e.Rows, e.OK, e.Skipped, e.Failed, p.Parts[i].Rows)
	}
	return nil
}

// PartState is what a folder knows of one part.
type PartState struct {
	Part  int    `json:"part"`
	Done  bool   `json:"done"`
	Why   string `json:"why,omitempty"` // why it is not done
	Entry Entry  `json:"-"`             // if there is a good one
}

// inspectPart decides whether part i is finished: its entry is good, and the file has the recorded size and time. With
// another time, or always with rehash, the content is compared with the recorded sha256, and so are the files it names.
func inspectPart(fsys atomicfile.FS, l layout, p Plan, i int, rehash bool) (PartState, error) {
	s, touched, err := inspectEntry(fsys, l, p, i)
	if err != nil || !s.Done || !touched && !rehash {
		return s, err
	}
	if s.Entry.Tree {
		err = new(listing).add(l.part(i), s.Entry.Stats, func(f tree.File) error { return f.Check(l.dir) })
	} else {
		err = part.Check(l.part(i), part.Expect{Size: s.Entry.Bytes, SHA256: s.Entry.SHA256})
	}
	if err != nil {
		s.Done, s.Why = false, err.Error()
	}
	return s, nil
}

// inspectEntry goes by entry and size alone. touched says that the file's time is not the recorded one.
func inspectEntry(fsys atomicfile.FS, l layout, p Plan, i int) (_ PartState, touched bool, _ error) {
	s := PartState{Part: i}
	b, err := fsys.ReadFile(l.journal(i))
	if errors.Is(err, fs.ErrNotExist) {
		s.Why = "not finished"
		return s, false, nil
	}
	if err != nil {
		return s, false, outputError(err)
	}
	e, err := parseEntry(b)
	if err == nil {
		err = e.check(p, i)
	}
	if err != nil {
		s.Why = "journal: " + err.Error()
		return s, false, nil
	}
	info, err := fsys.Stat(l.part(i))
	if errors.Is(err, fs.ErrNotExist) {
		s.Why = "file is missing"
		return s, false, nil
	}
	if err != nil {
		return s, false, outputError(err)
	}
	s.Entry = e
	if info.Size() != e.Bytes {
		s.Why = fmt.Sprintf("file has %d bytes, not %d", info.Size(), e.Bytes)
		return s, false, nil
	}
	s.Done = true
	return s, info.ModTime().UnixNano() != e.ModTime, nil
}
