package sample

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

// gaussian predicts the noise of data whose coordinates are independent and normal, exactly: its only error is the rounding of
// the answer to float32. Between whole times the logarithm of the noise per signal is linear.
type gaussian struct {
	mean, deviation []float64 // of each coordinate of a sample
	logs            []float64 // logarithm of the noise per signal of each time
	calls           int
	times           []float32 // of each call
}

func newGaussian(t testing.TB, s *Schedule, mean, deviation []float64) *gaussian {
	t.Helper()
	r, err := s.ratios()
	if err != nil {
		t.Fatal(err)
	}
	for i := range r {
		r[i] = math.Log(r[i])
	}
	return &gaussian{mean: mean, deviation: deviation, logs: r}
}

// level is that of a time.
func (g *gaussian) level(t float64) Level {
	low := int(min(t, float64(len(g.logs)-2)))
	return levelOf(t, math.Exp(g.logs[low]+(t-float64(low))*(g.logs[low+1]-g.logs[low])))
}

func (g *gaussian) Predict(x, t, eps []float32) error {
	g.calls++
	g.times = append(g.times, t[0])
	size := len(x) / len(t)
	for i := range x {
		l, j := g.level(float64(t[i/size])), i%size
		a, s, d := l.Alpha, l.Sigma, g.deviation[j]
		eps[i] = float32(s * (float64(x[i]) - a*g.mean[j]) / (a*a*d*d + s*s))
	}
	return nil
}

// exact solves the probability flow ODE from one level to another for the coordinate j.
func (g *gaussian) exact(x float64, from, to Level, j int) float64 {
	d := g.deviation[j]
	std := func(l Level) float64 { return math.Sqrt(l.Alpha*l.Alpha*d*d + l.Sigma*l.Sigma) }
	return to.Alpha*g.mean[j] + std(to)/std(from)*(x-from.Alpha*g.mean[j])
}

func ldmSchedule(t testing.TB) *Schedule {
	t.Helper()
	s, err := NewSchedule(ScheduleConfig{Kind: "linear", Timesteps: 1000, LinearStart: 0.0015, LinearEnd: 0.0195})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDiffusers compares whole walks with those of diffusers' schedulers on the same analytic model, recorded by
// bench/solvers/record.py: the times that the network is told and the latent after every step.
func TestDiffusers(t *testing.T) {
	entries := map[string]golden.Tensor{}
	for _, e := range golden.Tensors(t, "testdata/solvers.safetensors") {
		entries[e.Name] = e
	}
	s := ldmSchedule(t)
	table := entries["alphas_cumprod"].Float32s(t)
	if e := golden.RelL2(table, s.alphasCumprod); !(e < 1e-6) {
		t.Errorf("another schedule: error %g", e)
	}
	if err := s.UseBuffers(func(name string) ([]float32, bool) { return table, name == "alphas_cumprod" }); err != nil {
		t.Fatal(err)
	}
	mean, deviation := entries["mean"].Values(t), entries["deviation"].Values(t)
	runs := 0
	for name, e := range entries {
		run, ok := strings.CutSuffix(name, ".x")
		if !ok {
			continue
		}
		runs++
		t.Run(run, func(t *testing.T) {
			part := strings.Split(run, ".")
			steps, err := strconv.Atoi(part[2])
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(Config{Name: part[0], Spacing: part[1], Steps: steps, Guidance: 1, Temperature: 1}, s)
			if err != nil {
				t.Fatal(err)
			}
			times := entries[run+".t"].Float32s(t)
			if len(times) != p.Steps() {
				t.Fatalf("%d steps, want %d", p.Steps(), len(times))
			}
			for k, want := range times {
				if got := p.Level(k).T; math.Abs(float64(got-want)) > 1e-4*max(1, float64(want)) {
					t.Errorf("step %d is at time %g, want %g", k, got, want)
				}
			}
			x, want := entries["x_T"].Float32s(t), e.Float32s(t)
			var noise recorded
			if n, ok := entries[run+".n"]; ok {
				noise = recorded{steps: n.Float32s(t), size: len(x)}
			}
			worst := 0.0
			h := Hooks{After: func(k int, _ Level, x, _ []float32) error {
				worst = max(worst, golden.RelL2(x, want[k*len(x):(k+1)*len(x)]))
				return nil
			}}
			n := entries["x_T"].Shape[0]
			if err := p.Sample(context.Background(), newGaussian(t, s, mean, deviation), x, n, noise, h); err != nil {
				t.Fatal(err)
			}
			golden.Line(t, "diffusers "+run, worst, 2e-5)
			if !(worst <= 2e-5) {
				t.Errorf("relative L2 error %.2e after some step", worst)
			}
		})
	}
	if runs < 10 {
		t.Errorf("only %d recorded runs", runs)
	}
}

// gaussianStart is the model of the tests of order, four coordinates, and eight rows of standard normal numbers.
func gaussianStart(t testing.TB, s *Schedule) (g *gaussian, x []float32, rows int) {
	g = newGaussian(t, s, []float64{0, 1, -0.5, 2}, []float64{1, 0.5, 0.25, 1.5})
	x = make([]float32, 8*len(g.mean))
	Normal(3, "order", 0, x)
	return g, x, 8
}

// endError is the root mean square difference, at the lowest level above 0, of a walk from the exact solution of the probability
// flow ODE.
func endError(t testing.TB, p *Sampler) float64 {
	t.Helper()
	g, x, n := gaussianStart(t, p.sched)
	start, end := slices.Clone(x), p.levels[0]
	var got []float32
	last := p.Steps() - 2 // the last step leads from that level to an estimate of x_0
	if p.steps != nil {
		end, last = p.sched.level(0), last+1 // where the reference's samplers end
	}
	h := Hooks{After: func(k int, _ Level, x, _ []float32) error {
		if k == last {
			got = slices.Clone(x)
		}
		return nil
	}}
	if err := p.Sample(context.Background(), g, x, n, nil, h); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for i, v := range got {
		d := float64(v) - g.exact(float64(start[i]), p.Level(0), end, i%len(g.mean))
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(got)))
}

