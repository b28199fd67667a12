package sample

import (
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
)

func TestLayoutTokens(t *testing.T) {
	cfg := LayoutConfig{Tokens: 8192, MaxObjects: 2, EncodeCrop: true, Classes: 600}
	const none = 8191
	at := func(x, y int) int { return y*90 + x }
	for _, c := range []struct {
		name  string
		boxes []Box
		crop  Rect
		plain bool // no crop tokens
		want  []int
	}{
		{"nothing", nil, Rect{}, false, []int{none, none, none, none, none, none, 0, at(89, 89)}},
		{"whole image", []Box{{Class: 5, Rect: Rect{0, 0, 1, 1}}}, Rect{}, false, []int{5, 0, at(89, 89), none, none, none, 0, at(89, 89)}},
		{"half to even", []Box{{Class: 1, Rect: Rect{0.5, 1.5 / 89, 0.25, 1. / 89}}}, Rect{}, false, // 44.5, 1.5; 66.75, 2.5
			[]int{1, at(44, 2), at(67, 2), none, none, none, 0, at(89, 89)}},
		{"marks", []Box{{Class: 7, Rect: Rect{0, 0, 1, 1}, Group: true, Depiction: true}, {Class: 1, Rect: Rect{0, 0, 1, 1}, Occluded: true, Inside: true}}, Rect{}, false,
			[]int{7 + 5*600, 0, at(89, 89), 1 + 10*600, 0, at(89, 89), 0, at(89, 89)}},
		{"the first two of three", []Box{{Class: 1, Rect: Rect{0, 0, 1, 1}}, {Class: 2, Rect: Rect{0, 0, 1, 1}}, {Class: 3, Rect: Rect{0, 0, 1, 1}}}, Rect{}, false,
			[]int{1, 0, at(89, 89), 2, 0, at(89, 89), 0, at(89, 89)}},
		{"outside of the crop", []Box{{Class: 1, Rect: Rect{0, 0, 0.25, 1}}, {Class: 2, Rect: Rect{0.5, 0, 0.5, 1}}}, Rect{0.5, 0, 0.5, 1}, false,
			[]int{2, at(44, 0), at(89, 89), none, none, none, at(44, 0), at(89, 89)}},
		{"in the crop's coordinates", []Box{{Class: 2, Rect: Rect{0.25, 0, 0.5, 0.5}}}, Rect{0.5, 0, 0.5, 1}, true,
			[]int{2, 0, at(89, 44), none, none, none}},
		{"rounding over the edge", []Box{{Class: 2, Rect: Rect{0.7, 0, 0.3000001, 1}}}, Rect{}, true, []int{2, at(62, 0), at(89, 89), none, none, none}},
	} {
		l := cfg
		l.Crop, l.EncodeCrop = c.crop, !c.plain
		got, err := LayoutTokens(c.boxes, l)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
	for _, c := range []struct {
		box  Box
		want string
	}{
		{Box{Class: 1, Rect: Rect{0, 0, 0, 1}}, "box 0: width 0 and height 1 leave no area"},
		{Box{Class: 1, Rect: Rect{0.5, 0, 0.6, 1}}, "reach out of the image"},
		{Box{Class: 1, Rect: Rect{-0.1, 0, 0.6, 1}}, "reach out of the image"},
		{Box{Class: 600, Rect: Rect{0, 0, 1, 1}}, "class 600 is not in 0..599"},
		{Box{Class: 599, Rect: Rect{0, 0, 1, 1}, Group: true, Occluded: true, Depiction: true, Inside: true}, "past the last"},
	} {
		if _, err := LayoutTokens([]Box{c.box}, cfg); err == nil || !strings.Contains(err.Error(), c.want) || exitcode.Of(err) != exitcode.Data {
			t.Errorf("%v: %v, want %q", c.box, err, c.want)
		}
	}
}

func TestInpaintImages(t *testing.T) {
	// A hole of one pixel, at (1, 2) of 4 x 4, frees the latent cell (0, 1) of 2 x 2.
	holes := make([]float32, 16)
	holes[1*4+2] = 1
	if got := KeepMask(holes, 1, 4, 4, 2); !slices.Equal(got, []float32{1, 0, 1, 1}) {
		t.Errorf("keeps %v", got)
	}
	known, made := make([]float32, 48), make([]float32, 48)
	for i := range known {
		known[i], made[i] = float32(i), -1
	}
	if err := Paste(made, known, holes, 1, 4, 4); err != nil {
		t.Fatal(err)
	}
	for i, v := range made {
		if want := known[i]; i%16 == 6 && v != -1 || i%16 != 6 && v != want {
			t.Errorf("pixel %d is %g", i, v)
		}
	}
	canvas, mask, err := Extend([]float32{1, 2, 3, 4, 5, 6}, 1, 2, 2, 3, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := []float32{1, 1, 2, 1, 1, 2, 3, 3, 4, 3, 3, 4, 5, 5, 6, 5, 5, 6}; !slices.Equal(canvas, want) {
		t.Errorf("canvas %v, want %v", canvas, want)
	}
	if want := []float32{1, 1, 1, 1, 0, 0}; !slices.Equal(mask, want) {
		t.Errorf("holes %v, want %v", mask, want)
	}
	if _, _, err := Extend(make([]float32, 6), 1, 2, 2, 3, 0, 2); err == nil {
		t.Error("an image that leaves its canvas was accepted")
	}
}

// TestClassVector checks class vectors of U-Nets: rows alone and in a batch, and classes that do not exist.
func TestClassVector(t *testing.T) {
	found := false
	goldencase.Each(t, "denoiser", func(t *testing.T, c *goldencase.Case) {
		if !c.Has("y") {
			return
		}
		found = true
		b, err := cpu.Open(cpu.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		s := engine.New(c.Model(nn.Options{}), b)
		defer s.Close()
		x, shape := c.Tensor("x")
		times, y := c.Values("t"), c.Values("y")
		predict := func(x, times, y []float32) []float32 {
			labels := make([]int64, len(y))
			for i := range y {
				labels[i] = int64(y[i])
			}
			cond, err := ClassCondition(s, labels)
			if err != nil {
				t.Fatal(err)
			}
			d, err := NewDenoiser(s, DenoiserSpec{N: len(y), H: shape[2], W: shape[3], Cond: cond, Config: Config{Guidance: 1}})
			if err != nil {
				t.Fatal(err)
			}
			eps := make([]float32, len(y)*s.Model.UNet.Config.OutChannels*shape[2]*shape[3])
			if err := d.Predict(x, times, eps); err != nil {
				t.Fatal(err)
			}
			return eps
		}
		all := predict(x, times, y)
		goldencase.Near(t, "eps", all, c.Values("eps"), 1e-5)
		for i := range y {
			n := len(x) / len(y)
			one := predict(x[i*n:(i+1)*n], times[i:i+1], y[i:i+1])
			if !slices.Equal(one, all[i*len(one):(i+1)*len(one)]) {
				t.Errorf("row %d alone differs from the same row in a batch", i)
			}
		}
		if _, err := ClassCondition(s, []int64{1 << 20}); err == nil {
			t.Error("a class that does not exist was accepted")
		}
	})
	if !found && !t.Skipped() {
		t.Error("no case with classes")
	}
}

// TestWrongConditions checks that every condition refuses every model that does not take it.
func TestWrongConditions(t *testing.T) {
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		f := newFixture(t, c)
		m, s := f.session.Model, f.session
		_, classes := ClassCount(m)
		_, semantic := SemanticClasses(m)
		taken := 0
		for _, k := range []struct {
			name string
			can  bool
			make func() (Condition, error)
		}{
			{"class", classes, func() (Condition, error) { return ClassCondition(s, []int64{0}) }},
			{"text", CanText(m), func() (Condition, error) { return TextCondition(s, [][]int{make([]int, 77)}) }},
			{"layout", CanLayout(m), func() (Condition, error) { return LayoutCondition(s, [][]int{make([]int, 92)}) }},
			{"semantic", semantic, func() (Condition, error) { return SemanticCondition(s, [][]uint8{make([]uint8, 64*64)}, 64, 64) }},
			{"superres", CanSuperres(m), func() (Condition, error) { return SuperresCondition(s, make([]float32, 3*64), 1, 8, 8) }},
			{"inpaint", CanInpaint(m), func() (Condition, error) {
				return InpaintCondition(s, make([]float32, 3*64*64), make([]float32, 64*64), 1, 64, 64, nil)
			}},
		} {
			_, err := k.make()
			if k.can {
				taken++
			}
			if (err == nil) != k.can || err != nil && exitcode.Of(err) != exitcode.Usage {
				t.Errorf("%s: %v, said to be possible: %t", k.name, err, k.can)
			}
		}
		if want := 1; m.Conditioner.Config.Kind != nn.Unconditional && taken != want {
			t.Errorf("takes %d kinds of conditions", taken)
		}
		if n, ok := SemanticClasses(m); ok {
			labels := make([]uint8, 64*64)
			labels[3*64+5] = uint8(n)
			if _, err := SemanticCondition(s, [][]uint8{labels}, 64, 64); err == nil || !strings.Contains(err.Error(), "at row 3, column 5") {
				t.Errorf("label out of range: %v", err)
			}
		}
		if CanText(m) {
			bad := make([]int, TextLength(m))
			bad[1] = m.Conditioner.Config.VocabSize
			if _, err := TextCondition(s, [][]int{bad}); exitcode.Of(err) != exitcode.Data {
				t.Errorf("token out of range: %v", err)
			}
		}
	})
}
