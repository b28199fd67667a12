package encode

import (
	"bytes"
	"context"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/internal/tile"
	"github.com/ldm-batch/ldm-batch/io/dataset"
)

// photo is a part of a real picture, 3 x h x w in [-1, 1].
func photo(t testing.TB, row int64, h, w int) []float32 {
	t.Helper()
	ctx := context.Background()
	d, err := dataset.Open(ctx, dataset.Spec{Path: filepath.Join(golden.Data(t), "kodak", "original-*.parquet"), ID: "id"}, dataset.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for r, err := range d.Rows(ctx, row, row+1) {
		if err != nil {
			t.Fatal(err)
		}
		raw = slices.Clone(r.Image)
	}
	m, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if b := m.Bounds(); b.Dy() < h || b.Dx() < w {
		t.Fatalf("row %d is %v", row, b)
	}
	x := make([]float32, 3*h*w)
	for i := range h * w {
		r, g, b, _ := m.At(i%w, i/w).RGBA()
		for c, v := range []uint32{r, g, b} {
			x[c*h*w+i] = float32(v>>8)/127.5 - 1
		}
	}
	return x
}

func open(t testing.TB, c *goldencase.Case, threads int) *FirstStage {
	t.Helper()
	o := cpu.DefaultOptions()
	o.Threads = threads
	b, err := cpu.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s := engine.New(c.Model(nn.Options{}), b)
	t.Cleanup(s.Close)
	f, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// seams is the energy of the steps across the lines where tiles meet that the full frame does not have: the mean square of the
// difference of neighbouring pixels in got - want across those lines, divided by the same of want.
func seams(got, want []float32, h, w int, rows, cols []int) float64 {
	var extra, usual float64
	step := func(i, j int) {
		d := float64(got[i]) - float64(want[i]) - float64(got[j]) + float64(want[j])
		extra += d * d
		d = float64(want[i]) - float64(want[j])
		usual += d * d
	}
	for plane := 0; plane < len(want); plane += h * w {
		for _, r := range rows {
			for x := range w {
				step(plane+r*w+x, plane+(r-1)*w+x)
			}
		}
		for _, c := range cols {
			for y := range h {
				step(plane+y*w+c, plane+y*w+c-1)
			}
		}
	}
	return extra / usual
}

// lines are the positions where a tile begins, is handed over and ends, for neighbours that overlap by a number of positions.
func lines(borders []int, scale, overlap int) (at []int) {
	for _, b := range borders {
		for _, v := range []int{b*scale - overlap/2, b * scale, b*scale + overlap/2} {
			if len(at) == 0 || at[len(at)-1] < v {
				at = append(at, v)
			}
		}
	}
	return at
}

// TestSeams measures what tiles change in a real picture, with the statistics of each tile, with those of the whole from some
// tiles at a time, and from all tiles together. By default
// it looks at one picture and first stages of factor 4; LDM_SEAMS=N takes N pictures and all first stages.
func TestSeams(t *testing.T) {
	if kernel.Detect() == kernel.Generic {
		t.Skip("MEASURED WITH FAST KERNELS ONLY: real pictures take minutes in plain Go; the other tests of tiles run")
	}
	pictures, every := 1, false
	if v := os.Getenv("LDM_SEAMS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		pictures, every = n, true
	}
	const h, w = 256, 256
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		f := open(t, c, 2)
		k := f.Factor()
		if k != 4 && !every {
			t.Skip("not of factor 4")
		}
		size := 128 / k
		var seam [3][2]float64
		for i, o := range []TileConfig{{Norm: tile.Own}, {Norm: tile.Global}, {Norm: tile.Global, Together: 64}} {
			o.Size, o.Overlap = size, size/4
			g, err := tile.New(o, h/k, w/k, 1)
			if err != nil {
				t.Fatal(err)
			}
			rows, cols := g.Borders()
			var dev [2]float64
			for row := range pictures {
				x := photo(t, int64(row), h, w)
				z, err := f.Encode(x, 1, h, w, Options{})
				if err != nil {
					t.Fatal(err)
				}
				z = slices.Clone(z)
				y, err := f.Decode(z, 1, h/k, w/k, nn.NotQuantized)
				if err != nil {
					t.Fatal(err)
				}
				y = slices.Clone(y)
				zt, err := f.EncodeTiles(x, 1, h, w, Options{}, o)
				if err != nil {
					t.Fatal(err)
				}
				dev[0] += golden.RelL2(zt, z) / float64(pictures)
				seam[i][0] += seams(zt, z, h/k, w/k, lines(rows, 1, o.Overlap), lines(cols, 1, o.Overlap)) / float64(pictures)
				yt, err := f.DecodeTiles(z, 1, h/k, w/k, nn.NotQuantized, o)
				if err != nil {
					t.Fatal(err)
				}
				dev[1] += golden.RelL2(yt, y) / float64(pictures)
				seam[i][1] += seams(yt, y, h, w, lines(rows, k, o.Overlap*k), lines(cols, k, o.Overlap*k)) / float64(pictures)
			}
			name := o.Norm
			if o.Together > 0 {
				name += ", all together"
			}
			t.Logf("seams | %s | %s | %d tiles of %d | latent: seam energy %.5f, deviation %.4f | image: seam energy %.5f, deviation %.4f",
				c.Name, name, g.Len(), o.Size, seam[i][0], dev[0], seam[i][1], dev[1])
		}
		for i, what := range []string{"latent", "image"} {
			if !every && seam[1][i] > 0.8*seam[0][i] {
				t.Errorf("%s: seam energy %.5f with common statistics, %.5f without", what, seam[1][i], seam[0][i])
			}
			if c.Config.FirstStage.AttnType == nn.AttnNone && seam[2][i] > 0.02 {
				t.Errorf("%s: seam energy %.5f without attention", what, seam[2][i])
			}
		}
	})
}

