package commit

import (
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/ldm-batch/ldm-batch/io/tree"
)

// Names in an output folder.
const (
	dataName     = "data"
	manifestName = "_manifest.json"
	successName  = "_SUCCESS"
	failedName   = "failed.csv"
	controlName  = ".ldm-batch"
	planName     = "plan.json"
	journalName  = "journal"
	tmpName      = "tmp"
	lockName     = "lock"
	guardName    = "lock.guard"
)

// layout spells the paths of one output folder.
type layout struct{ dir string }

func (l layout) data() string     { return filepath.Join(l.dir, dataName) }
func (l layout) manifest() string { return filepath.Join(l.dir, manifestName) }
func (l layout) success() string  { return filepath.Join(l.dir, successName) }
func (l layout) failed() string   { return filepath.Join(l.dir, failedName) }
func (l layout) images() string   { return filepath.Join(l.dir, tree.Name) }
func (l layout) control() string  { return filepath.Join(l.dir, controlName) }
func (l layout) plan() string     { return filepath.Join(l.control(), planName) }
func (l layout) journals() string { return filepath.Join(l.control(), journalName) }
func (l layout) tmp() string      { return filepath.Join(l.control(), tmpName) }
func (l layout) lock() string     { return filepath.Join(l.control(), lockName) }
func (l layout) guard() string    { return filepath.Join(l.control(), guardName) }

func (l layout) part(i int) string { return filepath.Join(l.dir, filepath.FromSlash(PartFile(i))) }
func (l layout) journal(i int) string {
	return filepath.Join(l.journals(), fmt.Sprintf("%05d.json", i))
}

func (l layout) shardLock(s Shard) string { return l.lock() + "." + s.suffix() }

func (l layout) run(s Shard) string {
	if !s.partial() {
		return filepath.Join(l.control(), "run.json")
	}
	return filepath.Join(l.control(), "run-"+s.suffix()+".json")
}

var partPattern = regexp.MustCompile(`^part-\d{5,}\.arrow$`)
var journalPattern = regexp.MustCompile(`^\d{5,}\.json$`)

// PartFile is the name of part i relative to the output folder, with slashes. It has no attempt or shard in it: whoever
// writes the part writes the same bytes under the same name.
func PartFile(i int) string { return fmt.Sprintf("%s/part-%05d.arrow", dataName, i) }

// Shard is one of Count runs that share a folder; the zero value is a run that has the folder for itself.
type Shard struct{ Index, Count int }

func (s Shard) partial() bool { return s.Count > 1 }

func (s Shard) suffix() string { return fmt.Sprintf("%05d-of-%05d", s.Index, s.Count) }

func (s Shard) String() string {
	if s.Count == 0 {
		return "0/1"
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Count)
}

// Range returns the parts lo <= i < hi of the shard when there are n in all. The ranges of all shards cover the parts
// once, in order, in sizes that differ by at most one.
func (s Shard) Range(n int) (lo, hi int) {
	if !s.partial() {
		return 0, n
	}
	return s.Index * n / s.Count, (s.Index + 1) * n / s.Count
}
