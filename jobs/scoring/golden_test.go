package scoring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/eval/extract"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestGoldenScores compares evaluations with those of the reference tools on the same files. The network sees all pictures as far
// as the first layers, and some of them as a whole; scores of the whole network are made of the reference's features.
func TestGoldenScores(t *testing.T) {
	if kernel.Detect() == kernel.Generic {
		t.Skip("takes minutes without C")
	}
	dir := golden.Dir(t, "eval", "files")
	b, err := os.ReadFile(filepath.Join(dir, "end_to_end.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	check := func(key string, got, want, tolerance float64) {
		t.Helper()
		e := math.Abs(got-want) / math.Abs(want)
		golden.Line(t, "eval/files/"+key, e, tolerance)
		if !(e <= tolerance) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	res := must(t, job(t, a, ref, "fid_64", filepath.Join(t.TempDir(), "out"), "eval.protocol=pytorch-fid"), jobs.RunOptions{})
	check("pytorch_fid_dims64", res.Scores["fid_64"], want["pytorch_fid_dims64"].(float64), 1e-5)

	features := map[string][]float32{}
	for _, e := range golden.Tensors(t, filepath.Join(dir, "features_torch_fidelity.safetensors")) {
		features[e.Name] = e.Float32s(t)
	}
	some := filepath.Join(t.TempDir(), "some")
	must(t, job(t, a, ref, "fid, fid_64", some, "input.limit=2"), jobs.RunOptions{})
	for i, set := range []string{"a", "b"} {
		for n, row := range partRows(t, some, i) {
			for k, tap := range []string{"2048", "64"} {
				got := row.Extra[1+k].([]float32)
				golden.Near(t, fmt.Sprintf("eval/files/%s/%s of picture %d", set, tap, n), got, features[set+"/"+tap][n*len(got):][:len(got)], 1e-5)
			}
		}
	}

	out := filepath.Join(t.TempDir(), "out")
	e, err := Prepare(context.Background(), job(t, a, ref, "fid, fid_64, is, kid, precision, recall, memorised", out), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	rows := &known{Network: e.network, features: features, rows: map[string]knownRow{}}
	for set, path := range map[string]string{"a": a, "b": ref} {
		pictures, err := openArrays(path, 0)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for p, err := range pictures.read(context.Background(), 0, pictures.rows()) {
			if err != nil {
				t.Fatal(err)
			}
			rows.rows[string(p.pixels.Pix8)] = knownRow{set, n}
			n++
		}
	}
	e.network = rows
	if res, err = e.Run(context.Background(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	check("fid", res.Scores["fid"], want["exact_fd_2048"].(float64), 1e-5)
	check("fid_64", res.Scores["fid_64"], want["exact_fd_64"].(float64), 1e-5)
	check("is", res.Scores["is"], want["torch_fidelity_isc_a"].(map[string]any)["inception_score_mean"].(float64), 1e-6)
	pr := want["torch_fidelity_precision_recall_k3_a_generated"].([]any)
	check("precision", res.Scores["precision"], pr[0].(float64), 1e-6)
	check("recall", res.Scores["recall"], pr[1].(float64), 1e-6)
	if _, ok := res.Scores["kid"]; !ok || res.State != "finished" {
		t.Errorf("result %+v", res)
	}
	text := res.Text() // every number stands beside those of the pictures that it is of
	for _, d := range res.Details {
		line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(d.Label) + ` .*; N 40( against 45)?$`).FindString(text)
		if strings.Contains(line, " against ") == (d.Metric == "is") || line == "" {
			t.Errorf("%s: %q in\n%s", d.Label, line, text)
		}
	}
	r := readReport(t, out)
	if len(r.Samples) == 0 || len(r.Neighbours) == 0 || r.Projection == nil || r.Scores[0].Label != "FID" || r.Scores[0].StandardError == nil || r.Generated.Rows == 0 {
		t.Errorf("report %+v", r.Scores)
	}
	if len(r.Warnings) == 0 || !strings.Contains(strings.Join(r.Warnings, "\n"), "extrapolated") {
		t.Errorf("warnings %q", r.Warnings)
	}
}

// known is a network that has seen all pictures already.
type known struct {
	extract.Network
	features map[string][]float32 // by set and tap
	rows     map[string]knownRow  // by pixels
}

type knownRow struct {
	set string
	n   int
}

func (k *known) NewPreparer() (extract.Preparer, error) { return k, nil }
func (k *known) Inputs() int                            { return 2 }

// Prepare notes where the features of a picture are.
func (k *known) Prepare(dst []float32, p eval.Picture) error {
	row, ok := k.rows[string(p.Pix8)]
	if !ok {
		return errors.New("not among the known pictures")
	}
	dst[0], dst[1] = float32(row.set[0]), float32(row.n)
	return nil
}

func (k *known) Features(inputs []float32, n int) ([][]float32, error) {
	out := make([][]float32, len(k.Taps()))
	for ; len(inputs) > 0; inputs = inputs[2:] {
		for i, tap := range k.Taps() {
			all := k.features[fmt.Sprintf("%c/%s", int(inputs[0]), tap.Name)]
			out[i] = append(out[i], all[int(inputs[1])*tap.D:][:tap.D]...)
		}
	}
	return out, nil
}

// partRows are the rows of a part of a folder.
func partRows(t *testing.T, dir string, n int) []part.Row {
	t.Helper()
	entries, err := commit.Entries(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := part.Open(filepath.Join(dir, entries[n].File), part.Expect{Size: entries[n].Bytes, SHA256: entries[n].SHA256})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var rows []part.Row
	for row, err := range r.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	return rows
}
