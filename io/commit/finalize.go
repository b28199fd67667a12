package commit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/part"
)

const manifestSchema = "ldm-batch/manifest/v1"

// Manifest lists the parts of a finished folder. It is the entry point for readers, and a function of plan and journal.
type Manifest struct {
	Schema      string          `json:"schema"`
	Format      int             `json:"format"` // ldm.format of the parts
	Fingerprint string          `json:"fingerprint"`
	Totals      Totals          `json:"totals"`
	Reasons     []part.Reason   `json:"reasons,omitempty"`
	Document    json.RawMessage `json:"document"`
	Parts       []ManifestPart  `json:"parts"`
}

// Totals adds up the parts.
type Totals struct {
	Parts   int   `json:"parts"`
	Rows    int64 `json:"rows"`
	OK      int64 `json:"ok"`
	Skipped int64 `json:"skipped"`
	Failed  int64 `json:"failed"`
	Bytes   int64 `json:"bytes"`
	// FileBytes adds up the image files of the tree, if there is one.
	FileBytes int64 `json:"file_bytes,omitempty"`
}

func (t *Totals) add(s part.Stats) {
	t.Parts++
	t.Rows += s.Rows
	t.OK += s.OK
	t.Skipped += s.Skipped
	t.Failed += s.Failed
	t.Bytes += s.Bytes
	t.FileBytes += s.FileBytes
}

// ManifestPart is one part.
type ManifestPart struct {
	File     string `json:"file"` // relative to the output folder
	FirstRow int64  `json:"first_row"`
	Rows     int64  `json:"rows"`
	OK       int64  `json:"ok"`
	Skipped  int64  `json:"skipped"`
	Failed   int64  `json:"failed"`
	Bytes    int64  `json:"bytes"`
	SHA256   string `json:"sha256"`
	// FileBytes adds up the image files that the part names.
	FileBytes int64 `json:"file_bytes,omitempty"`
}

// Expect is what [part.Open] needs.
func (p ManifestPart) Expect() part.Expect { return part.Expect{Size: p.Bytes, SHA256: p.SHA256} }

// newManifest computes the manifest; an [IncompleteError] tells of parts that are not done.
func newManifest(dir string, p Plan, states []PartState) (Manifest, error) {
	m := Manifest{Schema: manifestSchema, Format: part.Format, Fingerprint: p.Fingerprint, Document: p.Document, Parts: []ManifestPart{}}
	var missing []int
	var reasons [][]part.Reason
	for i, s := range states {
		if !s.Done {
			missing = append(missing, i)
			continue
		}
		e := s.Entry
		m.Totals.add(e.Stats)
		reasons = append(reasons, e.Reasons)
		m.Parts = append(m.Parts, ManifestPart{e.File, p.Parts[i].FirstRow, e.Rows, e.OK, e.Skipped, e.Failed, e.Bytes, e.SHA256, e.FileBytes})
	}
	if missing != nil {
		return Manifest{}, exitcode.With(exitcode.Temporary, &IncompleteError{Dir: dir, Parts: len(states), Missing: missing})
	}
	m.Reasons = part.MergeReasons(reasons...)
	return m, nil
}

// Finalize writes the manifest and _SUCCESS if every part of the folder is finished, those of other shards included; else
// it returns an [IncompleteError] and writes nothing. Any number of processes may do it, in any order.
func (f *Folder) Finalize(ctx context.Context) (_ Manifest, err error) {
	guard, err := acquire(ctx, f.guard(), true, guardWait, nil)
	if err != nil {
		return Manifest{}, err
	}
	defer func() { err = errors.Join(err, guard.release()) }()
	return f.publish()
}

// Finalize does for a folder without a run, after the last shard, what [Folder.Finalize] does.
func Finalize(ctx context.Context, dir string) (_ Manifest, err error) {
	f := &Folder{layout: layout{dir}, fs: atomicfile.OS}
	if f.plan, err = loadPlan(f.fs, f.layout); err != nil {
		return Manifest{}, err
	}
	return f.Finalize(ctx)
}

// loadPlan reads the plan of a folder that must have one.
func loadPlan(fsys atomicfile.FS, l layout) (Plan, error) {
	b, err := fsys.ReadFile(l.plan())
	if errors.Is(err, fs.ErrNotExist) {
		return Plan{}, exitcode.Errorf(exitcode.NoInput, "%s: not an output folder of ldm-batch: %w", l.dir, err)
	}
	if err != nil {
		return Plan{}, outputError(err)
	}
	return parsePlan(l.plan(), b)
}

// publish does the work of Finalize. The caller holds the guard, so that no part is taken back meanwhile.
func (f *Folder) publish() (Manifest, error) {
	states := make([]PartState, len(f.plan.Parts))
	for i := range states {
		s, err := inspectPart(f.fs, f.layout, f.plan, i, false)
		if err != nil {
			return Manifest{}, err
		}
		states[i] = s
	}
	m, err := newManifest(f.dir, f.plan, states)
	if err != nil {
		return Manifest{}, err
	}
	if err := f.publishTree(states); err != nil {
		return Manifest{}, err
	}
	b, err := indent(m)
	if err != nil {
		return Manifest{}, err
	}
	if err := f.publishFile("manifest", f.manifest(), b); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	// Parts and journal are durable since before their names existed; a manifest found here may not be, if its writer died
	// between rename and sync.
	if err := f.fs.SyncDir(f.dir); err != nil {
		return Manifest{}, outputError(err)
	}
	done, err := f.exists(f.success())
	if err != nil || done {
		return m, err
	}
	return m, f.replace("success", f.success(), nil)
}

// publishFile writes a file that _SUCCESS vouches for, unless it has this content already.
func (f *Folder) publishFile(step, path string, b []byte) error {
	old, err := f.fs.ReadFile(path)
	if err == nil && bytes.Equal(old, b) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return outputError(err)
	}
	if err := f.remove(f.success()); err != nil { // it would vouch for the old content
		return err
	}
	return f.replace(step, path, b)
}

// ReadManifest reads the manifest of a finished folder. A folder without _SUCCESS is an [IncompleteError] or, without a
// plan, class no-input.
func ReadManifest(dir string) (Manifest, error) {
	l := layout{dir}
	fsys := atomicfile.OS
	if _, err := fsys.Stat(l.success()); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			return Manifest{}, outputError(err)
		}
		s, err := ReadStatus(dir)
		if err != nil {
			return Manifest{}, err
		}
		return Manifest{}, exitcode.With(exitcode.Temporary, &IncompleteError{Dir: dir, Parts: s.Parts, Missing: s.missing()})
	}
	b, err := fsys.ReadFile(l.manifest())
	if err != nil {
		return Manifest{}, exitcode.With(exitcode.Data, fmt.Errorf("finished folder without a manifest: %w", err))
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return Manifest{}, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", l.manifest(), err))
	}
	if m.Schema != manifestSchema || m.Format != part.Format {
		return Manifest{}, exitcode.Errorf(exitcode.Data, "%s: schema %q, format %d: not of this version", l.manifest(), m.Schema, m.Format)
	}
	return m, nil
}
