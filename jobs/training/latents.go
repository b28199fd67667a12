package training

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// firstPart finds an Arrow file among what a job names as its input: a file, a glob, a folder, or several separated by commas.
func firstPart(paths string) (string, error) {
	for _, p := range strings.Split(paths, ",") {
		matches, err := filepath.Glob(p)
		if err != nil || len(matches) == 0 {
			matches = []string{p}
		}
		slices.Sort(matches)
		for _, m := range matches {
			found := ""
			err := filepath.WalkDir(m, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				if !d.IsDir() && filepath.Ext(path) == ".arrow" && found == "" {
					found = path
					return filepath.SkipAll
				}
				return nil
			})
			if err != nil {
				return "", err
			}
			if found != "" {
				return found, nil
			}
		}
	}
	return "", exitcode.Errorf(exitcode.NoInput, "%s holds no Arrow file with latents", paths)
}
