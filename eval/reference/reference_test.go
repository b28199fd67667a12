package reference

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval/linalg"
	"github.com/ldm-batch/ldm-batch/eval/stats"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	iostats "github.com/ldm-batch/ldm-batch/io/stats"
)

func open(t testing.TB, path string) *Reference {
	t.Helper()
	r, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func near(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	e := math.Abs(got-want) / math.Abs(want)
	golden.Line(t, "eval/files/"+name, e, tolerance)
	if !(e <= tolerance) {
		t.Errorf("%s: %.12g, want %.12g", name, got, want)
	}
}

func distance(t testing.TB, a, b *stats.Normal) float64 {
	t.Helper()
	d, err := stats.Frechet(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return d.Value
}

// sets are the features of the two folders of images by tap.
func sets(t testing.TB) map[string]stats.Features {
	m := map[string]stats.Features{}
	for _, e := range golden.Tensors(t, filepath.Join(golden.Dir(t, "eval", "files"), "features_torch_fidelity.safetensors")) {
		m[e.Name] = stats.Features{N: e.Shape[0], D: e.Shape[1], Data: e.Float32s(t)}
	}
	return m
}

func TestEndToEndGolden(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	file, err := os.ReadFile(filepath.Join(dir, "end_to_end.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Pytorch float64 `json:"pytorch_fid_dims64"`
		FID64   float64 `json:"torch_fidelity_fid_64"`
		Exact64 float64 `json:"exact_fd_64"`
		FID2048 float64 `json:"torch_fidelity_fid_2048"`
		Exact   float64 `json:"exact_fd_2048"`
		Score   struct {
			Mean float64 `json:"inception_score_mean"`
			SD   float64 `json:"inception_score_std"`
		} `json:"torch_fidelity_isc_a"`
		KID struct {
			Mean float64 `json:"kernel_inception_distance_mean"`
			SD   float64 `json:"kernel_inception_distance_std"`
		} `json:"torch_fidelity_kid_20x20"`
		PR    []float64 `json:"torch_fidelity_precision_recall_k3_a_generated"`
		Cache string    `json:"torch_fidelity_cache_name"`
	}
	if err := json.Unmarshal(file, &want); err != nil {
		t.Fatal(err)
	}
	a, b := open(t, filepath.Join(dir, "pytorch_fid_dims64_a.npz")), open(t, filepath.Join(dir, "pytorch_fid_dims64_b.npz"))
	near(t, "pytorch-fid from npz", distance(t, a.Normal, b.Normal), want.Pytorch, 1e-6)

	fs := sets(t)
	of := func(name string) *stats.Normal {
		n, err := stats.NormalOf(fs[name])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	fd := distance(t, of("a/64"), of("b/64"))
	near(t, "fd 64", fd, want.Exact64, 1e-10)
	near(t, "torch-fidelity 64", fd, want.FID64, 1e-5)
	fd = distance(t, of("a/2048"), of("b/2048"))
	near(t, "fd 2048", fd, want.Exact, 1e-10)
	near(t, "torch-fidelity 2048", fd, want.FID2048, 1e-5)
	mean, sd, err := stats.InceptionScore(fs["a/logits_unbiased"], stats.Splits{Count: 10, Shuffle: true, Seed: 2020})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "inception score", mean, want.Score.Mean, 1e-12)
	near(t, "inception score sd", sd, want.Score.SD, 1e-9)
	kid, err := stats.KernelDistanceSubsets(fs["a/2048"], fs["b/2048"], stats.Kernel{}, stats.Subsets{Count: 20, Size: 20, Seed: 2020})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "kid", kid.Mean, want.KID.Mean, 1e-4)
	near(t, "kid sd", kid.SD, want.KID.SD, 1e-4)
	pr, err := stats.Manifolds(fs["a/2048"], fs["b/2048"], 3, false)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "precision", pr.Precision, want.PR[0], 1e-6)
	near(t, "recall", pr.Recall, want.PR[1], 1e-6)

	// The cache holds the statistics of one of the two sets, its mean in single precision.
	caches, err := filepath.Glob(filepath.Join(dir, "*.pt"))
	if err != nil || len(caches) == 0 {
		t.Fatal("no cache", err)
	}
	for _, path := range caches {
		c := open(t, path)
		if c.Format != TorchFidelity {
			t.Errorf("%s: format %s", path, c.Format)
		}
		e := min(distance(t, c.Normal, of("a/64")), distance(t, c.Normal, of("b/64")))
		golden.Line(t, "eval/files/torch-fidelity cache", e, 1e-6)
		if e > 1e-6 {
			t.Errorf("%s: distance %g from the set it was made of", path, e)
		}
	}
}

// TestForeignGolden opens what other tools wrote.
func TestForeignGolden(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	adm := open(t, filepath.Join(dir, "adm_reference.npz"))
	if adm.Normal.D() != 64 || adm.Spatial == nil || adm.Spatial.D() != 14 {
		t.Errorf("adm: %+v", adm)
	}
	clean := open(t, filepath.Join(dir, "clean_fid_example_clean_custom_na.npz"))
	if d := distance(t, adm.Normal, clean.Normal); d != 0 && d > 1e-12 {
		t.Errorf("the same statistics in two formats are at distance %g", d)
	}
	f, err := ReadFeatures(filepath.Join(dir, "clean_fid_example_clean_custom_na_kid.npz"))
	if err != nil || f.N != 40 || f.D != 64 {
		t.Fatal(f.N, f.D, err)
	}
	var b bytes.Buffer
	if err := WriteFeatures(&b, f); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "feats.npz")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	if g, err := ReadFeatures(path); err != nil || !slices.Equal(f.Data, g.Data) || g.N != f.N {
		t.Errorf("features written and read: %v", err)
	}
	one := open(t, filepath.Join(dir, "mu_sigma_2048_rank1_f32.npz"))
	if one.Normal.D() != 2048 || one.Normal.Rank() != 1 {
		t.Errorf("rank %d of %d features, want 1 of 2048", one.Normal.Rank(), one.Normal.D())
	}
}

