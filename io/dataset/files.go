package dataset

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Partition is a column given by a folder name key=value. The value is nil for the default partition.
type Partition struct {
	Key   string
	Value *string
}

const hiveDefault = "__HIVE_DEFAULT_PARTITION__"

// found is one file of the data set before it is opened.
type found struct {
	path       string // to open
	name       string // relative to the folder named, or the base name; slashes
	size       int64
	modTime    time.Time
	partitions []Partition
}

// findFiles expands a path of the job into files: those the user names as they are; in folders those whose lower-case extension
// is in exts. Names that begin with _ or . are not data. The order is by path within each item, items in the order given.
func findFiles(path string, exts ...string) ([]found, error) {
	items := []string{path}
	if _, err := os.Stat(path); err != nil {
		items = strings.Split(path, ",")
	}
	var all []found
	seen := map[string]bool{}
	add := func(path, name string) error {
		clean := filepath.Clean(path)
		if seen[clean] {
			return nil
		}
		seen[clean] = true
		st, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("input: %w", err)
		}
		if !st.Mode().IsRegular() {
			return exitcode.Errorf(exitcode.NoInput, "input: %s is neither a file nor a folder", path)
		}
		parts, err := partitionsOf(path)
		if err != nil {
			return err
		}
		all = append(all, found{path, filepath.ToSlash(name), st.Size(), st.ModTime(), parts})
		return nil
	}
	for _, item := range items {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		matches, err := expand(item)
		if err != nil {
			return nil, err
		}
		for _, m := range matches {
			st, err := os.Stat(m)
			if err != nil {
				return nil, fmt.Errorf("input: %w", err)
			}
			if !st.IsDir() {
				err = add(m, filepath.Base(m))
			} else {
				err = walk(m, exts, add)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	uniqueNames(all)
	return all, nil
}

// expand returns the files and folders an item stands for, sorted.
func expand(item string) ([]string, error) {
	if _, err := os.Lstat(item); err == nil {
		return []string{item}, nil
	} else if !strings.ContainsAny(item, "*?[") {
		return nil, fmt.Errorf("input: %w", err)
	}
	if strings.Contains(item, "**") {
		return nil, exitcode.Errorf(exitcode.Usage, "input: pattern %q: ** is not supported, name the folder", item)
	}
	all, err := filepath.Glob(item)
	if err != nil {
		return nil, exitcode.Errorf(exitcode.Usage, "input: pattern %q: %w", item, err)
	}
	matches := slices.DeleteFunc(all, func(m string) bool { return hidden(filepath.Base(m)) })
	if len(matches) == 0 {
		return nil, exitcode.Errorf(exitcode.NoInput, "input: no file matches %q", item)
	}
	slices.Sort(matches)
	return matches, nil
}

func hidden(name string) bool { return strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") }

// walk adds the files of a folder and its sub-folders.
func walk(dir string, exts []string, add func(path, name string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("input: %w", err)
		case path == dir:
			return nil
		case hidden(d.Name()):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || !slices.Contains(exts, strings.ToLower(filepath.Ext(path))):
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return add(path, name)
	})
}

// partitionsOf reads the folders named key=value on the way to a file.
func partitionsOf(path string) ([]Partition, error) {
	var parts []Partition
	for _, dir := range strings.Split(filepath.ToSlash(filepath.Dir(path)), "/") {
		key, value, ok := strings.Cut(dir, "=")
		if !ok || key == "" {
			continue
		}
		p := Partition{Key: key}
		if value != hiveDefault {
			v, err := url.PathUnescape(value)
			if err != nil {
				return nil, errorf(SchemaUnsupported, "input: folder %q of %s: %w", dir, path, err)
			}
			p.Value = &v
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// uniqueNames gives files whose names collide their whole path as name: ids are made of names.
func uniqueNames(all []found) {
	count := map[string]int{}
	for _, f := range all {
		count[f.name]++
	}
	for i := range all {
		if count[all[i].name] > 1 {
			all[i].name = filepath.ToSlash(filepath.Clean(all[i].path))
		}
	}
}
