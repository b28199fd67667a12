package convert

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// model writes a small file with raw weights, their average and a first stage.
func model(t *testing.T) string {
	t.Helper()
	var list []*weights.Tensor
	for name, v := range map[string]float32{
		"model.diffusion_model.a.weight": 1, "model_ema.diffusion_modelaweight": 2, "first_stage_model.b": 3,
	} {
		x, err := tensor.FromFloat32(name, []int{2}, []float32{v, -v})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, x)
	}
	f, err := weights.NewMemory(list)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := weights.Convert(f, &b, weights.ConvertOptions{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "in.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConvert(t *testing.T) {
	in := model(t)
	cases := []struct {
		name string
		o    Options
		want map[string]float32 // first value by name
		d    weights.DType
	}{
		{"as it is", Options{}, map[string]float32{"model.diffusion_model.a.weight": 1, "model_ema.diffusion_modelaweight": 2, "first_stage_model.b": 3}, weights.F32},
		{"average, half", Options{EMA: true, DType: "BF16"}, map[string]float32{"model.diffusion_model.a.weight": 2, "first_stage_model.b": 3}, weights.BF16},
		{"first stage", Options{FirstStageOnly: true, DType: "f64"}, map[string]float32{"b": 3}, weights.F64},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "out.safetensors")
			r, err := Convert(context.Background(), in, out, c.o)
			if err != nil {
				t.Fatal(err)
			}
			sum, size, err := weights.SHA256(out)
			if err != nil || sum != r.SHA256 || size != r.Bytes || r.Tensors != len(c.want) {
				t.Errorf("%+v; the file has %d bytes and sha256 %s (%v)", r, size, sum, err)
			}
			f, err := weights.Open(out, weights.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for name, want := range c.want {
				x, ok := f.Lookup(name)
				if !ok || x.DType != c.d {
					t.Fatalf("%s: found %t, %+v", name, ok, x)
				}
				if v, err := x.Values(); err != nil || v[0] != want {
					t.Errorf("%s: %v (%v), want %v", name, v, err, want)
				}
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 1 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	in, dir := model(t), t.TempDir()
	taken, text := filepath.Join(dir, "taken"), filepath.Join(dir, "text")
	for _, f := range []string{taken, text} {
		if err := os.WriteFile(f, []byte("kept"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stopped, cancel := context.WithCancelCause(context.Background())
	cancel(exitcode.Errorf(exitcode.Terminated, "stopped"))
	background := context.Background()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		in, out string
		o       Options
		want    exitcode.Code
	}{
		{"exists", background, in, taken, Options{}, exitcode.Usage},
		{"dtype", background, in, "new", Options{DType: "f8"}, exitcode.Usage},
		{"missing", background, filepath.Join(dir, "none"), "new", Options{}, exitcode.NoInput},
		{"no model", background, text, taken, Options{Overwrite: true}, exitcode.Data},
		{"stopped", stopped, in, taken, Options{Overwrite: true}, exitcode.Terminated},
		{"average of a first stage", background, in, taken, Options{Overwrite: true, EMA: true, FirstStageOnly: true}, exitcode.Usage},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := c.out
			if out == "new" {
				out = filepath.Join(dir, "new")
			}
			if _, err := Convert(c.ctx, c.in, out, c.o); exitcode.Of(err) != c.want {
				t.Errorf("class %d, want %d: %v", exitcode.Of(err), c.want, err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 2 {
				t.Errorf("left behind: %v", entries)
			}
			if b, err := os.ReadFile(taken); err != nil || string(b) != "kept" {
				t.Errorf("the existing file is %q (%v)", b, err)
			}
		})
	}
}

// TestConvertToCheckpoint writes a checkpoint of PyTorch and back: the values stay, and so does the order of the first file.
func TestConvertToCheckpoint(t *testing.T) {
	in, dir := model(t), t.TempDir()
	for _, c := range []struct {
		out string
		o   Options
	}{{"by-name.ckpt", Options{}}, {"by-flag.bin", Options{To: "ckpt"}}, {"half.pt", Options{DType: "f16"}}} {
		path := filepath.Join(dir, c.out)
		r, err := Convert(context.Background(), in, path, c.o)
		if err != nil {
			t.Fatal(err)
		}
		f, err := weights.Open(path, weights.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if f.Format() != weights.TorchZip || r.Tensors != 3 || f.Metadata()["global_step"] != "0" {
			t.Errorf("%s: format %s, %d tensors, metadata %v", c.out, f.Format(), r.Tensors, f.Metadata())
		}
		back := path + ".safetensors"
		if _, err := Convert(context.Background(), path, back, Options{DType: "f32"}); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(back)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: back as safetensors it differs", c.out)
		}
	}
	if _, err := Convert(context.Background(), in, filepath.Join(dir, "x"), Options{To: "onnx"}); exitcode.Of(err) != exitcode.Usage {
		t.Errorf("an unknown format: %v", err)
	}
}
