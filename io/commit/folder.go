package commit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/tree"
)

// Options says how to open a folder.
type Options struct {
	Shard Shard
	// Wait is how long to wait for another run to let go of the folder.
	Wait time.Duration
	// Overwrite empties a folder of another job, or a finished one of this job. An unfinished run of this job goes on, so
	// that the same command line can be repeated after a crash. It never touches a folder without a plan, or foreign
	// files, and cannot be had for a shard, since each shard would remove what the others wrote.
	Overwrite bool
	// Rehash reads every finished part instead of trusting its size and time.
	Rehash bool
	// RetryFailed redoes the parts that have failed rows.
	RetryFailed bool
	// Info goes into the run record.
	Info any
	// FS is the file system; nil means the real one. Locks are always real.
	FS atomicfile.FS
}

// Folder is an output folder open for writing.
type Folder struct {
	layout
	fs    atomicfile.FS
	shard Shard
	plan  Plan
	run   Run
	locks []*lock

	files *tree.Writer

	mu     sync.Mutex
	states []PartState // of all parts; those outside the shard are as of Open
}

// guardWait is how long the short critical sections of other shards may take.
const guardWait = 30 * time.Second

// Open makes or opens the output folder dir for a job and takes its lock, then readies it: it sweeps temporary files,
// compares the job with the plan, and takes back what has to be redone.
func Open(ctx context.Context, dir string, plan Plan, o Options) (_ *Folder, err error) {
	if o.Shard.Count < 0 || o.Shard.Index < 0 || o.Shard.Count > 0 && o.Shard.Index >= o.Shard.Count || o.Shard.Count == 0 && o.Shard.Index != 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "shard %d/%d: the index runs from 0 to one below the count", o.Shard.Index, o.Shard.Count)
	}
	if o.Overwrite && o.Shard.partial() {
		return nil, exitcode.Errorf(exitcode.Usage, "%s: a shard cannot overwrite: it would remove what the other shards wrote", dir)
	}
	f := &Folder{layout: layout{filepath.Clean(dir)}, fs: o.FS, shard: o.Shard, plan: plan}
	if f.fs == nil {
		f.fs = atomicfile.OS
	}
	f.files = &tree.Writer{Dir: f.dir, Files: atomicfile.Writer{FS: f.fs, TempDir: f.tmp(), Prefix: f.tmpPrefix(), At: stages("file")}}
	if err := f.scaffold(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.unlock())
		}
	}()
	if err := f.takeLock(ctx, o.Wait); err != nil {
		return nil, err
	}
	crashPoint("lock")
	guard, err := acquire(ctx, f.guard(), true, guardWait, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, guard.release()) }()
	if err := f.sweep(); err != nil {
		return nil, err
	}
	crashPoint("sweep")
	if err := f.adopt(o); err != nil {
		return nil, err
	}
	return f, f.startRun(o.Info)
}

// scaffold makes the folders. A folder with content and without our control folder is not ours.
func (f *Folder) scaffold() error {
	entries, err := f.fs.ReadDir(f.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := f.mkdirs(f.dir); err != nil {
			return err
		}
	case err != nil:
		return outputError(err)
	default:
		names := map[string]bool{}
		for _, e := range entries {
			names[e.Name()] = true
		}
		if len(entries) > 0 && !names[controlName] {
			return foreign(f.dir, entries[0].Name())
		}
	}
	for _, d := range []string{f.control(), f.tmp(), f.journals(), f.data()} {
		if err := f.mkdirs(d); err != nil {
			return err
		}
	}
	for _, d := range []string{f.control(), f.dir} {
		if err := f.fs.SyncDir(d); err != nil {
			return outputError(err)
		}
	}
	crashPoint("scaffold")
	return nil
}

func foreign(dir, name string) error {
	return exitcode.Errorf(exitcode.Conflict, "%s: holds %q and was not made by ldm-batch: choose an empty folder", dir, name)
}

// mkdirs makes a folder and its missing parents, and makes the new names durable.
func (f *Folder) mkdirs(dir string) error {
	info, err := f.fs.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return exitcode.Errorf(exitcode.Conflict, "%s: is not a folder", dir)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return outputError(err)
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := f.mkdirs(parent); err != nil {
			return err
		}
	}
	if err := f.fs.Mkdir(dir); err != nil && !errors.Is(err, fs.ErrExist) { // another shard may have been faster
		return outputError(err)
	}
	return outputError(f.fs.SyncDir(parent))
}