// TestTilesExact checks that tiles change nothing beyond rounding where they can not: without attention, with an overlap of more
// than what a convolution sees and as many tiles as one batch of statistics holds.
func TestTilesExact(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole networks many times")
	}
	found := false
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		if c.Config.FirstStage.AttnType != nn.AttnNone {
			t.Skip("has attention")
		}
		found = true
		f := open(t, c, 2)
		k := f.Factor()
		const h, w = 384, 256
		x := photo(t, 3, 256, 384) // read as 384 rows: any picture will do
		o := TileConfig{Size: 80, Overlap: 24}
		z, err := f.Encode(x, 1, h, w, Options{})
		if err != nil {
			t.Fatal(err)
		}
		z = slices.Clone(z)
		zt, err := f.EncodeTiles(x, 1, h, w, Options{}, o)
		if err != nil {
			t.Fatal(err)
		}
		golden.Near(t, c.Name+" latent in tiles", zt, z, 1e-5)
		y, err := f.Decode(z, 1, h/k, w/k, nn.NotQuantized)
		if err != nil {
			t.Fatal(err)
		}
		y = slices.Clone(y)
		yt, err := f.DecodeTiles(z, 1, h/k, w/k, nn.NotQuantized, o)
		if err != nil {
			t.Fatal(err)
		}
		golden.Near(t, c.Name+" image in tiles", yt, y, 1e-5)
	})
	if !found {
		t.Error("no first stage without attention")
	}
}

