package plan

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/ir"
)

// passes are applied in this order. Passes ending in Opt may be left out without changing any result beyond rounding; the
// others are needed for a plan to be complete.
var passes = []struct {
	name string
	run  func(*lowering) error
}{
	{"import", importProgram},              // one step for each operation; token views; 1x1 convolutions become Linear
	{"zero-gradients", zerosOpt},           // gradients that are zero are not computed
	{"collapse-single-token", collapseOpt}, // attention over one key is that key's value
	{"fold-single-head", foldOpt},          // one head needs two products of its input, not four
	{"fuse-gradients", fuseGradientsOpt},   // one pass over the data for what has one pass forward
	{"fuse-norm", fuseNormOpt},             // GroupNorm, modulation and SiLU in one pass over the data
	{"fuse-geglu", fuseGEGLUOpt},           // the gate is applied while the product is still in registers
	{"fuse-upsample", fuseUpsampleOpt},     // a convolution reads the doubled image without writing it
	{"average-last", averageLastOpt},       // averages of a product's columns, which are fewer than its operand's
	{"fuse-epilogue", fuseEpilogueOpt},     // bias per sample, activation and residual in the product's epilogue
	{"merge-projections", mergeOpt},        // q, k and v of one input in one product
	{"dead-code", deadCode},                // steps whose result nobody reads
	{"direct-gradients", directOpt},        // gradients of weights go where they are added up
	{"early-outputs", outputsOpt},          // results are handed out when they are there
	{"concat-in-place", concatOpt},         // parts are written where the whole is
	{"split-batch", splitOpt},              // parts of a batch whose values stay in the caches, one after the other
	{"recompute", recompute},               // a smaller arena for more work, where there is a budget
	{"cost", cost},                         // floating-point operations
	{"arena", arena},                       // in-place outputs, lifetimes, offsets
}

// Passes lists the names of the lowering passes in order.
func Passes() []string {
	names := make([]string, len(passes))
	for i, p := range passes {
		names[i] = p.name
	}
	return names
}

// Options say what a plan is for, beside outputs.
type Options struct {
	// Gradients names, for each of the last outputs of the program, the parameter whose gradient it is. Such outputs are no ports:
	// they are added to the gradients of the parameters.
	Gradients []string
	// Budget is the size of the arena in bytes above which values are given up and computed again, so far as that helps; 0 is no
	// limit.
	Budget int64
}

// Lower turns a program into a plan that computes its outputs.
func Lower(p *ir.Program) (*Plan, error) { return LowerFor(p, Options{}) }

// LowerFor turns a program into a plan.
func LowerFor(p *ir.Program, o Options) (*Plan, error) {
	if len(o.Gradients) > len(p.Outputs) {
		return nil, fmt.Errorf("plan %s: %d gradients of %d outputs", p.Name, len(o.Gradients), len(p.Outputs))
	}
	l := &lowering{prog: p, options: o, plan: &Plan{Name: p.Name}}
	for _, pass := range passes {
		if err := pass.run(l); err != nil {
			return nil, fmt.Errorf("plan %s: %s: %w", p.Name, pass.name, err)
		}
	}
	return l.plan, nil
}

// lowering is the state that passes work on.
type lowering struct {
	prog    *ir.Program
	options Options
	plan    *Plan
	next    int
}

func (l *lowering) value(name string, place Place, shape []int) *Value {
	l.next++
	return &Value{ID: l.next, Name: name, Shape: shape, Place: place}
}

// users maps each root value to the steps that read its memory, in order. A step appears once.
func (l *lowering) users() map[*Value][]*Step {
	u := map[*Value][]*Step{}
	for _, s := range l.plan.Steps {
		seen := map[*Value]bool{}
		for _, v := range s.operands() {
			if r := v.Root(); !seen[r] {
				seen[r] = true
				u[r] = append(u[r], s)
			}
		}
	}
	return u
}

// index maps each step to its position.
func (l *lowering) index() map[*Step]int {
	m := make(map[*Step]int, len(l.plan.Steps))
	for i, s := range l.plan.Steps {
		m[s] = i
	}
	return m
}

// remove drops the marked steps.
func (l *lowering) remove(gone map[*Step]bool) {
	if len(gone) == 0 {
		return
	}
	kept := l.plan.Steps[:0]
	for _, s := range l.plan.Steps {
		if !gone[s] {
			kept = append(kept, s)
		}
	}
	l.plan.Steps = kept
}

// sole returns the only step that reads v's memory when there is exactly one.
func sole(u map[*Value][]*Step, v *Value) *Step {
	if s := u[v.Root()]; len(s) == 1 {
		return s[0]
	}
	return nil
}

// whole says that v covers its root's memory in order, so that one can stand for the other.
func whole(v *Value) bool {
	return v.Elems() == v.Root().Elems() && v.Start() == 0 && v.Stride() == v.Cols()
}
