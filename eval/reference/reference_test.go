package reference

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval/stats"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/weights"
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
	near(t, "pytorch-fid from npz", distance(t, normal(t, a, "64", 64), normal(t, b, "64", 64)), want.Pytorch, 1e-6)

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
		n := normal(t, c, "64", 64)
		e := min(distance(t, n, of("a/64")), distance(t, n, of("b/64")))
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
	if n := normal(t, adm, spatialTap, 14); n.D() != 14 {
		t.Errorf("adm: %+v", n)
	}
	clean := open(t, filepath.Join(dir, "clean_fid_example_clean_custom_na.npz"))
	if d := distance(t, normal(t, adm, "64", 64), normal(t, clean, "64", 64)); d != 0 && d > 1e-12 {
		t.Errorf("the same statistics in two formats are at distance %g", d)
	}
	for tap, d := range map[string]int{spatialTap: 14, "2048": 2048} {
		if err := clean.Has(tap, d); exitcode.Of(err) != exitcode.Data {
			t.Errorf("tap %s: %v", tap, err)
		}
	}
	kid := open(t, filepath.Join(dir, "clean_fid_example_clean_custom_na_kid.npz"))
	f := kid.Features
	if f == nil || f.N != 40 || f.D != 64 || kid.Rows() != 40 || normal(t, kid, "64", 64).N != 40 || kid.Has("2048", 2048) == nil {
		t.Fatalf("features of clean-fid: %+v", f)
	}
	if g := reread(t, "feats.npz", func(w io.Writer) error { return WriteFeatures(w, *f) }).Features; !slices.Equal(f.Data, g.Data) || g.N != f.N {
		t.Error("features written and read differ")
	}
	one := normal(t, open(t, filepath.Join(dir, "mu_sigma_2048_rank1_f32.npz")), "2048", 2048)
	if one.Rank() != 1 {
		t.Errorf("rank %d of 2048 features, want 1", one.Rank())
	}
}