// takeLock locks the folder: for a whole run alone, for a shard together with the other shards, and then the shard alone.
func (f *Folder) takeLock(ctx context.Context, wait time.Duration) error {
	me := self(f.shard)
	deadline := time.Now().Add(wait)
	note := &me
	if f.shard.partial() {
		note = nil
	}
	l, err := acquire(ctx, f.lock(), !f.shard.partial(), wait, note)
	if err != nil {
		return err
	}
	f.locks = append(f.locks, l)
	if !f.shard.partial() {
		return nil
	}
	l, err = acquire(ctx, f.shardLock(f.shard), true, time.Until(deadline), &me)
	if err != nil {
		return err
	}
	f.locks = append(f.locks, l)
	return nil
}

// tmpPrefix starts the names of this run's temporary files.
func (f *Folder) tmpPrefix() string {
	if f.shard.partial() {
		return "s" + f.shard.suffix() + "."
	}
	return "r."
}

// sweep removes temporary files that no living run can own: all for a whole run, its own for a shard.
func (f *Folder) sweep() error {
	entries, err := f.fs.ReadDir(f.tmp())
	if err != nil {
		return outputError(err)
	}
	for _, e := range entries {
		if f.shard.partial() && !strings.HasPrefix(e.Name(), f.tmpPrefix()) {
			continue
		}
		if err := f.fs.Remove(filepath.Join(f.tmp(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return outputError(err)
		}
	}
	return nil
}

// adopt makes the folder one of this job. The caller holds lock and guard.
func (f *Folder) adopt(o Options) error {
	b, err := f.fs.ReadFile(f.layout.plan())
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.mustBeBare(); err != nil {
			return err
		}
		if err := f.writePlan(); err != nil {
			return err
		}
		return f.inspect(o.Rehash)
	}
	if err != nil {
		return outputError(err)
	}
	there, err := parsePlan(f.layout.plan(), b)
	if err != nil {
		return err
	}
	clash := conflict(f.dir, there, f.plan)
	if o.Overwrite {
		finished, err := f.exists(f.success())
		if err != nil {
			return err
		}
		if clash != nil || finished {
			return f.overwrite(o)
		}
	}
	if clash != nil {
		return clash
	}
	if err := f.inspect(o.Rehash); err != nil {
		return err
	}
	return f.takeBack(o.RetryFailed)
}

// mustBeBare checks a folder without a plan: it holds nothing but what scaffold made.
func (f *Folder) mustBeBare() error {
	entries, err := f.fs.ReadDir(f.dir)
	if err != nil {
		return outputError(err)
	}
	for _, e := range entries {
		if e.Name() != controlName && e.Name() != dataName {
			return foreign(f.dir, e.Name())
		}
	}
	for _, d := range []string{f.data(), f.journals()} {
		entries, err := f.fs.ReadDir(d)
		if err != nil {
			return outputError(err)
		}
		if len(entries) > 0 {
			return foreign(d, entries[0].Name())
		}
	}
	return nil
}

// overwrite empties the folder of everything that could be taken for a result, and gives it the new plan last, in one
// step: until then the folder is an unfinished one of the old job.
func (f *Folder) overwrite(o Options) error {
	if err := f.unpublish(); err != nil {
		return err
	}
	crashPoint("unpublish")
	for _, d := range []struct {
		dir string
		re  interface{ MatchString(string) bool }
	}{{f.journals(), journalPattern}, {f.data(), partPattern}} {
		entries, err := f.fs.ReadDir(d.dir)
		if err != nil {
			return outputError(err)
		}
		var paths []string
		for _, e := range entries {
			if d.re.MatchString(e.Name()) {
				paths = append(paths, filepath.Join(d.dir, e.Name()))
			}
		}
		if err := f.remove(paths...); err != nil {
			return err
		}
	}
	if _, err := f.removeImages(f.images(), nil); err != nil {
		return err
	}
	crashPoint("drop")
	if err := f.writePlan(); err != nil {
		return err
	}
	return f.inspect(o.Rehash)
}

func (f *Folder) writePlan() error {
	b, err := indent(f.plan)
	if err != nil {
		return err
	}
	return f.replace("plan", f.layout.plan(), b)
}

// inspect learns the state of every part. Only the shard's own are hashed.
func (f *Folder) inspect(rehash bool) error {
	lo, hi := f.Range()
	f.states = make([]PartState, len(f.plan.Parts))
	for i := range f.states {
		s, err := inspectPart(f.fs, f.layout, f.plan, i, rehash && lo <= i && i < hi)
		if err != nil {
			return err
		}
		f.states[i] = s
	}
	return nil
}

// takeBack withdraws the publication if parts of this shard will be redone, and then whatever exists of these parts, so
// that no other process can take the old for the new.
func (f *Folder) takeBack(retryFailed bool) error {
	lo, hi := f.Range()
	redo := false
	var journals, parts []string
	for i := lo; i < hi; i++ {
		s := &f.states[i]
		if s.Done && retryFailed && s.Entry.Failed > 0 {
			s.Done, s.Why = false, fmt.Sprintf("%d failed rows are retried", s.Entry.Failed)
		}
		if s.Done {
			continue
		}
		redo = true
		journals, parts = append(journals, f.journal(i)), append(parts, f.part(i))
	}
	if !redo {
		return nil
	}
	if err := f.unpublish(); err != nil {
		return err
	}
	crashPoint("unpublish")
	if err := f.remove(journals...); err != nil {
		return err
	}
	if err := f.remove(parts...); err != nil {
		return err
	}
	crashPoint("drop")
	return nil
}

// unpublish removes _SUCCESS, then the manifest, then failed.csv, each durably before the next.
func (f *Folder) unpublish() error {
	for _, p := range []string{f.success(), f.manifest(), f.failed()} {
		if err := f.remove(p); err != nil {
			return err
		}
	}
	return nil
}

// remove removes files of one folder that exist, and makes that durable.
func (f *Folder) remove(paths ...string) error {
	removed := false
	for _, p := range paths {
		err := f.fs.Remove(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return outputError(err)
		}
		removed = true
	}
	if !removed {
		return nil
	}
	return outputError(f.fs.SyncDir(filepath.Dir(paths[0])))
}

func (f *Folder) exists(path string) (bool, error) {
	_, err := f.fs.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, outputError(err)
}

// replace writes one small file atomically.
func (f *Folder) replace(step, path string, b []byte) error {
	w := atomicfile.Writer{FS: f.fs, TempDir: f.tmp(), Prefix: f.tmpPrefix(), At: stages(step)}
	return outputError(w.Replace(path, atomicfile.Bytes(b), nil))
}

func (f *Folder) startRun(info any) error {
	f.run = newRun(f.shard, info)
	old, ok, err := readRun(f.fs, f.layout.run(f.shard))
	if err != nil {
		return err
	}
	if ok {
		f.run.Attempt = old.Attempt + 1
	}
	return f.writeRun()
}

// EndRun completes the run record.
func (f *Folder) EndRun(outcome any) error {
	now := time.Now().UTC().Truncate(time.Second)
	f.run.Ended, f.run.Outcome = &now, outcome
	return f.writeRun()
}

func (f *Folder) writeRun() error {
	b, err := indent(f.run)
	if err != nil {
		return fmt.Errorf("run record: %w", err)
	}
	return f.replace("run", f.layout.run(f.shard), b)
}

// Dir returns the path of the folder.
func (f *Folder) Dir() string { return f.dir }

// Plan returns the plan.
func (f *Folder) Plan() Plan { return f.plan }

// Attempt returns the number of this run, from 1.
func (f *Folder) Attempt() int { return f.run.Attempt }

// Range returns the parts lo <= i < hi that this run may write.
func (f *Folder) Range() (lo, hi int) { return f.shard.Range(len(f.plan.Parts)) }

// Pending lists the parts of this run that are not finished, ascending.
func (f *Folder) Pending() []int {
	lo, hi := f.Range()
	f.mu.Lock()
	defer f.mu.Unlock()
	var p []int
	for i := lo; i < hi; i++ {
		if !f.states[i].Done {
			p = append(p, i)
		}
	}
	return p
}

// Entry returns the journal entry of part i if the part is finished.
func (f *Folder) Entry(i int) (Entry, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.states[i]
	return s.Entry, s.Done
}

// Close gives the lock back. It may be called more than once.
func (f *Folder) Close() error { return f.unlock() }

func (f *Folder) unlock() error {
	var err error
	for i := len(f.locks) - 1; i >= 0; i-- {
		err = errors.Join(err, f.locks[i].release())
	}
	f.locks = nil
	return err
}