// TestExact checks the closed form that orders are measured against: 100,000 steps of DDIM in float64 come to it.
func TestExact(t *testing.T) {
	g, x, _ := gaussianStart(t, ldmSchedule(t))
	from, to := g.level(999), g.level(0)
	const steps = 100000
	for j := range g.mean {
		y := float64(x[j])
		for i := range steps {
			ratio := func(i int) float64 {
				f := float64(i) / steps
				return math.Exp((1-f)*math.Log(from.ratio()) + f*math.Log(to.ratio()))
			}
			l, next := levelOf(0, ratio(i)), levelOf(0, ratio(i+1))
			d := g.deviation[j]
			x0 := g.mean[j] + l.Alpha*d*d*(y-l.Alpha*g.mean[j])/(l.Alpha*l.Alpha*d*d+l.Sigma*l.Sigma)
			a, b := first(l, next)
			y = a*y + b*x0
		}
		if want := g.exact(float64(x[j]), from, to, j); !(math.Abs(y-want) < 1e-4) {
			t.Errorf("coordinate %d: %g, the closed form says %g", j, y, want)
		}
	}
}

// TestOrder measures orders of convergence: by how many powers of two the error falls when the steps double. The network is told
// exact times with all solvers, since the rounding of times would be an error of its own, which does not fall.
func TestOrder(t *testing.T) {
	s := ldmSchedule(t)
	for _, c := range []struct {
		name, spacing string
		steps         []int
		from, to      float64 // range of the last order
	}{
		{"ddim", "trailing", []int{10, 20, 40, 100, 200}, 0.85, 1.15},
		{"euler", "karras", []int{8, 16, 32, 64, 128}, 0.85, 1.15},
		{"heun", "karras", []int{8, 16, 32, 64, 128}, 1.8, 2.2},
		{"dpmpp-2m", "karras", []int{8, 16, 32, 64, 128}, 1.8, 2.2},
		{"unipc", "karras", []int{8, 16, 32, 64, 128}, 2.8, 3.2},
	} {
		var line strings.Builder
		last, order := 0.0, 0.0
		for i, n := range c.steps {
			p, err := New(Config{Name: c.name, Spacing: c.spacing, Steps: n, Guidance: 1, Temperature: 1}, s)
			if err != nil {
				t.Fatal(err)
			}
			if p.steps == nil {
				if p.levels, err = solverLevels(s, c.spacing, n, false); err != nil {
					t.Fatal(err)
				}
			}
			e := endError(t, p)
			fmt.Fprintf(&line, "  S=%d %.2e", n, e)
			if i > 0 {
				order = math.Log(last/e) / math.Log(float64(n)/float64(c.steps[i-1]))
				fmt.Fprintf(&line, " (%.2f)", order)
			}
			last = e
		}
		t.Logf("%-9s %-9s%s", c.name, c.spacing, line.String())
		if !(order > c.from && order < c.to) {
			t.Errorf("%s: order %.2f is not in %g..%g", c.name, order, c.from, c.to)
		}
	}
}

