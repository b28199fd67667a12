package dataset

import (
	"cmp"
	"errors"
	"fmt"
	"io"
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

// carrier is how a file is read. Names tell it; the content only of a file that the user names and whose name tells nothing.
type carrier uint8

const (
	carrierParquet carrier = iota // and whatever has another name
	carrierArrow
	carrierZip
	carrierTar
	carrierPicture
	carrierText // a file beside a picture that holds the value of a column
)

func carrierOf(name string) (c carrier, known bool) {
	name = strings.ToLower(name)
	for _, x := range []struct {
		ext     string
		carrier carrier
	}{
		{".parquet", carrierParquet}, {".arrow", carrierArrow}, {".feather", carrierArrow}, {".ipc", carrierArrow}, {".zip", carrierZip},
		{".tar", carrierTar}, {".tar.gz", carrierTar}, {".tgz", carrierTar}, {".tar.zst", carrierTar}, {".tzst", carrierTar},
	} {
		if strings.HasSuffix(name, x.ext) {
			return x.carrier, true
		}
	}
	if isPicture(name) {
		return carrierPicture, true
	}
	return carrierParquet, false
}

// family groups carriers: of a folder, the files of the first family it holds are read.
func (c carrier) family() int {
	switch c {
	case carrierParquet, carrierArrow:
		return 0
	case carrierZip, carrierTar:
		return 1
	}
	return 2
}

// found is one file of the data set before it is opened.
type found struct {
	carrier    carrier
	path       string // to open
	name       string // relative to the folder named, or the base name; slashes
	size       int64
	modTime    time.Time
	partitions []Partition
	root       string // of a picture in a folder: the folder named
	err        error  // of a picture: why it cannot be read
}

// table says whether a file has columns.
func (f found) table() bool { return f.carrier.family() == 0 }

// findFiles expands a path of the job into files: those the user names as they are, and those of folders. Names that begin with
// _ or . are not data. The order is by path within each item, items in the order given. It counts what it passes over.
//
// Files that end in . and one of texts are what is found of columns of pictures.
func findFiles(path string, texts ...string) (all []found, skipped listing, err error) {
	items := []string{path}
	if _, err := os.Stat(path); err != nil {
		items = strings.Split(path, ",")
	}
	seen := map[string]bool{}
	for _, item := range items {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		matches, err := expand(item)
		if err != nil {
			return nil, skipped, err
		}
		for _, m := range matches {
			st, err := os.Stat(m)
			if err != nil {
				return nil, skipped, fmt.Errorf("input: %w", err)
			}
			var list []found
			if st.IsDir() {
				list, err = walk(m+string(filepath.Separator)+".", // a link would not be walked into
					texts, &skipped)
			} else {
				k, known := carrierOf(m)
				switch {
				case known:
				case hasColumn(m, texts):
					k = carrierText
				case st.Mode().IsRegular() && startsAsArrow(m):
					k = carrierArrow
				}
				list = []found{{carrier: k, path: m, name: filepath.Base(m)}}
				err = list[0].stat()
			}
			if err != nil {
				return nil, skipped, err
			}
			for _, f := range list {
				if clean := filepath.Clean(f.path); !seen[clean] {
					seen[clean] = true
					all = append(all, f)
				}
			}
		}
	}
	uniqueNames(all)
	return all, skipped, nil
}

// startsAsArrow says whether a file whose name tells nothing is an Arrow file or stream. What cannot be read is found out later.
func startsAsArrow(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(arrowMagic))
	n, _ := io.ReadFull(f, head)
	return string(head) == arrowMagic || n >= len(arrowContinuation) && string(head[:len(arrowContinuation)]) == arrowContinuation
}

// stat fills in what the file system tells. A picture that is not there concerns its row only.
func (f *found) stat() error {
	f.name = filepath.ToSlash(f.name)
	st, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("input: %w", err)
	}
	if !st.Mode().IsRegular() {
		return exitcode.Errorf(exitcode.NoInput, "input: %s is neither a file nor a folder", f.path)
	}
	f.size, f.modTime = st.Size(), st.ModTime()
	if f.table() {
		f.partitions, err = partitionsOf(f.path)
	}
	return err
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

// errOutside is of a link.
var errOutside = errors.New("leads out of its folder, or nowhere that can be read")

// walk returns the files of a folder and its sub-folders that are read: tables, else archives, else pictures. Links to folders
// are not followed, and those of pictures only within the folder.
func walk(dir string, texts []string, skipped *listing) ([]found, error) {
	var families [3][]found
	var beside []found
	var here listing
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("input: %w", err)
		case path == dir:
			return nil
		case hidden(d.Name()):
			here.hidden++
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		k, known := carrierOf(path)
		if !known && hasColumn(path, texts) {
			k = carrierText
		} else if !known {
			here.other++
			return nil
		}
		f := found{carrier: k, path: path}
		if f.name, err = filepath.Rel(dir, path); err != nil {
			return err
		}
		if k < carrierPicture {
			err = f.stat()
		} else if f.root = dir; !f.statPicture(d) {
			here.other++
			return nil
		}
		if k == carrierText {
			beside = append(beside, f)
		} else {
			families[k.family()] = append(families[k.family()], f)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, list := range families {
		if len(list) == 0 {
			continue
		}
		for _, rest := range families[i+1:] {
			here.other += len(rest)
		}
		if i == 2 {
			slices.SortFunc(list, func(a, b found) int { return cmp.Compare(a.name, b.name) })
			list = append(list, beside...)
		} else {
			here.other += len(beside)
		}
		skipped.hidden += here.hidden
		skipped.other += here.other
		return list, nil
	}
	skipped.hidden += here.hidden
	skipped.other += here.other
	return nil, nil
}

// statPicture fills in what the file system tells of a picture of a folder; false for what is no file.
func (f *found) statPicture(d fs.DirEntry) bool {
	f.name = filepath.ToSlash(f.name)
	var st fs.FileInfo
	var err error
	if d.Type()&fs.ModeSymlink == 0 {
		st, err = d.Info()
	} else {
		var root *os.Root
		if root, err = os.OpenRoot(f.root); err == nil {
			st, err = root.Stat(filepath.FromSlash(f.name))
			root.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			err = errOutside
		}
	}
	if err != nil {
		f.err = err
		return true
	}
	f.size, f.modTime = st.Size(), st.ModTime()
	return st.Mode().IsRegular()
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

// uniqueNames gives files whose names collide their whole path as name: ids are made of names. Pictures get theirs together,
// since pairs of them go by their names.
func uniqueNames(all []found) {
	count := map[string]int{}
	collide := false
	for _, f := range all {
		count[f.name]++
		collide = collide || f.carrier >= carrierPicture && count[f.name] > 1
	}
	for i := range all {
		if f := &all[i]; count[f.name] > 1 || collide && f.carrier >= carrierPicture {
			f.name = filepath.ToSlash(filepath.Clean(f.path))
		}
	}
}