func normal(t testing.TB, r *Reference, tap string, d int) *stats.Normal {
	t.Helper()
	n, err := r.Normal(tap, d)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// reread opens what was written.
func reread(t testing.TB, name string, write func(w io.Writer) error) *Reference {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return open(t, path)
}

// TestWrittenGolden writes the statistics of the reference features in the formats of other tools, and compares with what those
// tools wrote.
func TestWrittenGolden(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	for _, side := range []string{"a", "b"} {
		m := stats.NewMoments(64)
		if err := m.Add(sets(t)[side+"/64"]); err != nil {
			t.Fatal(err)
		}
		own, err := m.Normal()
		if err != nil {
			t.Fatal(err)
		}
		torch := reread(t, "cache.pt", func(w io.Writer) error { return WriteTorch(w, m) })
		npz := reread(t, "s.npz", func(w io.Writer) error { return WriteNPZ(w, m, m) })
		if torch.Format != TorchFidelity || npz.Format != NPZ {
			t.Errorf("formats %s, %s", torch.Format, npz.Format)
		}
		for name, n := range map[string]*stats.Normal{"torch": normal(t, torch, "64", 64), "npz": normal(t, npz, "64", 64), "npz of sFID": normal(t, npz, spatialTap, 64)} {
			if d := distance(t, own, n); d > 1e-9 {
				t.Errorf("%s: %g from what was written", name, d)
			}
		}
		theirs := open(t, filepath.Join(dir, "pytorch_fid_dims64_"+side+".npz"))
		e := distance(t, own, normal(t, theirs, "64", 64)) // their protocol resizes in another way, for which sets of one size have no need
		golden.Line(t, "eval/files/statistics of "+side, e, 1e-1)
		if e > 1e-1 {
			t.Errorf("set %s: %g from the statistics of pytorch-fid", side, e)
		}
	}
	caches, err := filepath.Glob(filepath.Join(dir, "*.pt"))
	if err != nil || len(caches) == 0 {
		t.Fatal("no cache", err)
	}
	for _, path := range caches { // the same arrays, by type and value
		theirs, err := weights.Open(path, weights.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		var b bytes.Buffer
		m := stats.NewMoments(64)
		if err := m.Add(sets(t)["b/64"]); err != nil {
			t.Fatal(err)
		}
		if err := WriteTorch(&b, m); err != nil {
			t.Fatal(err)
		}
		mine := filepath.Join(t.TempDir(), "m.pt")
		if err := os.WriteFile(mine, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		ours, err := weights.Open(mine, weights.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		for _, name := range []string{"mu", "sigma"} {
			x, _ := theirs.Lookup(name)
			y, ok := ours.Lookup(name)
			if !ok || x.DType != y.DType || !slices.Equal(x.Shape, y.Shape) {
				t.Errorf("%s: %+v, theirs %+v", name, y, x)
			}
		}
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

// TestSave writes statistics of this program and reads them back, bit for bit.
func TestSave(t *testing.T) {
	f := stats.Features{N: 30, D: 5, Data: make([]float32, 150)}
	for i := range f.Data {
		f.Data[i] = float32(i*i%97) / 16
	}
	m := stats.NewMoments(5)
	if err := m.Add(f); err != nil {
		t.Fatal(err)
	}
	meta := iostats.Meta{Protocol: "adm", Resize: "tf1-bilinear"}
	r := reread(t, "s.arrow", func(w io.Writer) error {
		return iostats.Write(w, meta, func(yield func(iostats.Set, error) bool) {
			_ = yield(SetOf("2048", m)) && yield(ClassOf("2048", 3, f.Rows(0, 10))) && yield(ClassOf("2048", 4, f.Rows(10, 11))) &&
				yield(ClassOf("2048", 5, f.Rows(0, 0))) && yield(SetOf("64", m))
		})
	})
	if r.Format != Statistics || r.Meta != meta || r.Rows() != 30 || !r.HasClasses("2048") || r.HasClasses("64") {
		t.Errorf("read %+v", r)
	}
	want, err := m.Normal()
	if err != nil {
		t.Fatal(err)
	}
	for _, tap := range []string{"2048", "64"} {
		if got := normal(t, r, tap, 5); got.N != 30 || !slices.Equal(got.Mean, want.Mean) || distance(t, got, want) > 1e-12 {
			t.Errorf("tap %s: mean %v, want %v", tap, got.Mean, want.Mean)
		}
	}
	var classes, rows []int64
	err = r.Classes("2048", func(class, n int64, p *stats.Normal) error {
		classes, rows = append(classes, class), append(rows, n)
		own, err := stats.NormalOf(f.Rows(0, 10))
		if err == nil && (p != nil) != (n >= 2) || p != nil && distance(t, p, own) > 1e-12 {
			t.Errorf("class %d of %d rows", class, n)
		}
		return err
	})
	if err != nil || !slices.Equal(classes, []int64{3, 4, 5}) || !slices.Equal(rows, []int64{10, 1, 0}) {
		t.Errorf("classes %v of %v rows, %v", classes, rows, err)
	}
	if err := r.Has("768", 768); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "2048 (5), 64 (5)") {
		t.Error(err)
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

// TestEDM2 reads what testdata/edm2.py wrote.
func TestEDM2(t *testing.T) {
	const path = "testdata/edm2.pkl"
	r := open(t, path)
	m := stats.NewMoments(3)
	if err := m.Add(stats.Features{N: 4, D: 3, Data: []float32{1, 2, 3, 2, 2, 5, 4, 0, 1, 1, 1, 1}}); err != nil {
		t.Fatal(err)
	}
	own, err := m.Normal()
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(t, own, normal(t, r, "2048", 3)); r.Format != EDM2 || r.Rows() != 4 || d > 1e-14 {
		t.Errorf("format %s, %d rows, %g from the features' own statistics", r.Format, r.Rows(), d)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(old, new string) []byte {
		b := bytes.Replace(slices.Clone(good), []byte(old), []byte(new), 1)
		if bytes.Equal(b, good) {
			t.Fatalf("no %q in the file", old)
		}
		return b
	}
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"another score.pkl": {replaced("\x8c\x03fid", "\x8c\x03kid"), `no array "fid.mu"; statistics of EDM2`},
		"no pictures.pkl":   {replaced("num_images\x94K\x04", "num_images\x94K\x00"), `num_images is "0"`},
		"short.pkl":         {good[:len(good)-20], "file of arrays"},
		"number.pkl":        {[]byte("\x80\x04K\x01."), "in place of a state dict"},
		"call.pkl":          {[]byte("\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R."), "in place of a state dict"},
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, c.file, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, nil); err == nil || exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
