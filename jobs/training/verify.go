package training

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/jobs/folder"
)

// Verify hashes every checkpoint that the index of a training's folder names, and the published model. With problems it returns both
// a verification and an error of class data.
func Verify(dir string) (*folder.Verification, error) {
	r, err := commit.Verify(dir)
	if err != nil {
		return nil, err
	}
	x, err := readIndex(atomicfile.OS, dir)
	if err != nil {
		return nil, err
	}
	check := func(name string, want File) {
		sum, size, err := weights.SHA256(filepath.Join(dir, name))
		switch {
		case err != nil:
			r.Problems = append(r.Problems, commit.Problem{File: name, Problem: err.Error()})
		case sum != want.SHA256:
			r.Problems = append(r.Problems, commit.Problem{File: name, Problem: fmt.Sprintf("%d bytes with SHA-256 %s, the index says %d with %s", size, sum, want.Bytes, want.SHA256)})
		default:
			r.Files++
			r.Bytes += size
		}
	}
	for _, c := range x.Checkpoints {
		check(checkpointsName+"/"+c.Model.Name, c.Model)
		check(checkpointsName+"/"+c.State.Name, c.State)
	}
	if _, err := os.Stat(filepath.Join(dir, modelName)); err == nil || r.State == commit.Finished {
		c, _ := x.last()
		check(modelName, c.Model)
	}
	v := &folder.Verification{Schema: "ldm-batch/verify/v1", Report: r}
	if err = r.Err(); err != nil {
		v.ExitCode, v.Error = int(exitcode.Of(err)), err.Error()
	}
	return v, err
}