// TestFewSteps prints the error of whole walks by the number of predictions, and checks what higher order is for.
func TestFewSteps(t *testing.T) {
	s := ldmSchedule(t)
	for _, spacing := range []string{"uniform", "trailing", "linspace", "karras"} {
		errors := map[string]float64{} // with 20 predictions
		for _, name := range []string{"ddim", "plms", "euler", "heun", "dpmpp-2m", "unipc"} {
			if !slices.Contains(SpacingsOf(name), spacing) {
				continue
			}
			var line strings.Builder
			for _, n := range []int{5, 10, 20, 50} {
				steps := n
				if name == "heun" {
					steps = (n + 1) / 2
				}
				p, err := New(Config{Name: name, Spacing: spacing, Steps: steps, Guidance: 1, Temperature: 1}, s)
				if err != nil {
					fmt.Fprintf(&line, "         -")
					continue
				}
				g, x, rows := gaussianStart(t, s)
				start, end := slices.Clone(x), clean
				if p.steps != nil {
					end = s.level(0)
				}
				if err := p.Sample(context.Background(), g, x, rows, nil, Hooks{}); err != nil {
					t.Fatal(err)
				}
				if g.calls != p.Predictions(p.Steps()) {
					t.Errorf("%s: %d predictions, said to be %d", name, g.calls, p.Predictions(p.Steps()))
				}
				sum := 0.0
				for i, v := range x {
					d := float64(v) - g.exact(float64(start[i]), g.level(999), end, i%len(g.mean))
					sum += d * d
				}
				e := math.Sqrt(sum / float64(len(x)))
				if n == 20 {
					errors[name] = e
				}
				fmt.Fprintf(&line, "  %.1e", e)
			}
			t.Logf("%-9s %-9s%s", spacing, name, line.String())
		}
		for _, name := range []string{"dpmpp-2m", "unipc"} {
			want := errors["euler"]
			if spacing == "karras" { // elsewhere the estimate of x_0 from the lowest level is most of the error
				want /= 4
			}
			if !(errors[name] < want) {
				t.Errorf("%s %s: error %g, euler's is %g", spacing, name, errors[name], errors["euler"])
			}
		}
	}
}

// TestUniPCKeeps checks that the correction of a step leaves alone what a hook has changed since.
func TestUniPCKeeps(t *testing.T) {
	p, err := New(Config{Name: "unipc", Spacing: "karras", Steps: 6, Guidance: 1}, ldmSchedule(t))
	if err != nil {
		t.Fatal(err)
	}
	g, x, n := gaussianStart(t, p.sched)
	var before []float32
	h := Hooks{
		Before: func(k int, _ Level, x []float32) error {
			x[1] = 5
			before = slices.Clone(x)
			return nil
		},
		After: func(k int, _ Level, _, _ []float32) error {
			corrected := 0
			for i, v := range p.start {
				if v != before[i] {
					corrected++
				}
			}
			if p.start[1] != 5 || (corrected > 0) != (k > 0) {
				t.Errorf("step %d began with %g, %d others corrected", k, p.start[1], corrected)
			}
			return nil
		},
	}
	if err := p.Sample(context.Background(), g, x, n, nil, h); err != nil {
		t.Fatal(err)
	}
}
