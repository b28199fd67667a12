package weights_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/internal/weights/weightstest"
)

func params(names ...string) []weights.Param {
	var p []weights.Param
	for _, n := range names {
		p = append(p, weights.Param{Name: n, Shape: []int{2, 3}})
	}
	return p
}

// fileOf makes a file whose values differ from name to name.
func fileOf(t testing.TB, keys []weights.Param) *weights.File {
	t.Helper()
	f, err := formula.Source{}.File(keys)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestEMAName(t *testing.T) {
	got, ok := weights.EMAName("model.diffusion_model.input_blocks.1.0.in_layers.0.weight")
	if want := "model_ema.diffusion_modelinput_blocks10in_layers0weight"; !ok || got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, ok := weights.EMAName("first_stage_model.encoder.conv_in.weight"); ok {
		t.Error("the first stage has no shadow")
	}
}

func TestBind(t *testing.T) {
	denoiser := params("model.diffusion_model.a.weight", "model.diffusion_model.a.bias")
	full := weightstest.WithEMA(denoiser)
	without := func(keys []weights.Param, name string) []weights.Param {
		return slices.DeleteFunc(slices.Clone(keys), func(p weights.Param) bool { return p.Name == name })
	}
	const shadow = "model_ema.diffusion_modelaweight"
	short := params("a.weight", "a.bias")
	under := weights.BindOptions{Prefix: "model.diffusion_model."}
	with := func(o weights.BindOptions, s weights.Selection) weights.BindOptions { o.EMA = s; return o }
	cases := []struct {
		name     string
		file     []weights.Param
		want     []weights.Param
		opt      weights.BindOptions
		ema      bool
		warnings int
		err      string
	}{
		{"exact", params("a", "b"), params("b", "a"), weights.BindOptions{}, false, 0, ""},
		{"nothing wanted of nothing", nil, nil, weights.BindOptions{}, false, 0, ""},
		{"missing", params("a"), params("a", "b"), weights.BindOptions{}, false, 0, "1 missing: b"},
		{"extra", params("a", "b", "c"), params("a"), weights.BindOptions{}, false, 0, "2 unexpected: b, c"},
		{"ignored prefix", params("a", "loss.x", "loss.y.z"), params("a"), weights.BindOptions{Ignore: []string{"loss."}}, false, 0, ""},
		{"ignored name", params("a", "betas"), params("a"), weights.BindOptions{Ignore: weights.ScheduleBuffers}, false, 0, ""},
		{"an ignored name is no prefix", params("a", "betas2"), params("a"), weights.BindOptions{Ignore: []string{"betas"}}, false, 0, "betas2"},
		{"prefix", params("p.a", "q.b", "c"), params("a"), weights.BindOptions{Prefix: "p."}, false, 0, ""},
		{"prefix, extra below", params("p.a", "p.b", "c"), params("a"), weights.BindOptions{Prefix: "p."}, false, 0, "unexpected: p.b"},
		{"prefix, missing", params("a"), params("a"), weights.BindOptions{Prefix: "p."}, false, 0, "missing: p.a"},
		{"shape", []weights.Param{{Name: "a", Shape: []int{3, 2}}}, params("a"), weights.BindOptions{}, false, 0, "a: [3 2], want [2 3]"},
		{"auto takes the average", full, denoiser, weights.BindOptions{}, true, 0, ""},
		{"auto below a prefix", full, short, under, true, 0, ""},
		{"ema", full, short, with(under, weights.EMA), true, 0, ""},
		{"raw", full, short, with(under, weights.Raw), false, 0, ""},
		{"raw, whole file", full, denoiser, weights.BindOptions{EMA: weights.Raw}, false, 0, ""},
		{"auto without", denoiser, short, under, false, 1, ""},
		{"auto, incomplete", without(full, shadow), short, under, false, 1, ""},
		{"ema without", denoiser, short, with(under, weights.EMA), false, 0, "incomplete: 2 of 2 missing"},
		{"ema, incomplete", without(full, shadow), short, with(under, weights.EMA), false, 0, shadow},
		{"average alone", without(without(full, denoiser[0].Name), denoiser[1].Name), short, under, true, 0, ""},
		{"unknown shadow", append(slices.Clone(full), params("model_ema.x")...), denoiser, weights.BindOptions{}, true, 0, "unexpected: model_ema.x"},
		{"shadow of another shape", append(without(full, shadow), weights.Param{Name: shadow, Shape: []int{1}}), short, under, true, 0, shadow + ": [1]"},
		{"no average of a first stage", params("first_stage_model.a"), params("a"),
			weights.BindOptions{Prefix: "first_stage_model.", EMA: weights.EMA}, false, 0, ""},
		{"unknown selection", full, short, with(under, "both"), false, 0, "both"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := fileOf(t, c.file)
			b, err := weights.Bind(f, c.want, c.opt)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b.EMA != c.ema || len(b.Warnings) != c.warnings || b.Unused != len(c.file)-len(c.want) || len(b.Tensors) != len(c.want) {
				t.Errorf("%+v", b)
			}
			for _, p := range c.want {
				name := c.opt.Prefix + p.Name
				x, ok := b.Tensors[name]
				if c.ema {
					name, _ = weights.EMAName(name)
				}
				if !ok || x.Name != name {
					t.Errorf("%s%s is bound to %v, want %s", c.opt.Prefix, p.Name, x, name)
				}
			}
		})
	}
}

func TestMismatchListsTen(t *testing.T) {
	var names []string
	for i := range 47 {
		names = append(names, fmt.Sprintf("k%02d", i))
	}
	_, err := weights.Bind(fileOf(t, nil), params(names...), weights.BindOptions{})
	var m *weights.MismatchError
	if !errors.As(err, &m) || len(m.Missing) != 47 || exitcode.Of(err) != exitcode.Data {
		t.Fatal(err)
	}
	if s := err.Error(); !strings.Contains(s, "47 missing: k00, ") || !strings.HasSuffix(s, "k09 … and 37 more") {
		t.Error(s)
	}
}

func TestNewMemoryRefusesDuplicates(t *testing.T) {
	if _, err := (formula.Source{}).File(params("a", "a")); err == nil {
		t.Error("accepted")
	}
}
