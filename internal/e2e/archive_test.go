package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// archive writes a folder of pictures of many sizes and kinds, two of them broken, each with what it is paired with: a "mask",
// "labels" or nothing.
func archive(t *testing.T, pair string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, m image.Image) {
		t.Helper()
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	sizes := []image.Point{{16, 16}, {24, 16}, {17, 30}, {16, 16}, {33, 16}, {24, 16}, {16, 16}}
	for i, s := range sizes {
		r := image.Rectangle{Max: s}
		var m interface {
			image.Image
			Set(x, y int, c color.Color)
		}
		switch i % 4 {
		case 0:
			m = image.NewNRGBA(r)
		case 1:
			m = image.NewGray(r)
		case 2:
			m = image.NewNRGBA64(r)
		case 3:
			m = image.NewRGBA(r)
		}
		mask, labels := image.NewGray(r), image.NewGray(r)
		for y := range s.Y {
			for x := range s.X {
				m.Set(x, y, color.NRGBA64{uint16(x * 1999), uint16(y * 1777), uint16(i * 5000), uint16(0xffff - 0x0100*(i%4%2)*x)})
				if x > s.X/2 {
					mask.SetGray(x, y, color.Gray{255})
				}
				labels.SetGray(x, y, color.Gray{uint8((x + y) / 8 % 3)})
			}
		}
		write(fmt.Sprintf("set/%02d.png", i), m)
		switch pair {
		case "mask":
			write(fmt.Sprintf("set/%02d_mask.png", i), mask)
		case "labels":
			write(fmt.Sprintf("set/%02d_labels.png", i), labels)
		}
	}
	for _, name := range []string{"set/03b.png", "set/05b.png"} {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte("\x89PNG\r\n\x1a\nnot really"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestArchive runs the tasks that start from images on pictures of many sizes and kinds: every good one comes out at its size
// and in its kind, every broken one is listed, and neither batches nor shards change a byte.
func TestArchive(t *testing.T) {
	tried := 0
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		m := nn.New(c.Config)
		kind := m.Conditioner.Config.Kind
		tasks := map[string][]string{}
		switch {
		case kind == nn.IdentityCond:
			tasks["superres"] = nil
			tasks["superres degraded"] = []string{"sample.degradation=pil_bicubic", "sample.score=true"}
		case kind == nn.FirstStageCond:
			tasks["inpaint"] = []string{"input.mask=mask"}
			tasks["inpaint out"] = []string{"sample.outpaint=3,0,8,5"}
		case kind == nn.SpatialRescaler:
			tasks["semantic"] = []string{"input.segmentation=labels"}
		case kind == nn.Unconditional && m.UNet.Config.InChannels == m.UNet.Config.OutChannels:
			tasks["img2img"] = []string{"sample.strength=0.5"}
			tasks["inpaint latent"] = []string{"input.mask=mask"}
		default:
			t.Skip("conditioned on what pictures do not hold")
		}
		for name, settings := range tasks {
			tried++
			t.Run(name, func(t *testing.T) {
				pair := ""
				switch {
				case slices.Contains(settings, "input.mask=mask"):
					pair = "mask"
				case kind == nn.SpatialRescaler:
					pair = "labels"
				}
				input := archive(t, pair)
				task, _, _ := strings.Cut(name, " ")
				j := job{kind: "Sample"}.with(onDisk(t, c).settings()...).with("sample.task="+task, "input.path="+input, "sampler.steps=2",
					"output.rows_per_part=4", "limits.max_bad_rows=100%", "output.layout=tree", "sampler.eta=1").with(settings...)
				dir := t.TempDir()
				ref := filepath.Join(dir, "ref")
				r := j.with("compute.batch=1", "compute.threads=1").to(ref).must(t, jobs.RunOptions{})
				rows := readRows(t, ref)
				if len(rows) != 9 || r.Failed != 2 {
					t.Fatalf("%d pictures, %d failed: %v", len(rows), r.Failed, r.Reasons)
				}
				for _, row := range rows {
					if row.Status != part.OK {
						mentions(t, row.Error, "b.png")
						continue
					}
					checkKind(t, task, name, input, ref, row)
				}
				failed, err := os.ReadFile(filepath.Join(ref, "failed.csv"))
				if err != nil || strings.Count(string(failed), "\n") != 3 {
					t.Errorf("failed.csv: %v, %q", err, failed)
				}
				want := snapshot(t, ref)
				for _, batch := range []int{4, 16} {
					at := filepath.Join(dir, fmt.Sprint(batch))
					j.with(fmt.Sprintf("compute.batch=%d", batch), "compute.threads=2").to(at).must(t, jobs.RunOptions{})
					same(t, at, want)
				}
				at := filepath.Join(dir, "shards")
				for i := range 2 {
					j.with("compute.batch=3").to(at).must(t, jobs.RunOptions{Shard: commit.Shard{Index: 1 - i, Count: 2}})
				}
				same(t, at, want)
			})
		}
	})
	if tried == 0 && !t.Failed() {
		t.Error("no model takes pictures")
	}
}

// checkKind compares size and kind of a result with its source.
func checkKind(t *testing.T, task, name, input, out string, row part.Row) {
	t.Helper()
	read := func(path string) *picture.Image {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := picture.Decode(b, picture.Options{Keep16: true})
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return m
	}
	src := read(filepath.Join(input, filepath.FromSlash(row.ID)))
	got := read(filepath.Join(out, filepath.FromSlash(row.ImagePath)))
	h, w := src.H, src.W
	switch {
	case name == "superres":
		h, w = 4*h, 4*w
	case name == "superres degraded":
		h, w = h/4*4, w/4*4
	case name == "inpaint out":
		h, w = h+11, w+5
	}
	if got.H != h || got.W != w || row.Height != h || row.Width != w {
		t.Errorf("%s: %dx%d (height x width), row says %dx%d, want %dx%d", row.ID, got.H, got.W, row.Height, row.Width, h, w)
		return
	}
	if task == "semantic" {
		return // made from a label map, not from the picture
	}
	if got.Channels != src.Channels || got.Depth16 != src.Depth16 {
		t.Errorf("%s: mode %s from mode %s", row.ID, got.Mode, src.Mode)
	}
	if name != "inpaint out" && (got.Alpha == nil) != (src.Alpha == nil) {
		t.Errorf("%s: mode %s from mode %s", row.ID, got.Mode, src.Mode)
	}
	if task == "inpaint" && name != "inpaint out" && !src.Depth16 {
		for i := range src.H * src.W {
			if i%src.W <= src.W/2 && got.Pix[3*i] != src.Pix[3*i] {
				t.Fatalf("%s: the known pixel %d is %d, was %d", row.ID, i, got.Pix[3*i], src.Pix[3*i])
			}
		}
	}
}

// TestArchiveMessages gives tasks what they cannot use.
func TestArchiveMessages(t *testing.T) {
	input, maps := archive(t, "mask"), archive(t, "labels")
	white, other := image.NewGray(image.Rect(0, 0, 16, 16)), image.NewGray(image.Rect(0, 0, 5, 7))
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	for name, m := range map[string]image.Image{"00_mask.png": white, "01_mask.png": other} {
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(input, "set", name), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(input, "set", "02_mask.png")); err != nil {
		t.Fatal(err)
	}
	var bright bytes.Buffer
	if err := png.Encode(&bright, white); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(maps, "set", "06_labels.png"), bright.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		kind := nn.New(c.Config).Conditioner.Config.Kind
		j := job{kind: "Sample"}.with(onDisk(t, c).settings()...).with("input.path="+input, "sampler.steps=1", "limits.max_bad_rows=100%")
		failure := func(out, row string, words ...string) {
			t.Helper()
			for _, r := range readRows(t, out) {
				if r.ID == row {
					mentions(t, r.Error, words...)
					return
				}
			}
			t.Errorf("no row %s", row)
		}
		out := filepath.Join(t.TempDir(), "out")
		switch kind {
		case nn.FirstStageCond:
			r := j.with("sample.task=inpaint", "input.mask=mask").to(out).must(t, jobs.RunOptions{})
			if r.Counts["masks_resized"] != 1 || r.Counts["masks_all_white"] != 1 || r.Failed != 3 {
				t.Errorf("counts %v, %d failed", r.Counts, r.Failed)
			}
			failure(out, "set/02.png", "mask", "missing")
		case nn.SpatialRescaler:
			j.with("sample.task=semantic", "input.segmentation=labels", "input.path="+maps).to(out).must(t, jobs.RunOptions{})
			failure(out, "set/06.png", "label 255", "not in 0..")
		case nn.IdentityCond:
			_, err := j.with("sample.task=superres", "limits.memory=64MiB").to(out).run(t.Context(), jobs.RunOptions{})
			if err != nil {
				t.Error(err)
			}
			_, err = j.with("sample.task=inpaint", "input.mask=mask").to(out+"2").run(t.Context(), jobs.RunOptions{})
			if exitcode.Of(err) != exitcode.Usage {
				t.Errorf("inpainting with a model for super-resolution: %v", err)
			}
		default:
			t.Skip("no message to provoke")
		}
	})
}