func TestOddGolden(t *testing.T) {
	dir := golden.Dir(t, "eval", "files", "odd")
	file, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct{ Must string }
	if err := json.Unmarshal(file, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) < 10 {
		t.Fatalf("only %d cases", len(want))
	}
	for name, w := range want {
		_, err := Open(filepath.Join(dir, name), nil)
		if (err == nil) != (w.Must == "load") {
			t.Errorf("%s: %v, must %s", name, err, w.Must)
		}
		if err != nil && (exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), name)) {
			t.Errorf("%s: class %d, %v", name, exitcode.Of(err), err)
		}
	}
}

// TestSave writes statistics in both formats and reads them back, bit for bit.
func TestSave(t *testing.T) {
	f := stats.Features{N: 30, D: 5, Data: make([]float32, 150)}
	for i := range f.Data {
		f.Data[i] = float32(i*i%97) / 16
	}
	m, part := stats.NewMoments(5), stats.NewMoments(5)
	for _, add := range []error{m.Add(f), part.Add(f.Rows(0, 1))} {
		if add != nil {
			t.Fatal(add)
		}
	}
	meta := iostats.Meta{Protocol: "adm", Resize: "tf1-bilinear", Tap: "2048"}
	var b bytes.Buffer
	err := Save(&b, meta, m, func(yield func(int64, *stats.Moments) bool) { yield(3, part) })
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s.arrow")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	r := open(t, path)
	if r.Format != Statistics || r.Meta != meta || r.Normal.N != 30 || r.Moments.N() != 30 {
		t.Errorf("read %+v", r)
	}
	want, err := m.Normal()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Normal.Mean, want.Mean) {
		t.Errorf("mean %v, want %v", r.Normal.Mean, want.Mean)
	}
	cov, err := m.Covariance()
	if err != nil {
		t.Fatal(err)
	}
	b.Reset()
	if err := WriteNPZ(&b, m.Mean(), cov); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "s.npz")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	if r := open(t, path); r.Format != NPZ || distance(t, r.Normal, want) > 1e-12 {
		t.Errorf("read %+v", r)
	}
	if err := WriteNPZ(&b, m.Mean(), linalg.New(2, 2)); err == nil {
		t.Error("sizes that do not fit were written")
	}
}

func TestOpenErrors(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none"), nil); !os.IsNotExist(err) {
		t.Error(err)
	}
	for name, b := range map[string][]byte{"empty": nil, "text": []byte("mu"), "arrow": []byte("ARROW1\x00\x00"), "zip": []byte("PK\x03\x04")} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, nil); exitcode.Of(err) != exitcode.Data {
			t.Errorf("%s: %v", name, err)
		}
	}
}
