package commit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Holder describes a run that holds a lock. It is written into the lock file for people and for [ReadStatus]; what counts
// is the kernel's lock, which ends with its process, however that ends.
type Holder struct {
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	BootID  string    `json:"boot_id,omitempty"`
	Started time.Time `json:"started"`
	Shard   string    `json:"shard,omitempty"`
}

func (h Holder) String() string {
	s := fmt.Sprintf("pid %d on %s since %s", h.PID, h.Host, h.Started.UTC().Format(time.RFC3339))
	if h.Shard != "" {
		s += ", shard " + h.Shard
	}
	return s
}

func self(s Shard) Holder {
	h := Holder{PID: os.Getpid(), BootID: bootID(), Started: time.Now().UTC().Truncate(time.Second)}
	h.Host, _ = os.Hostname()
	if s.partial() {
		h.Shard = s.String()
	}
	return h
}

// bootID tells one boot of a machine from the next; "" where the system has none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// gone reports that the holder is certainly dead: its process does not exist, on this boot of this machine.
func (h Holder) gone() bool {
	host, _ := os.Hostname()
	if h.Host != host {
		return false
	}
	return h.BootID != bootID() || !alive(h.PID)
}

// lock is a held file lock.
type lock struct {
	f    *os.File
	note bool // the file tells who holds it
}

const lockPoll = 50 * time.Millisecond

// acquire takes the lock file at path, waiting at most wait. With a holder given, an exclusive lock notes it in the file.
func acquire(ctx context.Context, path string, exclusive bool, wait time.Duration, note *Holder) (*lock, error) {
	deadline := time.Now().Add(wait)
	for {
		l, err := try(path, exclusive)
		if err != nil {
			return nil, outputError(fmt.Errorf("lock %s: %w", path, err))
		}
		if l != nil {
			if note == nil {
				return l, nil
			}
			l.note = true
			if err := l.write(*note); err != nil {
				l.release()
				return nil, outputError(fmt.Errorf("lock %s: %w", path, err))
			}
			return l, nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, busy(path)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for lock %s: %w", path, context.Cause(ctx))
		case <-time.After(min(lockPoll, left)):
		}
	}
}

// try takes the lock if it is free; nil without an error means that it is not.
func try(path string, exclusive bool) (*lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	ok, err := flock(f, exclusive)
	if err == nil && ok {
		// A lock on a file that has lost its name excludes nobody.
		var a, b os.FileInfo
		if a, err = f.Stat(); err == nil {
			if b, err = os.Stat(path); err == nil && os.SameFile(a, b) {
				return &lock{f: f}, nil
			}
			if errors.Is(err, os.ErrNotExist) {
				err = nil
			}
		}
	}
	return nil, errors.Join(err, f.Close())
}

func (l *lock) write(h Holder) error {
	b, err := encode(h)
	if err != nil {
		return err
	}
	if err := l.f.Truncate(0); err != nil {
		return err
	}
	_, err = l.f.WriteAt(append(b, '\n'), 0)
	return err
}

// release gives the lock back. The file stays: removing it would let two runs lock two files of the same name.
func (l *lock) release() error {
	if l == nil {
		return nil
	}
	var err error
	if l.note {
		err = l.f.Truncate(0)
	}
	return errors.Join(err, l.f.Close())
}

// busy says who holds the lock at path.
func busy(path string) error {
	who := "an unknown process"
	if hs := holders(filepath.Dir(path)); len(hs) > 0 {
		var s []string
		for _, h := range hs[:min(len(hs), 3)] {
			s = append(s, h.String())
		}
		who = strings.Join(s, "; ")
		if len(hs) > 3 {
			who += fmt.Sprintf("; and %d more", len(hs)-3)
		}
	}
	return exitcode.With(exitcode.Temporary, fmt.Errorf("%s: %w by %s", filepath.Dir(filepath.Dir(path)), ErrLocked, who))
}

// holders reads who is noted in the lock files of a control folder, leaving out those that are certainly dead.
func holders(control string) []Holder {
	paths, err := filepath.Glob(filepath.Join(escapeGlob(control), lockName+"*"))
	if err != nil {
		return nil
	}
	var hs []Holder
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			continue
		}
		var h Holder
		if json.NewDecoder(io.LimitReader(f, 4096)).Decode(&h) == nil && !h.gone() {
			hs = append(hs, h)
		}
		f.Close()
	}
	return hs
}

func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
