package commit

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/tree"
)

// WritePart writes part i and its journal entry. fill appends exactly the rows of the plan, in order; fingerprint and part
// numbers of the schema are filled in. The part is read back, hashed and counted before it gets its name. If fill returns
// an error, or anything else fails, nothing of the part remains, and the error of fill is in the chain as it was. The files
// that a part of a schema with Files names must be written before, see [Folder.WriteFile].
func (f *Folder) WritePart(i int, s part.Schema, fill func(*part.Writer) error) (Entry, error) {
	started := time.Now()
	if lo, hi := f.Range(); i < lo || i >= hi {
		return Entry{}, exitcode.Errorf(exitcode.Internal, "%s: part %d is outside the parts %d to %d of shard %s", f.dir, i, lo, hi-1, f.shard)
	}
	if _, done := f.Entry(i); done {
		return Entry{}, exitcode.Errorf(exitcode.Internal, "%s: part %d is finished already", f.dir, i)
	}
	s.Meta.JobFingerprint, s.Meta.Part, s.Meta.Parts = f.plan.Fingerprint, i, len(f.plan.Parts)
	want := f.plan.Parts[i].Rows
	var stats part.Stats
	var fillErr error
	write := func(w io.Writer) error {
		pw, err := part.NewWriter(w, s)
		if err != nil {
			return err
		}
		if fillErr = fill(pw); fillErr != nil {
			return fillErr
		}
		if stats, err = pw.Finish(); err != nil {
			return err
		}
		if stats.Rows != want {
			return exitcode.Errorf(exitcode.Internal, "%d rows, the plan has %d", stats.Rows, want)
		}
		return nil
	}
	w := atomicfile.Writer{FS: f.fs, TempDir: f.tmp(), Prefix: f.tmpPrefix(), At: stages("part")}
	err := w.Replace(f.part(i), write, func(tmp string) error {
		err := readBack(tmp, stats)
		if err == nil && s.Files {
			err = new(listing).add(tmp, stats, func(x tree.File) error { return x.Present(f.dir) })
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("part %d: %w", i, err)
		if fillErr != nil && errors.Is(err, fillErr) {
			return Entry{}, err
		}
		return Entry{}, outputError(err)
	}
	info, err := f.fs.Stat(f.part(i))
	if err != nil {
		return Entry{}, outputError(err)
	}
	e := Entry{Schema: journalSchema, Part: i, File: PartFile(i), Fingerprint: f.plan.Fingerprint, Tree: s.Files, Stats: stats,
		ModTime: info.ModTime().UnixNano(), Seconds: time.Since(started).Seconds(), Attempt: f.run.Attempt}
	b, err := indent(e)
	if err != nil {
		return Entry{}, err
	}
	if err := f.replace("journal", f.journal(i), b); err != nil {
		return Entry{}, fmt.Errorf("journal of part %d: %w", i, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.states[i] = PartState{Part: i, Done: true, Entry: e}
	return e, nil
}

// readBack proves that the file holds what was written: size, sha256, and rows as another reader counts them.
func readBack(path string, want part.Stats) error {
	r, err := part.Open(path, part.Expect{Size: want.Bytes, SHA256: want.SHA256})
	if err != nil {
		return err
	}
	n, err := r.CountRows()
	if e := r.Close(); err == nil {
		err = e
	}
	if err == nil && n != want.Rows {
		err = exitcode.Errorf(exitcode.IO, "%d rows read back, %d written", n, want.Rows)
	}
	return err
}
