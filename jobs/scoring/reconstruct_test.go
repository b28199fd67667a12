package scoring

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestReconstruct scores what a first stage leaves of pictures, by its own latents.
func TestReconstruct(t *testing.T) {
	model := golden.Dir(t, "ldm", "uncond-kl-scaled")
	ref := filepath.Join(golden.Dir(t, "eval", "files"), "images_b.npz")
	res := must(t, job(t, "", ref, "fid, psnr, ssim", filepath.Join(t.TempDir(), "out"), "eval.reconstruct=true", "eval.extractor.name=first-stage", "eval.extractor.path=",
		"model.checkpoint="+filepath.Join(model, "model.ckpt"), "model.config="+filepath.Join(model, "config.yaml"), "preprocess.size=64", "input.limit=12"), jobs.RunOptions{})
	if len(res.Details) != 3 || res.Details[0].Label != "rFD(model)" || res.Details[0].Metric != "rfid" || !(res.Scores["fd"] > 0) || !(res.Scores["psnr"] > 0) {
		t.Errorf("%+v", res.Details)
	}
}

// TestReconstructionFID makes the rFID of a first stage by the Inception-v3. It is the FID of the reconstructions, made apart, from the
// pictures as the first stage sees them.
func TestReconstructionFID(t *testing.T) {
	if kernel.Detect() == kernel.Generic {
		t.Skip("takes minutes without C")
	}
	const n, size = 2, 64
	model := golden.Dir(t, "ldm", "uncond-kl-scaled")
	checkpoint, config := filepath.Join(model, "model.ckpt"), filepath.Join(model, "config.yaml")
	ref, tmp := filepath.Join(golden.Dir(t, "eval", "files"), "images_b.npz"), t.TempDir()
	res := must(t, job(t, "", ref, "fid, psnr", filepath.Join(tmp, "out"), "eval.reconstruct=true", "model.checkpoint="+checkpoint, "model.config="+config,
		"preprocess.size=64", "preprocess.crop=none", "preprocess.resize=pil-bicubic", "input.limit=2"), jobs.RunOptions{})
	if d := res.Details[0]; d.Label != "rFID" || d.Metric != "rfid" || d.GeneratedRows != n || d.ReferenceRows != n {
		t.Errorf("%+v", d)
	}

	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pictures, err := openArrays(ref, n)
	fatal(err)
	pre, err := preprocess.New(preprocess.Config{Size: preprocess.Square(size), Crop: preprocess.NoCrop, Resize: "pil-bicubic"})
	fatal(err)
	const values = 3 * size * size
	images, seen, left := make([]float32, n*values), make([]byte, n*values), make([]byte, n*values)
	i := 0
	for row, err := range pictures.read(context.Background(), 0, n) {
		fatal(err)
		p := preprocess.Picture{Pix: row.pixels.Pix8, H: row.pixels.H, W: row.pixels.W, Channels: 3}
		at, err := pre.Place(p.H, p.W, nil)
		fatal(err)
		fatal(pre.CHW(images[i*values:][:values], p, at))
		fatal(pre.Uint8(seen[i*values:][:values], p, at))
		i++
	}
	b, err := cpu.Open(cpu.DefaultOptions())
	fatal(err)
	defer b.Close()
	f, err := weights.Open(checkpoint, weights.Limits{})
	fatal(err)
	defer f.Close()
	m, err := nn.Load(config, f, nn.Options{FirstStageOnly: true})
	fatal(err)
	session := engine.New(m, b)
	defer session.Close()
	first, err := encode.New(session)
	fatal(err)
	for i := range n { // one by one: batches change nothing
		z, err := first.Encode(images[i*values:][:values], 1, size, size, encode.Options{Scale: true})
		fatal(err)
		y, err := first.Decode(append([]float32(nil), z...), 1, size/first.Factor(), size/first.Factor(), nn.Quantized)
		fatal(err)
		fatal(preprocess.ToUint8(left[i*values:][:values], y, 3, size, size, preprocess.Round))
	}
	generated, reference := filepath.Join(tmp, "generated.npz"), filepath.Join(tmp, "reference.npz")
	writeArray(t, generated, n, size, size, left)
	writeArray(t, reference, n, size, size, seen)
	apart := must(t, job(t, generated, reference, "fid, psnr", filepath.Join(tmp, "apart")), jobs.RunOptions{})
	for _, key := range []string{"fid", "psnr"} {
		if got, want := res.Scores[key], apart.Scores[key]; !(got > 0) || got != want {
			t.Errorf("%s is %v, %v of the pictures apart", key, got, want)
		}
	}
}
