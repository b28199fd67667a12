package weights

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Param is a parameter a network wants: its name below the network's prefix, and its shape.
type Param struct {
	Name  string
	Shape []int
}

// Selection says which of two sets of weights to take, where a file holds both.
type Selection string

// The selections. The zero value means [Auto].
const (
	Auto Selection = "auto" // the moving average when all of it is there, otherwise the raw weights with a warning
	EMA  Selection = "ema"  // the moving average, or an error
	Raw  Selection = "raw"  // the weights as trained
)

// Names used by latent diffusion checkpoints.
const (
	WrapperPrefix = "model."     // the denoiser's wrapper: what the moving average covers
	EMAPrefix     = "model_ema." // the moving average
)

// ScheduleBuffers are the names of the diffusion schedule's tables in a state dict, for [BindOptions.Ignore]: a sampler
// computes them itself.
var ScheduleBuffers = []string{"betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
	"sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
	"sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1",
	"posterior_mean_coef2"}

// EMAName is the name of the shadow of a parameter: its name below the wrapper ("diffusion_model.…") with every dot
// removed, behind "model_ema.". The mapping cannot be inverted, so it is only ever applied to a list of parameters.
// ok is false for a name outside the wrapper, which has no shadow. (LitEma of the reference implementation.)
func EMAName(name string) (shadow string, ok bool) {
	rest, ok := strings.CutPrefix(name, WrapperPrefix)
	return EMAPrefix + strings.ReplaceAll(rest, ".", ""), ok
}

// emaState are the entries beside the shadows.
var emaState = []string{EMAPrefix + "decay", EMAPrefix + "num_updates"}

// BindOptions say how a file's names relate to the wanted parameters.
type BindOptions struct {
	// Prefix stands in front of every wanted name, for example "first_stage_model." or "model.diffusion_model.". Only
	// names of the file below it count as unexpected.
	Prefix string
	// Ignore lists names of the file that are not unexpected: a prefix when it ends with a dot ("loss."), a full name
	// otherwise ("scale_factor").
	Ignore []string
	// EMA selects between raw and averaged weights. Only parameters below [WrapperPrefix] have an average; without any,
	// Auto and EMA are the same as Raw.
	EMA Selection
}

// Binding is the tensors of a network.
type Binding struct {
	Tensors  Map  // by the name of the wanted parameter, behind [BindOptions.Prefix]
	EMA      bool // the moving average was taken
	Warnings []string
	Unused   int // tensors of the file that were not bound
}

// MismatchError lists how a file differs from what a network wants.
type MismatchError struct {
	Missing []string // wanted, not in the file
	Extra   []string // in the file, not wanted
	Shape   []string // "name: [found], want [wanted]"
}

const listed = 10

// Error names up to 10 of each kind and counts the others.
func (e *MismatchError) Error() string {
	var b strings.Builder
	part := func(what string, names []string) {
		if len(names) == 0 {
			return
		}
		if b.Len() > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%d %s: %s", len(names), what, abridge(names))
	}
	part("missing", e.Missing)
	part("of another shape", e.Shape)
	part("unexpected", e.Extra)
	return "weights do not fit the model: " + b.String()
}

func abridge(names []string) string {
	s := strings.Join(names[:min(len(names), listed)], ", ")
	if more := len(names) - listed; more > 0 {
		s += fmt.Sprintf(" … and %d more", more)
	}
	return s
}

// Bind finds every wanted parameter in the file. The error is a [*MismatchError] of class exitcode.Data when names or
// shapes differ in any way that opt does not allow.
func Bind(f *File, want []Param, opt BindOptions) (*Binding, error) {
	b := &Binding{Tensors: make(Map, len(want))}
	names, shadows := make([]string, len(want)), make([]string, len(want))
	for i, p := range want {
		names[i] = opt.Prefix + p.Name
		if s, ok := EMAName(names[i]); ok {
			shadows[i] = s
		}
	}
	switch err := b.choose(f, shadows, opt.EMA); {
	case err != nil:
		return nil, err
	case !b.EMA:
		clear(shadows)
	}
	var bad MismatchError
	used := make(map[string]bool, len(want))
	for i, p := range want {
		name := names[i]
		if shadows[i] != "" {
			used[name] = true // the raw twin is not unexpected
			name = shadows[i]
		}
		used[name] = true
		t, ok := f.byName[name]
		switch {
		case !ok:
			bad.Missing = append(bad.Missing, name)
		case !slices.Equal(t.Shape, p.Shape):
			bad.Shape = append(bad.Shape, fmt.Sprintf("%s: %v, want %v", name, t.Shape, p.Shape))
		default:
			b.Tensors[names[i]] = t
		}
	}
	// A raw selection leaves the shadows of its own parameters unused, which is not unexpected either.
	allowed := make(map[string]bool, len(want))
	for _, n := range names {
		if s, ok := EMAName(n); ok {
			allowed[s] = true
		}
	}
	if len(allowed) > 0 {
		for _, s := range emaState {
			allowed[s] = true
		}
	}
	for _, t := range f.tensors {
		if !used[t.Name] && !allowed[t.Name] && strings.HasPrefix(t.Name, opt.Prefix) && !ignored(t.Name, opt.Ignore) {
			bad.Extra = append(bad.Extra, t.Name)
		}
	}
	if len(bad.Missing)+len(bad.Extra)+len(bad.Shape) > 0 {
		return nil, f.named(exitcode.With(exitcode.Data, &bad))
	}
	b.Unused = len(f.tensors) - len(want)
	return b, nil
}

// choose decides between the moving average and the raw weights.
func (b *Binding) choose(f *File, shadows []string, sel Selection) error {
	var missing []string
	covered := 0
	for _, s := range shadows {
		if s == "" {
			continue
		}
		covered++
		if _, ok := f.byName[s]; !ok {
			missing = append(missing, s)
		}
	}
	switch sel {
	case Raw:
		return nil
	case Auto, EMA, "":
	default:
		return exitcode.Errorf(exitcode.Usage, "unknown selection of weights %q: use auto, ema or raw", sel)
	}
	switch {
	case covered == 0:
	case len(missing) == 0:
		b.EMA = true
	case sel == EMA:
		return exitcode.Errorf(exitcode.Data, "the moving average is incomplete: %d of %d missing: %s", len(missing), covered,
			abridge(missing))
	case len(missing) == covered:
		b.Warnings = append(b.Warnings, "the file holds no moving average; the raw weights are used")
	default:
		b.Warnings = append(b.Warnings, fmt.Sprintf("the moving average is incomplete (%d of %d missing: %s); the raw weights are used",
			len(missing), covered, abridge(missing)))
	}
	return nil
}

func ignored(name string, list []string) bool {
	for _, s := range list {
		if name == s || strings.HasSuffix(s, ".") && strings.HasPrefix(name, s) {
			return true
		}
	}
	return false
}
