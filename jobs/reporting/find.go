package reporting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/jobs/scoring"
)

// found is a report and where it came from.
type found struct {
	dir    string // where its page belongs
	file   string
	when   time.Time
	result *report.Result
}

// find reads the reports that paths name, the oldest first.
func find(ctx context.Context, paths []string) ([]found, error) {
	var list []found
	seen := map[string]bool{}
	for _, pattern := range paths {
		names, err := expand(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			f, err := open(name)
			if err != nil {
				return nil, err
			}
			if key, err := filepath.Abs(f.file); err != nil {
				return nil, err
			} else if !seen[key] {
				seen[key] = true
				list = append(list, f)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b found) int { return cmp.Or(a.when.Compare(b.when), cmp.Compare(a.file, b.file)) })
	return list, nil
}

// expand is what a path stands for: itself if it exists, else what it matches as a pattern.
func expand(pattern string) ([]string, error) {
	_, err := os.Stat(pattern)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || !strings.ContainsAny(pattern, "*?[") {
		return []string{pattern}, nil
	}
	names, err := filepath.Glob(pattern)
	switch {
	case err != nil:
		return nil, exitcode.Errorf(exitcode.Usage, "%s: %w", pattern, err)
	case names == nil:
		return nil, exitcode.Errorf(exitcode.NoInput, "%s: matches nothing", pattern)
	}
	return names, nil
}

// open reads the report of a finished folder, or a report that was kept elsewhere.
func open(path string) (found, error) {
	info, err := os.Stat(path)
	if err != nil {
		return found{}, err
	}
	f := found{dir: filepath.Dir(path), file: path}
	var started time.Time
	if info.IsDir() {
		f.dir, f.file = path, filepath.Join(path, scoring.ReportName)
		if started, err = finished(path); err != nil {
			return found{}, err
		}
		if info, err = os.Stat(f.file); errors.Is(err, fs.ErrNotExist) {
			return found{}, exitcode.Errorf(exitcode.NoInput, "%s: has no %s: it is not the output folder of an evaluation", path, scoring.ReportName)
		} else if err != nil {
			return found{}, err
		}
	}
	r, err := os.Open(f.file)
	if err != nil {
		return found{}, err
	}
	defer r.Close()
	if f.result, err = report.Read(r); err != nil {
		return found{}, fmt.Errorf("%s: %w", f.file, err)
	}
	if len(f.result.Scores) == 0 {
		return found{}, exitcode.Errorf(exitcode.Data, "%s: scores: there is none", f.file)
	}
	if f.when, err = time.Parse(time.RFC3339, f.result.When); err == nil {
		return f, nil
	}
	if f.when = started; started.IsZero() {
		f.when = info.ModTime()
	}
	if f.result.When == "" {
		f.result.When = f.when.UTC().Format(time.RFC3339)
	}
	return f, nil
}

// finished makes sure that a folder of a job is published, and says when its last run began. Other folders have no such time, and
// neither have those whose shards ran on their own.
func finished(dir string) (started time.Time, err error) {
	if _, err := os.Stat(filepath.Join(dir, ".ldm-batch", "plan.json")); errors.Is(err, fs.ErrNotExist) {
		return started, nil
	}
	if _, err = commit.ReadManifest(dir); err != nil {
		var missing *commit.IncompleteError
		if errors.As(err, &missing) && len(missing.Missing) == 0 {
			err = exitcode.Errorf(exitcode.Temporary, "%s: all parts are finished, and nothing is published: finalize does it", dir)
		}
		return started, err
	}
	s, err := commit.ReadStatus(dir)
	if err == nil && s.Run != nil {
		started = s.Run.Started
	}
	return started, err
}
