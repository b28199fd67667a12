package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/sample"
)

// large writes pictures of which every second needs tiles where memory is small.
func large(t testing.TB, n, w, h int, masks bool) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		w, h := w, h
		if i%2 == 1 {
			w, h = 20, 16
		}
		put(t, dir, fmt.Sprintf("%d.png", i), scene(t, uint64(i), w, h))
		if masks {
			put(t, dir, fmt.Sprintf("%d_mask.png", i), maskOf(t, w, h, func(x, y int) bool { return x > w/2 && y > h/4 }))
		}
	}
	return dir
}

// tiled runs a job in little memory: rows that do not fit as one frame are made in tiles, whatever rows share their batch, and are error
// rows where tiles are forbidden.
func tiled(t *testing.T, j job, rows int64, all bool) {
	t.Helper()
	dir := t.TempDir()
	j = j.with("limits.memory=64MiB", "limits.max_bad_rows=100%", "output.rows_per_part=2")
	ref := filepath.Join(dir, "ref")
	r := j.with("compute.batch=1", "compute.threads=1").to(ref).must(t, jobs.RunOptions{})
	if r.OK != rows {
		t.Fatalf("%d of %d rows are fine: %v", r.OK, r.Rows, r.Reasons)
	}
	want := snapshot(t, ref)
	many := filepath.Join(dir, "many")
	j.with("compute.batch=8", "compute.threads=2").to(many).must(t, jobs.RunOptions{})
	same(t, many, want)
	if !all {
		return
	}
	never := j.with("limits.tile.size=0")
	whole := filepath.Join(dir, "whole")
	if r = never.to(whole).must(t, jobs.RunOptions{}); r.Failed != (rows+1)/2 {
		t.Errorf("without tiles %d rows failed: %v", r.Failed, r.Reasons)
	}
	for i, row := range readRows(t, whole) {
		if (row.Status == part.Failed) != (i%2 == 0) {
			t.Errorf("row %d without tiles is %s", i, row.Status)
		}
		if row.Status == part.Failed {
			mentions(t, row.Error, fmt.Sprintf("%d.png", i), "(height x width) need ", " MiB of memory as one frame", "limits.tile.size is 0", "limits.memory, 64MiB")
		}
	}
	// More memory makes the failed rows, in the same folder: where tiles do not depend on memory it is no other job.
	if r = never.with("limits.memory=8GiB").to(whole).must(t, jobs.RunOptions{RetryFailed: true}); r.OK != rows {
		t.Errorf("with memory %d rows are fine: %v", r.OK, r.Reasons)
	}
	if _, err := j.with("limits.memory=65MiB").to(ref).run(t.Context(), jobs.RunOptions{}); exitcode.Of(err) != exitcode.Conflict {
		t.Errorf("tiles by another memory: %v", err)
	} else {
		mentions(t, err.Error(), "tiles")
	}

	forced := filepath.Join(dir, "forced")
	r = j.with("limits.tile.size=32", "limits.tile.overlap=4", "limits.tile.norm=tile", "limits.memory=1GiB").to(forced).must(t, jobs.RunOptions{})
	if r.OK != rows {
		t.Errorf("in tiles of 32 %d rows are fine: %v", r.OK, r.Reasons)
	}
	if a, b := readRows(t, forced), readRows(t, ref); string(a[0].Image) == string(b[0].Image) && fmt.Sprint(a[0].Latent) == fmt.Sprint(b[0].Latent) {
		t.Error("tiles of another size give the same result")
	} else if string(a[1].Image) != string(b[1].Image) || fmt.Sprint(a[1].Latent) != fmt.Sprint(b[1].Latent) {
		t.Error("a row smaller than a tile depends on tiles")
	}
}

// TestTiles computes images that do not fit into memory.
func TestTiles(t *testing.T) {
	if testing.Short() {
		t.Skip("runs large images many times")
	}
	tried := 0
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		m := nn.New(c.Config)
		rows, all := int64(2), false
		j := job{kind: "Sample"}.with(onDisk(t, c).settings()...).with("sampler.steps=1")
		switch kind := m.Conditioner.Config.Kind; {
		case kind == nn.IdentityCond:
			rows, all = 3, true
			j = j.with("sample.task=superres", "input.path="+large(t, 3, 112, 100, false))
		case kind == nn.FirstStageCond:
			j = j.with("sample.task=inpaint", "input.mask=mask", "input.path="+large(t, 2, 440, 400, true))
		case kind == nn.Unconditional && m.UNet.Config.InChannels == m.UNet.Config.OutChannels:
			j = j.with("sample.task=img2img", "sample.strength=1", "sampler.eta=1", "input.path="+large(t, 2, 440, 400, false))
		default:
			t.Skip("its rows have no size of their own")
		}
		tried++
		tiled(t, j, rows, all)
	})
	if tried == 0 && !t.Failed() {
		t.Error("no model takes pictures")
	}
}

