package train

import (
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Lambda is the scheduler that a model configuration names by its class, with the parameters as they stand there.
func Lambda(target string, params map[string]any) (Multiplier, error) {
	p := lambdaParams{target: target, values: params}
	switch class := target[strings.LastIndexByte(target, '.')+1:]; class {
	case "LambdaWarmUpCosineScheduler":
		s := WarmUpCosine{WarmUp: int64(p.number("warm_up_steps")), Start: p.number("lr_start"), Max: p.number("lr_max"), Min: p.number("lr_min"), Decay: int64(p.number("max_decay_steps"))}
		if p.err == nil && (s.WarmUp < 0 || s.Decay <= s.WarmUp) {
			p.fail("max_decay_steps %d is not more than warm_up_steps %d", s.Decay, s.WarmUp)
		}
		return s, p.err
	case "LambdaWarmUpCosineScheduler2", "LambdaLinearScheduler":
		warm, length := p.list("warm_up_steps"), p.list("cycle_lengths")
		start, top, low := p.list("f_start"), p.list("f_max"), p.list("f_min")
		n := len(length)
		if p.err == nil && (n == 0 || len(warm) != n || len(start) != n || len(top) != n || len(low) != n) {
			p.fail("warm_up_steps, f_min, f_max, f_start and cycle_lengths must be lists of one length")
		}
		if p.err != nil {
			return nil, p.err
		}
		s := Cycles{Straight: class == "LambdaLinearScheduler"}
		for i := range n {
			c := Cycle{WarmUp: int64(warm[i]), Length: int64(min(length[i], 1<<53)), Start: start[i], Max: top[i], Min: low[i]}
			if c.WarmUp < 0 || c.Length <= c.WarmUp {
				p.fail("cycle %d: length %d is not more than warm_up_steps %d", i, c.Length, c.WarmUp)
			}
			s.List = append(s.List, c)
		}
		return s, p.err
	}
	return nil, exitcode.Errorf(exitcode.Usage, "scheduler_config: %s is not supported; supported are LambdaWarmUpCosineScheduler, LambdaWarmUpCosineScheduler2 and LambdaLinearScheduler", target)
}

// lambdaParams reads parameters and keeps the first error.
type lambdaParams struct {
	target string
	values map[string]any
	err    error
}

func (p *lambdaParams) fail(format string, args ...any) {
	if p.err == nil {
		p.err = exitcode.Errorf(exitcode.Usage, "scheduler_config: %s: "+format, append([]any{p.target}, args...)...)
	}
}

func (p *lambdaParams) number(key string) float64 {
	v, ok := float(p.values[key])
	if !ok {
		p.fail("%s is %v, want a number", key, p.values[key])
	}
	return v
}

func (p *lambdaParams) list(key string) []float64 {
	list, ok := p.values[key].([]any)
	var out []float64
	for _, x := range list {
		v, isNumber := float(x)
		ok = ok && isNumber
		out = append(out, v)
	}
	if !ok {
		p.fail("%s is %v, want a list of numbers", key, p.values[key])
	}
	return out
}

// float reads a number as YAML decodes it.
func float(v any) (float64, bool) {
	switch x := v.(type) {
	case int:
		return float64(x), true
	case int64:
		return float64(x), true
	case uint64:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}
