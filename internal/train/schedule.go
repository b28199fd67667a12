package train

import (
	"math"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// ScheduleKind names how a learning rate changes.
type ScheduleKind string

// The schedules. Every one begins with Warmup steps on which the factor grows linearly from Start to 1.
const (
	Constant ScheduleKind = "constant"
	Linear   ScheduleKind = "linear" // down to End at the last step
	Cosine   ScheduleKind = "cosine" // half a cosine down to End at the last step
)

// Schedule gives the factor of the learning rate at every step.
type Schedule struct {
	Kind       ScheduleKind
	Warmup     int64   // steps
	Steps      int64   // of the whole run
	Start, End float64 // factors before and after
}

// Validate checks names and ranges.
func (s Schedule) Validate() error {
	switch {
	case s.Kind != Constant && s.Kind != Linear && s.Kind != Cosine:
		return exitcode.Errorf(exitcode.Usage, "schedule %q is not one of constant, linear, cosine", s.Kind)
	case s.Warmup < 0 || s.Steps < 1 || s.Warmup > s.Steps:
		return exitcode.Errorf(exitcode.Usage, "schedule: %d steps of warm-up in %d steps", s.Warmup, s.Steps)
	case !(s.Start >= 0 && s.Start <= 1 && s.End >= 0 && s.End <= 1):
		return exitcode.Errorf(exitcode.Usage, "schedule: factors %v and %v are not in [0, 1]", s.Start, s.End)
	}
	return nil
}

// Factor is that of the step with a number, counted from 0.
func (s Schedule) Factor(step int64) float64 {
	if step < s.Warmup {
		return s.Start + (1-s.Start)*float64(step)/float64(s.Warmup)
	}
	at := float64(step-s.Warmup) / float64(max(s.Steps-s.Warmup, 1))
	at = min(at, 1)
	switch s.Kind {
	case Linear:
		return 1 - at*(1-s.End)
	case Cosine:
		return s.End + (1-s.End)*0.5*(1+math.Cos(math.Pi*at))
	}
	return 1
}

// Multiplier is a factor of the learning rate as a function of the step, counted from 0.
type Multiplier interface{ Factor(step int64) float64 }

// WarmUpCosine is LambdaWarmUpCosineScheduler of the reference: linear from Start to Max, then a cosine to Min at step Decay, then
// Min. The factors are learning rates themselves when the base learning rate is 1.
type WarmUpCosine struct {
	WarmUp          int64
	Start, Max, Min float64
	Decay           int64
}

// Factor implements [Multiplier].
func (s WarmUpCosine) Factor(step int64) float64 {
	if step < s.WarmUp {
		return (s.Max-s.Start)/float64(s.WarmUp)*float64(step) + s.Start
	}
	t := min(float64(step-s.WarmUp)/float64(s.Decay-s.WarmUp), 1)
	return s.Min + 0.5*(s.Max-s.Min)*(1+math.Cos(t*math.Pi))
}

// Cycle is one cycle of [Cycles].
type Cycle struct {
	WarmUp, Length  int64
	Start, Max, Min float64
}

// Cycles is LambdaWarmUpCosineScheduler2 of the reference, or with Straight its LambdaLinearScheduler: cycles one after the
// other, each with its own warm-up and decay. Past the last cycle the last one's end stays.
type Cycles struct {
	List     []Cycle
	Straight bool
}

// Factor implements [Multiplier]. The reference's linear cycles decay over the whole length, counted from the cycle's start.
func (s Cycles) Factor(step int64) float64 {
	last := len(s.List) - 1
	for i, c := range s.List {
		if step > c.Length && i < last {
			step -= c.Length
			continue
		}
		step = min(step, c.Length)
		switch {
		case step < c.WarmUp:
			return (c.Max-c.Start)/float64(c.WarmUp)*float64(step) + c.Start
		case s.Straight:
			return c.Min + (c.Max-c.Min)*float64(c.Length-step)/float64(c.Length)
		}
		t := min(float64(step-c.WarmUp)/float64(c.Length-c.WarmUp), 1)
		return c.Min + 0.5*(c.Max-c.Min)*(1+math.Cos(t*math.Pi))
	}
	return 1
}
