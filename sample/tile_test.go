package sample

import (
	"errors"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/internal/tile"
)

// rows repeats or cuts a condition of a reference case for n latents of h x w cells; what is concatenated is noise.
func (f *fixture) rows(c Condition, n, h, w int, id string) Condition {
	u := f.session.Model.UNet.Config
	if c.Context != nil {
		row := c.Tokens * u.ContextDim
		v := c.Context
		c.Context = nil
		for i := range n {
			from := i * row % len(v)
			c.Context = append(c.Context, v[from:from+row]...)
		}
	}
	if extra := u.InChannels - u.OutChannels; extra > 0 {
		c.Concat = make([]float32, n*extra*h*w)
		Normal(1, id, 0, c.Concat)
	}
	if u.NumClasses > 0 {
		c.Y = nil
		for i := range n {
			c.Y = append(c.Y, float32(i))
		}
	}
	return c
}

// slice is the condition of one of n rows.
func (c Condition) slice(i, n int) Condition {
	cut := func(v []float32) []float32 {
		if v == nil {
			return nil
		}
		return v[i*len(v)/n : (i+1)*len(v)/n]
	}
	return Condition{Context: cut(c.Context), Tokens: c.Tokens, Concat: cut(c.Concat), Y: cut(c.Y)}
}

// TestTiles checks predictions in tiles for every reference model: one tile is the full frame; neither other rows nor guidance
// change a row's predictions.
func TestTiles(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole networks many times")
	}
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		f := newFixture(t, c)
		m := f.session.Model
		if m.Config.Diffusion.CondStageKey == layoutKey {
			_, err := NewDenoiser(f.session, DenoiserSpec{N: 1, H: 32, W: 32, Cond: f.cond, Tiles: &TileConfig{Size: 16}})
			if exitcode.Of(err) != exitcode.Usage {
				t.Errorf("layout in tiles: %v", err)
			}
			return
		}
		k, ch := m.UNet.Config.SizeMultiple(), m.UNet.Config.OutChannels
		const n = 2
		h, w := 10*k, 16*k
		cond, other := f.rows(f.cond, n, h, w, "cond"), f.rows(f.cond, n, h, w, "uncond")
		x, times := make([]float32, n*ch*h*w), []float32{500, 500}
		Normal(3, "x", 0, x)
		predict := func(d DenoiserSpec, x []float32) []float32 {
			t.Helper()
			d.H, d.W = h, w
			net, err := NewDenoiser(f.session, d)
			if err != nil {
				t.Fatal(err)
			}
			eps := make([]float32, len(x))
			if err := net.Predict(x, times[:d.N], eps); err != nil {
				t.Fatal(err)
			}
			return eps
		}
		full := predict(DenoiserSpec{N: n, Cond: cond}, x)
		if got := predict(DenoiserSpec{N: n, Cond: cond, Tiles: &TileConfig{Size: 16 * k}}, x); !slices.Equal(got, full) {
			t.Error("one tile is not the full frame")
		}
		tiles := &TileConfig{Size: 8 * k, Overlap: 2 * k}
		common := predict(DenoiserSpec{N: n, Cond: cond, Tiles: tiles}, x)
		own := predict(DenoiserSpec{N: n, Cond: cond, Tiles: &TileConfig{Size: 8 * k, Overlap: 2 * k, Norm: "tile"}}, x)
		a, b := golden.RelL2(own, full), golden.RelL2(common, full)
		t.Logf("tiles | %s | deviation of eps %.4f with statistics of each tile, %.4f with common ones", c.Name, a, b)
		if !(b < 1.1*a) || b == 0 { // noise has the same statistics everywhere: most of the deviation is attention's
			t.Errorf("deviation %.4f with common statistics, %.4f without", b, a)
		}
		size := ch * h * w
		for i := range n {
			if one := predict(DenoiserSpec{N: 1, Cond: cond.slice(i, n), Tiles: tiles}, x[i*size:(i+1)*size]); !slices.Equal(one, common[i*size:(i+1)*size]) {
				t.Errorf("row %d alone gives another prediction", i)
			}
		}
		u := predict(DenoiserSpec{N: n, Cond: other, Tiles: tiles}, x)
		guided := predict(DenoiserSpec{N: n, Cond: cond, Uncond: &other, Config: Config{Guidance: 2}, Tiles: tiles}, x)
		for i, v := range guided {
			if v != u[i]+float32(2*(common[i]-u[i])) {
				t.Fatalf("number %d with guidance is %g", i, v)
			}
		}
	})
}

// TestFitTiles checks that a tighter limit gives smaller tiles, that what is promised is kept, and that an impossible one is refused.
func TestFitTiles(t *testing.T) {
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		f := newFixture(t, c)
		if f.session.Model.Config.Diffusion.CondStageKey == layoutKey {
			t.Skip("layouts are not tiled")
		}
		g, err := NewGenerator(f.session, DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		side := g.Multiple() * 40
		r := Request{N: 1, H: side, W: side, Cond: f.cond}
		full, err := g.Needs(r)
		if err != nil {
			t.Fatal(err)
		}
		fit := func(r Request, limit int64) (*TileConfig, engine.Needs, error) {
			return g.FitTiles(r, TileFit{Limit: limit, Overlap: -1})
		}
		if tiles, need, err := fit(r, full.Total()); err != nil || tiles != nil || need != full {
			t.Fatalf("full frame: %v, %+v of %+v, %v", tiles, need, full, err)
		}
		tiles, need, err := fit(r, full.Total()-1)
		if err != nil || tiles == nil || need.Total() >= full.Total() {
			t.Fatalf("one byte less: %+v, %+v of %+v, %v", tiles, need, full, err)
		}
		r.Tiles = tiles
		if again, err := g.Needs(r); err != nil || again != need {
			t.Errorf("%+v, %v; promised %+v", again, err, need)
		}
		if _, need, err := fit(r, 1<<20); exitcode.Of(err) != exitcode.Data || !errors.Is(err, tile.ErrTooLarge) || need.Total() <= 1<<20 {
			t.Errorf("1 MiB: %+v, %v", need, err)
		}
		odd := r
		odd.H++
		if _, _, err := fit(odd, full.Total()); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("an odd size: %v", err)
		}

		// The encoder counts where it runs.
		r.Tiles = nil
		known := r
		known.Known = []float32{}
		with, err := g.Needs(known)
		if encoder, _ := g.first.EncodeNeeds(1, side, side, nil); err != nil || with.Total() <= full.Total() || !CanInpaint(f.session.Model) && with.FLOP != full.FLOP+encoder.FLOP {
			t.Errorf("with a known region %+v, without %+v, %v", with, full, err)
		}

		// With memory for everything, tiles save the work of attention over a huge frame.
		r.H, r.W = 16*side, 8*side
		full, err = g.Needs(r)
		if err != nil {
			t.Fatal(err)
		}
		tiles, need, err = fit(r, full.Total())
		switch {
		case err != nil:
			t.Fatal(err)
		case tiles == nil && 2*full.Attention > full.FLOP:
			t.Errorf("a frame whose attention is %d of %d FLOP was not tiled", full.Attention, full.FLOP)
		case tiles != nil && (2*need.FLOP >= full.FLOP || need.Total() > full.Total()):
			t.Errorf("tiles %+v need %+v, the frame %+v", tiles, need, full)
		}
		t.Logf("tiles | %s | %dx%d: attention is %.2f of the frame's work; tiles %+v take %.3f of it", c.Name, r.H, r.W,
			float64(full.Attention)/float64(full.FLOP), tiles, float64(need.FLOP)/float64(full.FLOP))
	})
}