// TestEncodeTiles is the same for the first stage.
func TestEncodeTiles(t *testing.T) {
	if testing.Short() {
		t.Skip("runs large images many times")
	}
	j := encodeJob(t, get(t, klModel), large(t, 3, 400, 360, false), "preprocess.size=0", "preprocess.crop=lsun", "preprocess.resize=none", "encode.latent=sample")
	tiled(t, j, 3, true)
}

// TestTooLarge asks for images of one size that do not fit: the job does not begin.
func TestTooLarge(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	j := taskJob(t, uncondModel, "uncond", "sample.rows=1", "sample.size=1024", "limits.memory=64MiB").to(out)
	_, err := j.with("limits.tile.size=0").run(t.Context(), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data {
		t.Errorf("as one frame: %v", err)
	} else {
		mentions(t, err.Error(), "1024x1024 pixels (height x width) need ", "limits.tile.size is 0", "limits.memory, 64MiB")
	}
	if _, err = j.with("limits.tile.size=7").run(t.Context(), jobs.RunOptions{}); exitcode.Of(err) != exitcode.Usage {
		t.Errorf("tiles of 7 cells: %v", err)
	}
	for _, s := range [][]string{{"sampler.reuse.every=2"}, {"limits.tile.overlap=12", "limits.tile.size=32"}, {"sampler.reuse.branch=1"}} {
		if _, err = j.with("limits.tile.size=8").with(s...).run(t.Context(), jobs.RunOptions{}); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%v: %v", s, err)
		}
	}
}

// TestReferencePatches enlarges pictures by the reference's split inputs: a job makes what package sample makes, which is held against the
// reference, and pictures that patches do not cover are filled up.
func TestReferencePatches(t *testing.T) {
	found := false
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		o := newOracle(t, c)
		if !sample.CanSuperres(o.session.Model) {
			t.Skip("no super-resolution")
		}
		found = true
		const h, w = 24, 32 // of small pictures, and so of latents
		dir, _, planes := drawn(t, 2, h, w)
		cond, err := sample.SuperresCondition(o.session, planes, 2, h, w)
		if err != nil {
			t.Fatal(err)
		}
		f := o.first.Factor()
		r := sample.Request{N: 2, H: f * h, W: f * w, Cond: cond, Noise: rowNoise(2), Patches: &sample.PatchConfig{Size: [2]int{16, 16}, Stride: [2]int{8, 8}}}
		settings := []string{"sample.task=superres", "sampler.steps=2", fmt.Sprint("compute.seed=", rowNoise(2).Seed), "limits.tile.size=16", "limits.tile.blend=reference"}
		out := o.run(t, append(settings, "input.path="+dir)...)
		sameImages(t, "patches", pixels(t, out), rounded(t, o.images(t, sample.Config{Steps: 2}, r), 2, r.H, r.W))

		any := t.TempDir()
		for i, s := range [][2]int{{31, 9}, {12, 16}, {31, 9}, {17, 33}} {
			put(t, any, fmt.Sprintf("%d.png", i), scene(t, uint64(i), s[0], s[1]))
		}
		one := o.run(t, append(settings, "input.path="+any, "compute.batch=1")...)
		same(t, o.run(t, append(settings, "input.path="+any, "compute.batch=4", "compute.threads=2")...), snapshot(t, one))
		whole := o.run(t, append(settings, "input.path="+any, "limits.tile.blend=ramp", "limits.tile.size=0")...)
		for i, row := range readRows(t, one) {
			if same := string(row.Image) == string(readRows(t, whole)[i].Image); same != (i == 1) {
				t.Errorf("row %d is as in one frame: %t", i, same)
			}
		}
	})
	if !found {
		t.Error("no model for super-resolution")
	}
}

// TestPatchKeys asks for patches that cannot be.
func TestPatchKeys(t *testing.T) {
	patches := []string{"limits.tile.blend=reference", "limits.tile.size=16"}
	base := taskJob(t, uncondModel, "uncond", patches...).with("sample.rows=1")
	for _, c := range []struct {
		settings []string
		word     string
	}{
		{[]string{"limits.tile.size=auto"}, "spec.limits.tile.blend: reference needs a number in spec.limits.tile.size"},
		{[]string{"limits.tile.overlap=16"}, "spec.limits.tile.overlap: not less than"},
		{[]string{"limits.tile.norm=global"}, "spec.limits.tile.norm: has no meaning"},
		{[]string{"limits.tile.overlap=3"}, "spec.limits.tile.size: patches of 16 cells that begin every 13 are no multiples of 2"},
		{[]string{"sample.size=80"}, "patches of 16 with stride 8 do not cover a height of 20; 16 and 24 fit"},
		{[]string{"limits.memory=64MiB", "sample.size=2048"}, "in patches of 16 latent cells"},
		{nil, "does not go with task img2img"},
	} {
		j := base
		if c.settings == nil {
			j = taskJob(t, uncondModel, "img2img", patches...).with("input.path=x")
		}
		_, err := j.with(c.settings...).to(filepath.Join(t.TempDir(), "out")).run(t.Context(), jobs.RunOptions{})
		if err == nil {
			t.Errorf("%v is accepted", c.settings)
			continue
		}
		mentions(t, err.Error(), c.word)
	}
}
