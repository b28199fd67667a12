package sample

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// schedules opens the reference tables; parse turns "linear_0.0015_0.0195" into a configuration.
func schedules(t *testing.T) *weights.File {
	f, err := weights.Open(golden.Dir(t, "schedules")+"/schedules.safetensors", weights.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func parse(t *testing.T, name string) ScheduleConfig {
	c := ScheduleConfig{Kind: name, Timesteps: 1000}
	if i := strings.IndexAny(name, "0123456789"); i > 0 {
		c.Kind = strings.TrimSuffix(name[:i], "_")
		if _, err := fmt.Sscanf(strings.ReplaceAll(name[i:], "_", " "), "%g %g", &c.LinearStart, &c.LinearEnd); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func float64s(t *testing.T, x *weights.Tensor) []float64 {
	b, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float64, len(b)/8)
	for i := range v {
		v[i] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return v
}

func int64s(t *testing.T, x *weights.Tensor) []int {
	b, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	v := make([]int, len(b)/8)
	for i := range v {
		v[i] = int(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return v
}

// maxRel is the worst difference relative to the larger of the value and 1: where a table is one minus a number close to
// one, the last bit of a cosine decides its relative error.
func maxRel(got, want []float64) float64 {
	worst := 0.0
	for i, w := range want {
		worst = max(worst, math.Abs(got[i]-w)/max(math.Abs(w), 1))
	}
	if len(got) != len(want) {
		return math.Inf(1)
	}
	return worst
}

func TestGoldenSchedules(t *testing.T) {
	f := schedules(t)
	for _, x := range f.Tensors() {
		t.Run(x.Name, func(t *testing.T) {
			dot := strings.LastIndex(x.Name, ".")
			base, table := x.Name[:dot], x.Name[dot+1:]
			switch {
			case x.Name == "ddim.uniform.out_of_range_S":
				var got []int
				for s := 1; s <= 1000; s++ {
					ts, err := timesteps("uniform", s, 1000)
					if err != nil {
						t.Fatal(err)
					}
					if ts[len(ts)-1] > 999 {
						got = append(got, s)
					}
				}
				if !slices.Equal(got, int64s(t, x)) {
					t.Error("other values of S leave the table")
				}
			case x.Name == "ddim.uniform.effective_steps":
				for i, want := range int64s(t, x) {
					ts, err := timesteps("uniform", i+1, 1000)
					if err != nil || len(ts) != want {
						t.Fatalf("S=%d makes %d steps, want %d (%v)", i+1, len(ts), want, err)
					}
				}
			case table == "timesteps":
				part := strings.Split(base, ".")
				s, _ := strconv.Atoi(part[2])
				got, err := timesteps(part[1], s, 1000)
				if err != nil || !slices.Equal(got, int64s(t, x)) {
					t.Fatalf("timesteps %v (%v)", got, err)
				}
				golden.Line(t, "schedules "+x.Name, 0, 0)
			case strings.Contains(base, ".ddim."):
				name, rest, _ := strings.Cut(base, ".ddim.")
				part := strings.Split(rest, ".")
				s, _ := strconv.Atoi(part[1])
				sched, err := NewSchedule(parse(t, name))
				if err != nil {
					t.Fatal(err)
				}
				ts, err := timesteps(part[0], s, 1000)
				if err != nil {
					t.Fatal(err)
				}
				a, p, sg := ddimParams(sched, ts, 1)
				got, tol := map[string][]float64{"alphas": a, "alphas_prev": p, "sigmas_eta1": sg}[table], 1e-12
				if table == "sigmas_eta1" {
					tol = 1e-5
				}
				e := maxRel(got, float64s(t, x))
				golden.Line(t, "schedules "+x.Name, e, tol)
				if e > tol {
					t.Errorf("relative error %.2e, tolerance %.0e", e, tol)
				}
			default:
				s, err := NewSchedule(parse(t, base))
				if err != nil {
					t.Fatal(err)
				}
				got := map[string][]float64{
					"betas": s.Betas, "alphas_cumprod": s.AlphasCumprod, "posterior_variance": s.PosteriorVariance,
					"posterior_log_variance_clipped": s.PosteriorLogVarianceClipped,
					"posterior_mean_coef1":           s.PosteriorCoef1, "posterior_mean_coef2": s.PosteriorCo2,
				}[table]
				if got == nil {
					t.Fatalf("unknown table %s", table)
				}
				e := maxRel(got, float64s(t, x))
				golden.Line(t, "schedules "+x.Name, e, 1e-12)
				if e > 1e-12 {
					t.Errorf("relative error %.2e, tolerance 1e-12", e)
				}
			}
		})
	}
}

func TestScheduleErrors(t *testing.T) {
	for _, c := range []ScheduleConfig{
		{Kind: "linear", Timesteps: 0, LinearStart: .1, LinearEnd: .2},
		{Kind: "linear", Timesteps: 10, LinearStart: 0, LinearEnd: .2},
		{Kind: "linear", Timesteps: 10, LinearStart: .1, LinearEnd: 1},
		{Kind: "parabolic", Timesteps: 10, LinearStart: .1, LinearEnd: .2},
		{Kind: "cosine", Timesteps: 10, CosineS: -1},
	} {
		if _, err := NewSchedule(c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	if _, err := Timesteps("uniform", 3, 1000); err == nil || !strings.Contains(err.Error(), "the nearest that fits is 2") {
		t.Errorf("error %v must name the nearest number of steps", err)
	}
	if _, err := Timesteps("cubic", 3, 1000); err == nil {
		t.Error("unknown spacing: no error")
	}
	s, _ := NewSchedule(ScheduleConfig{Kind: "linear", Timesteps: 10, LinearStart: .1, LinearEnd: .2})
	err := s.UseBuffers(func(name string) ([]float32, bool) { return make([]float32, 9), name == "alphas_cumprod" })
	if err == nil || !strings.Contains(err.Error(), "alphas_cumprod") {
		t.Errorf("error %v must name the buffer", err)
	}
}
