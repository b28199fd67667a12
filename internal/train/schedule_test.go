package train

import (
	"math"
	"strings"
	"testing"
)

func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Multiplier
		want map[int64]float64
	}{
		{"constant", Schedule{Kind: Constant, Steps: 10}, map[int64]float64{0: 1, 9: 1, 100: 1}},
		{"warm-up", Schedule{Kind: Constant, Warmup: 4, Steps: 10}, map[int64]float64{0: 0, 1: 0.25, 4: 1, 9: 1}},
		{"warm-up from a start", Schedule{Kind: Constant, Warmup: 4, Steps: 10, Start: 0.2}, map[int64]float64{0: 0.2, 2: 0.6, 4: 1}},
		{"linear", Schedule{Kind: Linear, Steps: 10}, map[int64]float64{0: 1, 5: 0.5, 10: 0, 20: 0}},
		{"linear to an end", Schedule{Kind: Linear, Warmup: 2, Steps: 12, End: 0.1}, map[int64]float64{2: 1, 7: 0.55, 12: 0.1}},
		{"cosine", Schedule{Kind: Cosine, Steps: 8}, map[int64]float64{0: 1, 2: 0.5 * (1 + math.Cos(math.Pi/4)), 4: 0.5, 8: 0}},
		{"reference warm-up cosine", WarmUpCosine{WarmUp: 10, Start: 1e-6, Max: 1, Min: 0.1, Decay: 110},
			map[int64]float64{0: 1e-6, 5: 1e-6 + (1-1e-6)/2, 10: 1, 60: 0.55, 110: 0.1, 500: 0.1}},
		{"reference linear", Cycles{List: []Cycle{{WarmUp: 10, Length: 100, Start: 0, Max: 1, Min: 0.5}}, Straight: true},
			map[int64]float64{0: 0, 5: 0.5, 10: 0.95, 50: 0.75, 100: 0.5}},
		{"reference cycles", Cycles{List: []Cycle{{WarmUp: 2, Length: 12, Start: 0, Max: 1, Min: 0}, {WarmUp: 0, Length: 10, Start: 0, Max: 0.5, Min: 0.1}}},
			map[int64]float64{1: 0.5, 2: 1, 7: 0.5, 12: 0, 17: 0.3, 22: 0.1}},
	} {
		for step, want := range c.want {
			if got := c.s.Factor(step); math.Abs(got-want) > 1e-12 {
				t.Errorf("%s: factor %v at step %d, want %v", c.name, got, step, want)
			}
		}
	}
}

func TestScheduleValidate(t *testing.T) {
	for _, s := range []Schedule{{}, {Kind: "step", Steps: 1}, {Kind: Linear}, {Kind: Linear, Steps: 5, Warmup: 6}, {Kind: Cosine, Steps: 5, End: 2}, {Kind: Cosine, Steps: 5, Start: math.NaN()}} {
		if s.Validate() == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
}

// TestLambda reads schedulers as model configurations write them.
func TestLambda(t *testing.T) {
	churches := map[string]any{"warm_up_steps": []any{10000}, "cycle_lengths": []any{10000000000000}, "f_start": []any{1.e-6}, "f_max": []any{1.0}, "f_min": []any{1.0}}
	s, err := Lambda("ldm.lr_scheduler.LambdaLinearScheduler", churches)
	if err != nil {
		t.Fatal(err)
	}
	for step, want := range map[int64]float64{0: 1e-6, 5000: (1-1e-6)/2 + 1e-6, 10000: 1, 1 << 40: 1} {
		if got := s.Factor(step); math.Abs(got-want) > 1e-12 {
			t.Errorf("factor %v at step %d, want %v", got, step, want)
		}
	}
	if _, err := Lambda("ldm.lr_scheduler.LambdaWarmUpCosineScheduler", map[string]any{
		"warm_up_steps": 1000, "lr_min": 0.1, "lr_max": 1, "lr_start": 0, "max_decay_steps": 500000, "verbosity_interval": 0,
	}); err != nil {
		t.Error(err)
	}
	for want, bad := range map[string]struct {
		target string
		params map[string]any
	}{
		"not supported":          {"torch.optim.lr_scheduler.StepLR", nil},
		"want a number":          {"x.LambdaWarmUpCosineScheduler", map[string]any{"warm_up_steps": "many"}},
		"is not more than":       {"x.LambdaWarmUpCosineScheduler", map[string]any{"warm_up_steps": 5, "max_decay_steps": 5, "lr_min": 0, "lr_max": 1, "lr_start": 0}},
		"want a list of numbers": {"x.LambdaLinearScheduler", map[string]any{"warm_up_steps": 5}},
		"lists of one length":    {"x.LambdaLinearScheduler", map[string]any{"warm_up_steps": []any{1}, "cycle_lengths": []any{5, 6}, "f_start": []any{0}, "f_max": []any{1}, "f_min": []any{1}}},
	} {
		if _, err := Lambda(bad.target, bad.params); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", bad.target, err, want)
		}
	}
}

func TestAverageDecay(t *testing.T) {
	for n, want := range map[int64]float64{1: 2. / 11, 2: 3. / 12, 1000: 1001. / 1010, 1 << 40: 0.9999} {
		if got := AverageDecay(0.9999, n); got != want {
			t.Errorf("decay %v at update %d, want %v", got, n, want)
		}
	}
}
