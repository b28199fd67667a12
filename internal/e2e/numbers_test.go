package e2e

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestNaN puts one NaN, or infinity, into the weights: the job ends with class internal and names a row, and no part holds
// the damage.
func TestNaN(t *testing.T) {
	kl, class := get(t, klModel), get(t, classModel)
	encode := encodeJob(t, kl, get(t, fewPictures), "input.limit=4", "output.rows_per_part=2")
	sample := job{kind: "Sample"}.with(class.settings()...).with("sample.task=class", "sample.classes=1", "sample.per_class=2",
		"sample.size=32", "sampler.steps=2")
	cases := []struct {
		name   string
		job    job
		model  model
		tensor string // the end of its name
		value  float32
		row    string
	}{
		{"NaN in the encoder", encode, kl, "encoder.conv_in.bias", float32(math.NaN()), "00000.png"},
		{"infinity behind the encoder", encode, kl, "quant_conv.bias", float32(math.Inf(1)), "00000.png"},
		{"NaN in the U-Net", sample, class, "diffusion_model.out.2.bias", float32(math.NaN()), "class-0001-000000"},
		{"NaN in the decoder", sample, class, "decoder.conv_out.bias", float32(math.NaN()), "class-0001-000000"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			bad, out := filepath.Join(dir, "bad.safetensors"), filepath.Join(dir, "out")
			poison(t, c.model.checkpoint, bad, c.tensor, c.value)
			_, err := c.job.with("model.checkpoint="+bad).to(out).run(t.Context(), jobs.RunOptions{})
			if exitcode.Of(err) != exitcode.Internal {
				t.Fatalf("class %d: %v", exitcode.Of(err), err)
			}
			mentions(t, err.Error(), c.row)
			if n := parts(out); n != 0 {
				t.Errorf("%d parts were written", n)
			}
		})
	}
}

// poison copies a safetensors file with the first value of one tensor changed.
func poison(t *testing.T, from, to, suffix string, v float32) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	n := 8 + binary.LittleEndian.Uint64(b)
	var header map[string]struct {
		Offsets []int `json:"data_offsets"`
	}
	if err := json.Unmarshal(b[8:n], &header); err != nil {
		t.Fatal(err)
	}
	found := 0
	for name, h := range header {
		if strings.HasSuffix(name, suffix) && !strings.HasSuffix(name, "post_"+suffix) {
			binary.LittleEndian.PutUint32(b[int(n)+h.Offsets[0]:], math.Float32bits(v))
			found++
		}
	}
	if found != 1 {
		t.Fatalf("%d tensors end in %s", found, suffix)
	}
	if err := os.WriteFile(to, b, 0o666); err != nil {
		t.Fatal(err)
	}
}
