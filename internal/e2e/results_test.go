package e2e

import (
	"bytes"
	"fmt"
	"image"
	_ "image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// onDisk is a reference case as a model on disk; weights by formula are written first.
func onDisk(t *testing.T, c *goldencase.Case) model {
	t.Helper()
	m := model{filepath.Join(c.Dir, "model.ckpt"), filepath.Join(c.Dir, "config.yaml")}
	if _, err := os.Stat(m.checkpoint); err != nil {
		m.checkpoint = filepath.Join(t.TempDir(), "model.safetensors")
		if err := convert(c.Weights, m.checkpoint); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestSampledImages compares images that a job made from recorded noise with the reference's, for every model that a job can
// sample from.
func TestSampledImages(t *testing.T) {
	compared := 0
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		m := nn.New(c.Config)
		settings := []string{"sampler.steps=10"}
		x, shape := c.Tensor("x_T")
		size := len(x) / shape[0]
		order := []int{} // the reference's image of each row of the job
		switch {
		case m.Conditioner.Config.Kind == nn.ClassEmbedder:
			// Rows go class by class in the order of the job's list; the reference has an image of each class.
			classes := ""
			for i, label := range c.Values("class_label") {
				if i > 0 {
					classes += ","
				}
				classes += fmt.Sprint(int(label))
				order = append(order, i)
			}
			settings = append(settings, "sample.task=class", "sample.classes="+classes)
		case m.Conditioner.Config.Kind == nn.Unconditional && m.UNet.Config.InChannels == m.UNet.Config.OutChannels:
			for i := range shape[0] {
				order = append(order, i)
			}
			settings = append(settings, "sample.task=uncond", fmt.Sprintf("sample.rows=%d", shape[0]))
		case m.Conditioner.Config.Kind == nn.SpatialRescaler:
			labels, shape := c.Tensor("segmentation")
			dir := t.TempDir()
			for i := range shape[0] {
				g := image.NewGray(image.Rect(0, 0, shape[2], shape[1]))
				for k := range g.Pix {
					g.Pix[k] = uint8(labels[i*len(g.Pix)+k])
				}
				put(t, dir, fmt.Sprintf("%d.png", i), pngOf(t, g))
				order = append(order, i)
			}
			settings = append(settings, "sample.task=semantic", "input.path="+dir)
		case c.Config.Diffusion.CondStageKey == "caption":
			tokens, shape := c.Tensor("tokens")
			words := c.Config.Conditioner.VocabSize
			path := descriptions(t, t.TempDir(), func(i int, r *described) {
				text := ""
				if i < shape[0] {
					for _, token := range tokens[i*shape[1] : (i+1)*shape[1]] {
						if token != 0 && token != 101 && token != 102 { // padding, begin and end
							text += fmt.Sprintf("w%d ", int(token))
						}
					}
				}
				r.Caption = &text
			})
			for i := range shape[0] {
				order = append(order, i)
			}
			settings = append(settings, "sample.task=text", "input.path="+path, fmt.Sprint("input.limit=", shape[0]), "input.caption=caption", "sample.vocab="+vocab(t, words))
		default:
			t.Skip("its condition is not one that rows hold: fractions of 8 bits, tokens that no boxes give")
		}
		compared++
		out, noise := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "noise.safetensors")
		writeTensors(t, noise, entry("x_T", x, shape...))
		job{kind: "Sample"}.with(onDisk(t, c).settings()...).with(settings...).
			with("sampler.noise_from="+noise, "output.rows_per_part=1").to(out).must(t, jobs.RunOptions{})
		want, imageShape := c.Tensor("decoded_ddim_s10_eta0")
		rows := readRows(t, out)
		if len(rows) != len(order) || size == 0 {
			t.Fatalf("%d rows, want %d", len(rows), len(order))
		}
		h, w := imageShape[2], imageShape[3]
		for i, row := range rows {
			got, _, err := image.Decode(bytes.NewReader(row.Image))
			if err != nil {
				t.Fatal(err)
			}
			if b := got.Bounds(); b.Dx() != w || b.Dy() != h || row.Width != w || row.Height != h {
				t.Fatalf("image of %v, row says %dx%d, want %dx%d", b, row.Width, row.Height, w, h)
			}
			plane := want[order[i]*3*h*w:]
			off, worst := 0, 0
			for y := range h {
				for x := range w {
					r, g, b, _ := got.At(x, y).RGBA()
					for ch, v := range []uint32{r, g, b} {
						ref := 255 * (min(max(float64(plane[ch*h*w+y*w+x]), -1), 1) + 1) / 2
						d := int(v>>8) - int(ref)
						if d < 0 {
							d = -d
						}
						worst = max(worst, d)
						if d > 0 {
							off++
						}
					}
				}
			}
			t.Logf("golden ldm/%s row %d: %d of %d values differ, by %d at most", c.Name, i, off, 3*h*w, worst)
			if worst > 1 || off > 3*h*w/100 {
				t.Errorf("row %d: %d values differ, by %d at most", i, off, worst)
			}
		}
	})
	if !t.Failed() && compared == 0 {
		t.Error("no case can be sampled from")
	}
}