// TestTilesIndependence checks that neither threads nor other images change a bit, and that an image of one tile is what it is
// without tiles.
func TestTilesIndependence(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole networks many times")
	}
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		f, g := open(t, c, 2), open(t, c, 1)
		k := f.Factor()
		const n, h, w = 2, 96, 64
		var x []float32
		for i := range int64(n) {
			x = append(x, photo(t, i, h, w)...)
		}
		o := TileConfig{Size: 48 / k, Overlap: 16 / k}
		var noise []float32
		if f.Stochastic() {
			noise = x[:n*f.Channels()*h/k*w/k]
		}
		both := func(f *FirstStage, from, to int) (z, y []float32) {
			t.Helper()
			image, latent := len(x)/n, f.Channels()*h/k*w/k
			opts := Options{Scale: true}
			if noise != nil {
				opts.Noise = noise[from*latent : to*latent]
			}
			z, err := f.EncodeTiles(x[from*image:to*image], to-from, h, w, opts, o)
			if err != nil {
				t.Fatal(err)
			}
			z = slices.Clone(z)
			y, err = f.DecodeTiles(z, to-from, h/k, w/k, nn.Quantized, o)
			if err != nil {
				t.Fatal(err)
			}
			return z, slices.Clone(y)
		}
		z, y := both(f, 0, n)
		if z1, y1 := both(g, 0, n); !slices.Equal(z1, z) || !slices.Equal(y1, y) {
			t.Error("one thread gives another result than two")
		}
		for i := range n {
			z1, y1 := both(f, i, i+1)
			if !slices.Equal(z1, z[i*len(z1):(i+1)*len(z1)]) || !slices.Equal(y1, y[i*len(y1):(i+1)*len(y1)]) {
				t.Errorf("image %d alone gives another result", i)
			}
		}
		whole, err := f.Encode(x, n, h, w, Options{})
		if err != nil {
			t.Fatal(err)
		}
		whole = slices.Clone(whole)
		o.Size = 96 / k
		if z, err = f.EncodeTiles(x, n, h, w, Options{}, o); err != nil || !slices.Equal(z, whole) {
			t.Errorf("an image of one tile is encoded differently (%v)", err)
		}
		if y, err = f.Decode(whole, n, h/k, w/k, nn.Quantized); err != nil {
			t.Fatal(err)
		}
		y = slices.Clone(y)
		if z, err = f.DecodeTiles(whole, n, h/k, w/k, nn.Quantized, o); err != nil || !slices.Equal(z, y) {
			t.Errorf("an image of one tile is decoded differently (%v)", err)
		}
	})
}

func TestTilesErrors(t *testing.T) {
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		f := open(t, c, 1)
		k := f.Factor()
		for _, o := range []TileConfig{{}, {Size: -1}, {Size: 6, Overlap: 3}, {Size: 8, Overlap: -1}, {Size: 8, Norm: "none"}} {
			if _, err := f.EncodeTiles(nil, 1, 64, 64, Options{}, o); exitcode.Of(err) != exitcode.Usage {
				t.Errorf("%+v: %v", o, err)
			}
			if _, err := f.DecodeTiles(nil, 1, 64/k, 64/k, nn.Quantized, o); exitcode.Of(err) != exitcode.Usage {
				t.Errorf("%+v: %v", o, err)
			}
		}
	})
}

// TestMemory checks that tiles bound memory: computed for a large image, they stay near those of one tile's batch.
func TestMemory(t *testing.T) {
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		f := open(t, c, 1)
		k := f.Factor()
		o := &TileConfig{Size: 64 / k, Overlap: 16 / k}
		for _, m := range []struct {
			name string
			of   func(size int, o *TileConfig) (engine.Needs, error)
		}{
			{"encode", func(size int, o *TileConfig) (engine.Needs, error) { return f.EncodeNeeds(1, size, size, o) }},
			{"decode", func(size int, o *TileConfig) (engine.Needs, error) { return f.DecodeNeeds(1, size/k, size/k, o) }},
		} {
			need := func(size int, o *TileConfig) engine.Needs {
				v, err := m.of(size, o)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			full, tiles, larger, one := need(1024, nil), need(1024, o), need(2048, o), need(64, o)
			if same := need(64, nil); one != same {
				t.Errorf("%s: one tile takes %+v, one frame %+v", m.name, one, same)
			}
			if tiles.Arena > 9*one.Arena || tiles.Arena*3 > full.Arena || larger.Arena != tiles.Arena || larger.Buffers <= tiles.Buffers {
				t.Errorf("%s: frame %+v, tiles %+v, of a larger image %+v, one tile %+v", m.name, full, tiles, larger, one)
			}
		}
	})
}
