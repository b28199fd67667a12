package commit

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// ErrLocked is wrapped by the error of [Open] when another run holds the folder.
var ErrLocked = errors.New("output folder is locked")

// ConflictError says that a folder belongs to another job. Its class is conflict.
type ConflictError struct {
	Dir         string
	There, Here string   // fingerprints
	Diff        []string // see [Diff]
}

func (e *ConflictError) Error() string {
	const shown = 8
	d := e.Diff
	more := ""
	if len(d) > shown {
		more = fmt.Sprintf("; and %d more", len(d)-shown)
		d = d[:shown]
	}
	return fmt.Sprintf("%s: belongs to another job: %s%s", e.Dir, strings.Join(d, "; "), more)
}

// IncompleteError says that parts are not finished. Its class is temporary.
type IncompleteError struct {
	Dir     string
	Parts   int
	Missing []int
}

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("%s: %d of %d parts are not finished: %s", e.Dir, len(e.Missing), e.Parts, Ranges(e.Missing))
}

// Ranges spells ascending numbers as "0, 3-5, 9".
func Ranges(n []int) string {
	var b strings.Builder
	for i := 0; i < len(n); {
		j := i
		for j+1 < len(n) && n[j+1] == n[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		if b.Len() > 200 {
			fmt.Fprintf(&b, "and %d more", len(n)-i)
			break
		}
		if j > i {
			fmt.Fprintf(&b, "%d-%d", n[i], n[j])
		} else {
			fmt.Fprint(&b, n[i])
		}
		i = j + 1
	}
	return b.String()
}

// outputError gives a file error of the output folder its class. A missing file here is an I/O error: somebody removed it
// under the run.
func outputError(err error) error {
	if err == nil {
		return nil
	}
	var classed *exitcode.Error
	if errors.As(err, &classed) {
		return err
	}
	if errors.Is(err, fs.ErrPermission) {
		return exitcode.With(exitcode.Permission, err)
	}
	return exitcode.With(exitcode.IO, err)
}
