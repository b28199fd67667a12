// Package folder answers questions about output folders.
//
// Concept: a thin layer over the commit protocol that gives its answers a schema name and a text for people.
// Data flow: a path in, a document out. Nothing is locked but by Finalize, and nothing is written but by it.
// Errors: those of the commit protocol, with their classes.
package folder

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
)

// Status is the state of a folder.
type Status struct {
	Schema string `json:"schema"` // ldm-batch/status/v1
	commit.Status
}

// ReadStatus describes the folder at dir without locking it.
func ReadStatus(dir string) (*Status, error) {
	s, err := commit.ReadStatus(dir)
	if err != nil {
		return nil, err
	}
	return &Status{"ldm-batch/status/v1", s}, nil
}

// shownPending is how many unfinished parts are listed one by one.
const shownPending = 10

// Text is the status for people.
func (s *Status) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %d of %d parts, %d of %d rows (%d ok, %d skipped, %d failed), %d bytes\n",
		s.Dir, s.State, s.Done.Parts, s.Parts, s.Done.Rows, s.Rows, s.Done.OK, s.Done.Skipped, s.Done.Failed, s.Done.Bytes)
	fmt.Fprintf(&b, "fingerprint %s\n", s.Fingerprint)
	for _, r := range s.Reasons {
		fmt.Fprintf(&b, "%d rows: %s\n", r.Count, r.Reason)
	}
	for i, p := range s.Pending {
		if i == shownPending {
			fmt.Fprintf(&b, "and %d more parts\n", len(s.Pending)-i)
			break
		}
		fmt.Fprintf(&b, "part %d: %s\n", p.Part, p.Why)
	}
	for _, h := range s.Holders {
		fmt.Fprintf(&b, "in use by %s\n", h)
	}
	if s.Run != nil {
		fmt.Fprintf(&b, "run %d started %s", s.Run.Attempt, s.Run.Started.Format(time.RFC3339))
		if s.Run.Ended != nil {
			fmt.Fprintf(&b, ", ended %s", s.Run.Ended.Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Verification is what hashing every part found.
type Verification struct {
	Schema string `json:"schema"` // ldm-batch/verify/v1
	commit.Report
	ExitCode int    `json:"exit_code"`
	Error    string `json:"error,omitempty"`
}

// Verify hashes every part of the folder. With problems it returns both a verification and an error of class data.
func Verify(dir string) (*Verification, error) {
	r, err := commit.Verify(dir)
	if err != nil {
		return nil, err
	}
	v := &Verification{Schema: "ldm-batch/verify/v1", Report: r}
	if err = r.Err(); err != nil {
		v.ExitCode, v.Error = int(exitcode.Of(err)), err.Error()
	}
	return v, err
}

// Text is the verification for people, with every problem.
func (v *Verification) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %d parts with %d rows and %d bytes are good, %d problems\n", v.Dir, v.State, v.Parts, v.Rows, v.Bytes, len(v.Problems))
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "%s: %s\n", p.File, p.Problem)
	}
	return b.String()
}

// Published is what a folder holds after it was finalized.
type Published struct {
	Schema      string        `json:"schema"` // ldm-batch/finalize/v1
	Dir         string        `json:"dir"`
	State       commit.State  `json:"state"`
	Fingerprint string        `json:"fingerprint"`
	Totals      commit.Totals `json:"totals"`
}

// Finalize writes the manifest of a folder whose parts are all finished. Missing parts are an error of class temporary that
// names them.
func Finalize(ctx context.Context, dir string) (*Published, error) {
	m, err := commit.Finalize(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &Published{"ldm-batch/finalize/v1", dir, commit.Finished, m.Fingerprint, m.Totals}, nil
}

// Text is the outcome for people.
func (p *Published) Text() string {
	return fmt.Sprintf("%s: %s, %d rows in %d parts (%d failed), %d bytes\n", p.Dir, p.State, p.Totals.Rows, p.Totals.Parts, p.Totals.Failed, p.Totals.Bytes)
}
