package jobs

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ldm-batch/ldm-batch/io/commit"
)

// Progress tells how a run gets on: one line that is rewritten on a terminal, a log line now and then otherwise, nothing
// when quiet. A nil Progress is silent.
type Progress struct {
	mu       sync.Mutex
	w        io.Writer    // the terminal, or nil
	log      *slog.Logger // or nil
	every    time.Duration
	total    int64
	done     int64
	failed   int64
	start    time.Time
	last     time.Time
	shown    bool
	failures int // row failures logged one by one
}

// The first row failures are logged one by one; the rest are counted.
const failuresLogged = 10

// NewTerminalProgress draws on a terminal.
func NewTerminalProgress(w io.Writer, log *slog.Logger) *Progress {
	return &Progress{w: w, log: log, every: 200 * time.Millisecond}
}

// NewLogProgress logs a line every half minute.
func NewLogProgress(log *slog.Logger) *Progress {
	return &Progress{log: log, every: 30 * time.Second}
}

// Begin starts the count of a run that has total rows to do.
func (p *Progress) Begin(total int64) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.done, p.failed, p.start = total, 0, 0, time.Now()
	p.last = p.start
}

// RowDone counts a row that is written, failed or not.
func (p *Progress) RowDone() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if now := time.Now(); now.Sub(p.last) >= p.every {
		p.last = now
		p.show()
	}
}

// RowFailed counts a row that failed, and says why of the first ones.
func (p *Progress) RowFailed(msg string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed++
	if p.failures++; p.log != nil && p.failures <= failuresLogged {
		p.clear()
		p.log.Warn("row failed", "err", msg)
		if p.failures == failuresLogged {
			p.log.Warn("further row failures are only counted; the parts hold every message")
		}
	}
}

// PartDone tells of a part that is written.
func (p *Progress) PartDone(e commit.Entry) {
	if p == nil || p.log == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.Debug("part written", "part", e.Part, "rows", e.Rows, "failed", e.Failed, "bytes", e.Bytes)
}

// End clears the line.
func (p *Progress) End() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *Progress) clear() {
	if p.w != nil && p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// show draws or logs the state; write errors are ignored, since nobody may be listening.
func (p *Progress) show() {
	elapsed := time.Since(p.start).Seconds()
	rate := float64(p.done) / max(elapsed, 1e-9)
	eta := time.Duration(float64(p.total-p.done) / max(rate, 1e-9) * float64(time.Second)).Round(time.Second)
	if p.w == nil {
		if p.log != nil {
			p.log.Info("progress", "done", p.done, "total", p.total, "rows_per_s", round3(rate), "eta", eta.String(), "failed", p.failed)
		}
		return
	}
	const width = 24
	full := int(float64(width) * float64(p.done) / float64(max(p.total, 1)))
	bar := strings.Repeat("=", full) + strings.Repeat(" ", width-full)
	fmt.Fprintf(p.w, "\r[%s] %d/%d rows  %.3g rows/s  ETA %s  %d failed\x1b[K", bar, p.done, p.total, rate, eta, p.failed)
	p.shown = true
}

func round3(v float64) float64 {
	return float64(int64(v*1000+0.5)) / 1000
}
