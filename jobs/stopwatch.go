package jobs

import (
	"sync/atomic"
	"time"
)

// stopwatch adds up the time that stages beside compute work, over all their workers; they run at the same time as compute
// and as each other, so that the sum can exceed the time of the run.
type stopwatch struct {
	read, prepare, finish, write atomic.Int64 // nanoseconds
}

func (s *stopwatch) since(stage *atomic.Int64, start time.Time) { stage.Add(int64(time.Since(start))) }

// timed is the work of a stage, measured.
func (s *stopwatch) timed(stage *atomic.Int64, work func(*item)) func(*item) {
	if work == nil {
		return nil
	}
	return func(it *item) {
		defer s.since(stage, time.Now())
		work(it)
	}
}

// seconds is the time by stage.
func (s *stopwatch) seconds() map[string]float64 {
	m := map[string]float64{}
	for name, v := range map[string]*atomic.Int64{"read": &s.read, "prepare": &s.prepare, "finish": &s.finish, "write": &s.write} {
		m[name] = time.Duration(v.Load()).Seconds()
	}
	return m
}