// TestEncodedLatents compares the latents of a job, row for row, with those that package encode gives for the same pictures
// one at a time.
func TestEncodedLatents(t *testing.T) {
	_, files := oddFiles(t)
	dir := golden.Data(t, "odd")
	var input string
	for _, f := range files {
		if o := f.outcomes(); len(o) == 1 && o[0] == "ok" && len(f.BadRows) > 0 && len(f.BadRows) < 5 && f.Good > 10 {
			input = filepath.Join(dir, f.Path)
			break
		}
	}
	if input == "" {
		t.Fatal("no file has a few bad rows")
	}
	goldencase.Each(t, "first_stage", func(t *testing.T, c *goldencase.Case) {
		const side = 64
		out := filepath.Join(t.TempDir(), "out")
		j := encodeJob(t, onDisk(t, c), input, "preprocess.size=64", "compute.batch=3", "output.rows_per_part=8", "limits.max_bad_rows=100%").to(out)
		if testing.Short() {
			j = j.with("input.limit=4")
		}
		j.must(t, jobs.RunOptions{})
		backend, err := cpu.Open(cpu.Options{Threads: 1, ISA: cpu.DefaultOptions().ISA})
		if err != nil {
			t.Fatal(err)
		}
		defer backend.Close()
		session := engine.New(c.Model(nn.Options{FirstStageOnly: true}), backend)
		defer session.Close()
		first, err := encode.New(session)
		if err != nil {
			t.Fatal(err)
		}
		ds, err := dataset.Open(t.Context(), dataset.Spec{Path: input}, dataset.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		pre, err := preprocess.New(preprocess.Config{Size: preprocess.Square(side), Crop: preprocess.Center, Resize: "pil-bicubic"})
		if err != nil {
			t.Fatal(err)
		}
		rows := readRows(t, out)
		fine := 0
		for r, err := range ds.Rows(t.Context(), 0, int64(len(rows))) {
			if err != nil {
				t.Fatal(err)
			}
			row := rows[r.Index]
			if row.ID != r.ID {
				t.Fatalf("row %d has id %s, want %s", r.Index, row.ID, r.ID)
			}
			var dec picture.Decoder
			var img picture.Image
			x := make([]float32, 3*side*side)
			err := r.Err
			if err == nil {
				err = dec.DecodeInto(&img, r.Image, picture.Options{Limits: picture.DefaultLimits(), ApplyOrientation: true})
			}
			if (err == nil) != (row.Status == part.OK) {
				t.Errorf("row %d has status %s: %v, %s", r.Index, row.Status, err, row.Error)
			}
			if err != nil {
				continue
			}
			place, err := pre.Place(img.H, img.W, nil)
			if err == nil {
				err = pre.CHW(x, preprocess.Picture{Pix: img.Pix, H: img.H, W: img.W, Channels: 3}, place)
			}
			if err != nil {
				t.Fatal(err)
			}
			z, err := first.Encode(x, 1, side, side, encode.Options{Scale: true})
			if err != nil {
				t.Fatal(err)
			}
			if len(z) != len(row.Latent) {
				t.Fatalf("row %d: %d values, want %d", r.Index, len(row.Latent), len(z))
			}
			for i := range z {
				if z[i] != row.Latent[i] {
					t.Fatalf("row %d: value %d is %g, want %g", r.Index, i, row.Latent[i], z[i])
				}
			}
			fine++
		}
		if fine < 3 {
			t.Errorf("%d rows were compared", fine)
		}
	})
}
