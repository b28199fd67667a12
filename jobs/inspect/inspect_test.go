package inspect

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/stats"
	"github.com/ldm-batch/ldm-batch/io/table"
)

const firstStageConfig = `model:
  target: ldm.models.autoencoder.VQModel
  params:
    embed_dim: 3
    n_embed: 16
    ddconfig: {double_z: false, z_channels: 3, resolution: 32, in_channels: 3, out_ch: 3, ch: 32, ch_mult: [1, 2], num_res_blocks: 1, attn_resolutions: [], dropout: 0.0}
    lossconfig: {target: torch.nn.Identity}
`

func put(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func safetensors(t *testing.T, shapes map[string][]int) []byte {
	t.Helper()
	var list []*weights.Tensor
	for name, shape := range shapes {
		n := 1
		for _, d := range shape {
			n *= d
		}
		x, err := tensor.FromFloat32(name, shape, make([]float32, n))
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
	return b.Bytes()
}

func npz(t *testing.T, header string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("mu.npy")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(w, "\x93NUMPY\x01\x00")
	binary.Write(w, binary.LittleEndian, uint16(len(header)))
	fmt.Fprint(w, header)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCheckpoint(t *testing.T) {
	cases := []struct {
		name   string
		shapes map[string][]int
		guess  []string
		ema    int
	}{
		{"latent diffusion", map[string][]int{
			"model.diffusion_model.input_blocks.0.0.weight": {32, 3, 3, 3}, "model_ema.diffusion_modelinput_blocks00weight": {32, 3, 3, 3},
			"first_stage_model.encoder.conv_in.weight": {8, 3, 3, 3}, "first_stage_model.encoder.down.0.downsample.conv.weight": {8, 8, 3, 3},
			"first_stage_model.quantize.embedding.weight": {16, 3}, "cond_stage_model.embedding.weight": {11, 64}, "betas": {1000},
		}, []string{"U-Net of a latent diffusion model: 3 channels in, width 32", "VQ first stage, factor 2, latents of 3 channels, 16 codes inside",
			"class conditioner: 11 classes, width 64", "noise schedule of 1000 steps"}, 1},
		{"first stage alone", map[string][]int{"encoder.conv_in.weight": {8, 3, 3, 3}, "post_quant_conv.weight": {8, 4, 1, 1}},
			[]string{"KL first stage, factor 1, latents of 4 channels alone"}, 0},
		{"statistics", map[string][]int{"mu": {5}, "sigma": {5, 5}}, []string{"statistics of 5 features: mean and covariance"}, 0},
		{"anything", map[string][]int{"x": {5}}, []string{"no known model"}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, err := Open(context.Background(), put(t, "no-telling-name", safetensors(t, c.shapes)), Options{})
			if err != nil {
				t.Fatal(err)
			}
			params := int64(0)
			for _, s := range c.shapes {
				n := int64(1)
				for _, d := range s {
					n *= int64(d)
				}
				params += n
			}
			got := f.Checkpoint
			if f.Kind != KindCheckpoint || !slices.Equal(got.Guess, c.guess) || got.EMATensors != c.ema || got.Tensors != len(c.shapes) || got.Parameters != params {
				t.Errorf("%+v, want guess %q, %d parameters, %d shadows", got, c.guess, params, c.ema)
			}
		})
	}
}

// TestReferenceModels: every reference checkpoint is recognised as what its configuration says.
func TestReferenceModels(t *testing.T) {
	checked := 0
	for _, dir := range golden.Cases(t, "ldm") {
		file := filepath.Join(dir, "model.ckpt")
		if _, err := os.Stat(file); err != nil {
			continue // weights are computed
		}
		checked++
		config, err := Open(context.Background(), filepath.Join(dir, "config.yaml"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(context.Background(), file, Options{})
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(f.Checkpoint.Guess, "\n")
		for _, p := range config.Config.Parts {
			kind, about, _ := strings.Cut(p, ": ")
			switch kind {
			case "first stage":
				name, rest, _ := strings.Cut(about, ", ")
				factor, _, _ := strings.Cut(rest, ",")
				if !strings.Contains(all, strings.ToUpper(name)+" first stage, "+factor) {
					t.Errorf("%s: configuration has %q, keys look like %q", dir, p, all)
				}
			case "U-Net":
				in, _, _ := strings.Cut(about, ",")
				if !strings.Contains(all, "U-Net of a latent diffusion model: "+in) {
					t.Errorf("%s: configuration has %q, keys look like %q", dir, p, all)
				}
			}
		}
	}
	if checked == 0 {
		t.Error("no reference case has a checkpoint")
	}
}

func TestParquet(t *testing.T) {
	var b bytes.Buffer
	w, err := table.NewWriter(&b, table.Options{LabelNames: []string{"cat", "dog"}})
	if err != nil {
		t.Fatal(err)
	}
	label := int64(1)
	for range 3 {
		if err := w.Append(table.Row{ID: "x", Image: []byte("image"), Label: &label}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := put(t, "a.parquet", b.Bytes())
	for _, p := range []string{path, filepath.Dir(path)} {
		f, err := Open(context.Background(), p, Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := f.Parquet
		if got.Rows != 3 || len(got.Files) != 1 || got.Image != "image" || got.Label != "label" || !slices.Equal(got.ClassNames, []string{"cat", "dog"}) || len(got.Columns) != 8 {
			t.Errorf("%s: %+v", p, got)
		}
	}
	if _, err := Open(context.Background(), put(t, "b.parquet", b.Bytes()[:b.Len()-5]), Options{}); exitcode.Of(err) != exitcode.Data {
		t.Errorf("truncated: %v", err)
	}
}

func TestPart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	parts, err := commit.SplitRows(3, 10)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := commit.NewPlan(map[string]any{}, parts)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := commit.Open(context.Background(), dir, plan, commit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	latent := &part.Latent{C: 1, H: 2, W: 2}
	if _, err := folder.WritePart(0, part.Schema{Latent: latent}, func(w *part.Writer) error {
		for _, r := range []part.Row{{ID: "a", Status: part.OK, Latent: make([]float32, 4)}, {ID: "b", Status: part.Failed, Error: "bad"}, {ID: "c", Status: part.Skipped, Error: "small"}} {
			if err := w.Append(r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.FromSlash(commit.PartFile(0)))
	f, err := Open(context.Background(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := f.Part
	if !p.Checked || p.Rows != 3 || p.OK != 1 || p.Failed != 1 || p.Skipped != 1 || p.Latent.H != 2 || !slices.Equal(p.Errors, []FailedRow{{"b", "bad"}, {"c", "small"}}) {
		t.Errorf("%+v", p)
	}

	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stray := put(t, "part-00000.arrow", data)
	if f, err := Open(context.Background(), stray, Options{}); err != nil || f.Kind != KindArrow || f.Arrow.Rows != 3 || !strings.Contains(f.Arrow.Warnings[0], "--trust-input") {
		t.Errorf("a part without journal: %+v, %v", f, err)
	}
	if f, err := Open(context.Background(), stray, Options{TrustInput: true}); err != nil || f.Part.Checked || f.Part.Rows != 3 {
		t.Errorf("a trusted part: %+v, %v", f, err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, trust := range []bool{false, true} { // a journal that contradicts is stronger than trust
		if _, err := Open(context.Background(), path, Options{TrustInput: trust}); exitcode.Of(err) != exitcode.Data {
			t.Errorf("a damaged part, trust %t: %v", trust, err)
		}
	}
	if _, err := Open(context.Background(), dir, Options{}); exitcode.Of(err) != exitcode.Usage || !strings.Contains(err.Error(), "status") {
		t.Errorf("an output folder: %v", err)
	}
}

func TestOthers(t *testing.T) {
	f, err := Open(context.Background(), put(t, "c", []byte(firstStageConfig)), Options{})
	if err != nil || f.Kind != KindConfig || !strings.Contains(f.Config.Parts[0], "vq, factor 2, latents of 3 channels") {
		t.Errorf("configuration: %+v, %v", f, err)
	}
	f, err = Open(context.Background(), put(t, "s", npz(t, "{'descr': '<f8', 'fortran_order': False, 'shape': (2048,), }\n")), Options{})
	if err != nil || f.Kind != KindArrays || len(f.Arrays) != 1 || f.Arrays[0].DType != "<f8" || !slices.Equal(f.Arrays[0].Shape, []int{2048}) {
		t.Errorf("npz: %+v, %v", f, err)
	}
	for name, data := range map[string]string{
		"empty": "", "noise": "\x00\x01\x02\x03", "npz of objects": string(npz(t, "{'descr': [('a', '<f8')], 'shape': (1,)}")), "text": "hello: world\n", "arrow": "ARROW1\x00\x00",
	} {
		if _, err := Open(context.Background(), put(t, "x", []byte(data)), Options{}); exitcode.Of(err) != exitcode.Data {
			t.Errorf("%s: class %d: %v", name, exitcode.Of(err), err)
		}
	}
	if _, err := Open(context.Background(), filepath.Join(t.TempDir(), "none"), Options{}); exitcode.Of(err) != exitcode.NoInput {
		t.Errorf("missing: %v", err)
	}
}

func TestPlan(t *testing.T) {
	config := put(t, "c.yaml", []byte(firstStageConfig))
	p, err := Plan(PlanOptions{Config: config, Size: "16x8", Batch: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Networks) != 2 || !strings.Contains(p.Networks[0].Table, "[3 3 16 8]") || p.Networks[0].GFLOP <= 0 || p.Networks[0].ArenaBytes >= p.Networks[0].NaiveBytes {
		t.Errorf("%+v", p)
	}
	for _, o := range []PlanOptions{{Config: config, Batch: 0}, {Config: config, Batch: 1, Size: "x"}, {Config: config, Batch: 1, Size: "7"}} {
		if _, err := Plan(o); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%+v: class %d: %v", o, exitcode.Of(err), err)
		}
	}
}

// TestDocuments: what is printed as JSON can be read back, and the text is not empty.
func TestDocuments(t *testing.T) {
	for _, doc := range []any{ReadBuild("1.2.3"), &File{Schema: "ldm-batch/inspect/v1", Kind: KindConfig, Config: &Config{}}} {
		b, err := json.Marshal(doc)
		var back map[string]any
		if err != nil || json.Unmarshal(b, &back) != nil || back["schema"] == "" {
			t.Errorf("%s (%v)", b, err)
		}
	}
	if text := ReadBuild("1.2.3").Text(); !strings.Contains(text, "ldm-batch 1.2.3\n") || !strings.Contains(text, "kernels ") {
		t.Error(text)
	}
}

// statistics is a file of two sets; format takes the place of the file's own in its metadata and has as many letters.
func statistics(t testing.TB, format string) []byte {
	t.Helper()
	class, one := int64(3), []float64{1, 2}
	var b bytes.Buffer
	err := stats.Write(&b, stats.Meta{Protocol: "pytorch-fid", Resize: "none"}, func(yield func(stats.Set, error) bool) {
		_ = yield(stats.Set{Tap: "pool3", Features: 2, Rows: 5, Mean: one, Covariance: []float64{1, 0, 1}, State: []byte("state")}, nil) &&
			yield(stats.Set{Tap: "pool3", Features: 2, Class: &class, Rows: 1, Mean: one}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte(stats.Format), []byte(format))
}

// asStream cuts an Arrow file to the messages inside, between the padded magic and the footer, and adds the end mark of a stream.
func asStream(b []byte) []byte {
	messages := b[8 : len(b)-10-int(binary.LittleEndian.Uint32(b[len(b)-10:]))]
	return append(bytes.Clone(messages), "\xff\xff\xff\xff\x00\x00\x00\x00"...)
}

func TestArrow(t *testing.T) {
	open := func(b []byte) (*File, string) {
		t.Helper()
		f, err := Open(context.Background(), put(t, "no-telling-name", b), Options{})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := f.Write(&text); err != nil {
			t.Fatal(err)
		}
		return f, text.String()
	}
	f, text := open(statistics(t, stats.Format))
	s := f.Statistics
	if f.Kind != KindStatistics || s.Sets[0].Features != 2 || s.Origin["protocol"] != "pytorch-fid" || s.Origin["resize"] != "none" || len(s.Origin) != 2 ||
		len(s.Sets) != 2 || s.Sets[0].Class != nil || s.Sets[0].Rows != 5 || *s.Sets[1].Class != 3 || s.Sets[1].Rows != 1 {
		t.Errorf("statistics: %+v", s)
	}
	for _, want := range []string{"statistics of features", "protocol: pytorch-fid", "pool3, 2 features, all pictures: 5", "class 3: 1 pictures"} {
		if !strings.Contains(text, want) {
			t.Errorf("statistics: %q does not say %q", text, want)
		}
	}
	foreign := statistics(t, "somebody-else's format")
	for _, stream := range []bool{false, true} {
		b := foreign
		if stream {
			b = asStream(b)
		}
		f, text := open(b)
		a := f.Arrow
		if f.Kind != KindArrow || a.Stream != stream || !a.Ended || a.Rows != 2 || a.Batches != 2 || len(a.Columns) != 7 || a.Columns[3].Name != "rows" || a.Columns[3].Type != "int64" || a.Problem == "" {
			t.Errorf("stream %t: %+v", stream, a)
		}
		if !strings.Contains(text, "of 2 rows in 2 batches") || !strings.Contains(text, "column mean: list<item: float64, nullable>, nullable") || !strings.Contains(text, "not usable as images") {
			t.Errorf("stream %t: %s", stream, text)
		}
	}
	cut := asStream(foreign)
	if f, text := open(cut[:len(cut)-8]); f.Arrow.Ended || !strings.Contains(text, "no end mark") {
		t.Errorf("a stream without its end: %+v", f.Arrow)
	}
	for name, b := range map[string][]byte{"cut": foreign[:len(foreign)/2], "magic": []byte("ARROW1\x00\x00"), "mark": []byte("\xff\xff\xff\xff"), "old": []byte("FEA1 and more")} {
		if _, err := Open(context.Background(), put(t, "x", b), Options{TrustInput: true}); exitcode.Of(err) != exitcode.Data {
			t.Errorf("%s: class %d: %v", name, exitcode.Of(err), err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte("PAR1\xff\xff\xff\xffPAR1"))
	f.Add([]byte("ARROW1\x00\x00"))
	f.Add([]byte("PK\x03\x04"))
	f.Add(statistics(f, stats.Format))
	f.Add(asStream(statistics(f, "somebody-else's format")))
	f.Add([]byte(firstStageConfig))
	f.Add([]byte("\x80\x02}q\x00."))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), path, Options{}); err != nil && exitcode.Of(err) != exitcode.Data {
			t.Errorf("class %d: %v", exitcode.Of(err), err)
		}
	})
}
