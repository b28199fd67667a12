package scoring

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn/inception"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/formula"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/npz"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// weightsFile has the computed weights of the reference vectors.
var weightsFile string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "scoring")
	if err == nil {
		weightsFile = filepath.Join(dir, "inception.safetensors")
		err = writeWeights(weightsFile)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func writeWeights(path string) error {
	var keys []weights.Param
	for _, k := range inception.Keys() {
		keys = append(keys, weights.Param(k))
	}
	f, err := formula.Source{}.File(keys)
	if err != nil {
		return err
	}
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	defer w.Close()
	return weights.Convert(f, w, weights.ConvertOptions{})
}

func job(t *testing.T, generated, ref, metrics, out string, more ...string) *spec.Resolved {
	t.Helper()
	text := fmt.Sprintf("kind: Eval\nspec:\n  eval: {generated: %q, reference: %q, metrics: [%s], extractor: {path: %q}}\n  output: {path: %q, rows_per_part: 8}\n  compute: {batch: 4}\n",
		generated, ref, metrics, weightsFile, out)
	var settings []spec.Setting
	for _, m := range more {
		key, value, _ := strings.Cut(m, "=")
		settings = append(settings, spec.Setting{Key: key, Value: value, Origin: "--set"})
	}
	r, err := spec.Load("job.yaml", []byte(text), t.TempDir(), nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run(t *testing.T, r *spec.Resolved, o jobs.RunOptions) (*Result, error) {
	t.Helper()
	e, err := Prepare(context.Background(), r, nil)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return e.Run(context.Background(), o)
}

func must(t *testing.T, r *spec.Resolved, o jobs.RunOptions) *Result {
	t.Helper()
	res, err := run(t, r, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestGoldenScores compares whole evaluations with those of the reference tools on the same files.
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
	out := filepath.Join(t.TempDir(), "out")
	res := must(t, job(t, a, ref, "fid, fid_64, fid_192, fid_768, is, kid, precision, recall, memorised", out), jobs.RunOptions{})
	check := func(key string, got, want, tolerance float64) {
		t.Helper()
		e := math.Abs(got-want) / math.Abs(want)
		golden.Line(t, "eval/files/"+key, e, tolerance)
		if !(e <= tolerance) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	for metric, key := range map[string]string{"fid": "exact_fd_2048", "fid_64": "exact_fd_64", "fid_192": "exact_fd_192", "fid_768": "exact_fd_768"} {
		check(key, res.Scores[metric], want[key].(float64), 1e-5)
	}
	check("is", res.Scores["is"], want["torch_fidelity_isc_a"].(map[string]any)["inception_score_mean"].(float64), 1e-6)
	pr := want["torch_fidelity_precision_recall_k3_a_generated"].([]any)
	check("precision", res.Scores["precision"], pr[0].(float64), 1e-6)
	check("recall", res.Scores["recall"], pr[1].(float64), 1e-6)
	if _, ok := res.Scores["kid"]; !ok || res.State != "finished" {
		t.Errorf("result %+v", res)
	}
	f, err := os.Open(filepath.Join(out, ReportName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := report.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Samples) == 0 || len(r.Neighbours) == 0 || r.Projection == nil || r.Scores[0].Label != "FID" || r.Scores[0].StandardError == nil || r.Generated.Rows == 0 {
		t.Errorf("report %+v", r.Scores)
	}
	if len(r.Warnings) == 0 || !strings.Contains(strings.Join(r.Warnings, "\n"), "extrapolated") {
		t.Errorf("warnings %q", r.Warnings)
	}

	res = must(t, job(t, a, ref, "fid_64, fid_192", filepath.Join(t.TempDir(), "out"), "eval.protocol=pytorch-fid"), jobs.RunOptions{})
	check("pytorch_fid_dims64", res.Scores["fid_64"], want["pytorch_fid_dims64"].(float64), 1e-5)
	check("pytorch_fid_dims192", res.Scores["fid_192"], want["pytorch_fid_dims192"].(float64), 1e-5)
}

// TestShards: shards and finalize give the bytes of one run, whatever batch and threads.
func TestShards(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	one, many := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "out")
	const metrics = "fid_64, psnr, ssim"
	if res := must(t, job(t, a, ref, metrics, one, "input.limit=10"), jobs.RunOptions{}); res.State != "finished" || res.Rows != 20 {
		t.Fatalf("%+v", res)
	}
	for i := range 3 {
		r := job(t, a, ref, metrics, many, "input.limit=10", fmt.Sprint("compute.batch=", 3+i), fmt.Sprint("compute.threads=", 1+i%2))
		res := must(t, r, jobs.RunOptions{Shard: commit.Shard{Index: i, Count: 3}})
		if (res.State == "partial") != (i < 2) {
			t.Errorf("shard %d is %s", i, res.State)
		}
		if i == 1 {
			if _, err := Finalize(context.Background(), many); exitcode.Of(err) != exitcode.Temporary {
				t.Errorf("finalize too early: %v", err)
			}
		}
	}
	for _, name := range []string{ReportName, "_SUCCESS"} {
		if err := os.Remove(filepath.Join(many, name)); err != nil {
			t.Fatal(err)
		}
	}
	res, err := Finalize(context.Background(), many)
	if err != nil || res.Rows != 20 || len(res.Scores) != 3 {
		t.Fatalf("%v, %+v", err, res)
	}
	list, err := filepath.Glob(filepath.Join(one, "data", "*"))
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	for _, p := range append(list, filepath.Join(one, ReportName), filepath.Join(one, "_manifest.json"), filepath.Join(one, "_SUCCESS")) {
		rel, _ := filepath.Rel(one, p)
		x, err1 := os.ReadFile(p)
		y, err2 := os.ReadFile(filepath.Join(many, rel))
		if err1 != nil || err2 != nil || string(x) != string(y) {
			t.Errorf("%s differs: %v, %v", rel, err1, err2)
		}
	}
	if res := must(t, job(t, a, ref, metrics, one, "input.limit=10"), jobs.RunOptions{}); res.State != "nothing" || len(res.Scores) != 3 {
		t.Errorf("second run: %+v", res)
	}
}

// TestStatistics compares with statistics in every format that is written, and refuses those that were made in another way.
func TestStatistics(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	tmp := t.TempDir()
	few := func(generated, ref, metrics, out string, more ...string) *spec.Resolved {
		return job(t, generated, ref, metrics, filepath.Join(tmp, out), append(more, "input.limit=8")...)
	}
	direct := must(t, few(a, ref, "fid_64", "1"), jobs.RunOptions{}).Scores["fid_64"]
	own := filepath.Join(tmp, "stats", "b.arrow")
	res := must(t, few(ref, "", "fid_64, fid_192", "2", "eval.save_stats="+own), jobs.RunOptions{}) // without a reference nothing is compared
	if len(res.Scores) != 0 || res.State != "finished" || res.Rows != 8 {
		t.Errorf("statistics alone: %+v", res)
	}
	res = must(t, few(a, own, "fid_64", "3"), jobs.RunOptions{})
	if got := res.Scores["fid_64"]; math.Abs(got-direct) > 1e-9*direct || res.Details[0].ReferenceRows != 8 {
		t.Errorf("%v from statistics, %v from pictures", got, direct)
	}
	for want, c := range map[string]struct {
		code exitcode.Code
		r    *spec.Resolved
	}{
		`protocol is "clean-fid" and "torch-fidelity"`: {exitcode.Data, few(a, own, "fid_64", "4", "eval.protocol=clean-fid")},
		"no statistics of tap sfid_2023":               {exitcode.Data, few(a, own, "fid_64, sfid", "4")},
		"needs the pictures of the reference":          {exitcode.Usage, few(a, own, "fid_64, kid", "4")},
		"others: add fid":                              {exitcode.Usage, few(a, ref, "fid_64, sfid", "4", "eval.save_stats="+filepath.Join(tmp, "s.pt"))},
		"statistics of 64 features, the tap 192":       {exitcode.Data, few(a, filepath.Join(dir, "pytorch_fid_dims64_b.npz"), "fid_192", "4")},
	} {
		if _, err := run(t, c.r, jobs.RunOptions{}); exitcode.Of(err) != c.code || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	res = must(t, few(a, own, "fid_64", "4", "eval.protocol=clean-fid", "eval.force=true"), jobs.RunOptions{})
	if r := readReport(t, filepath.Join(tmp, "4")); !strings.Contains(strings.Join(res.Warnings, " "), "because of --force") || !strings.Contains(r.Protocol.Overrule, "protocol is") {
		t.Errorf("warnings %q, overruled %q", res.Warnings, r.Protocol.Overrule)
	}
	// The file of the ADM suite has statistics and pictures: the ones where they do, the others for the rest.
	adm := filepath.Join(dir, "adm_reference.npz")
	res = must(t, few(a, adm, "fid_64, fid_192", "5"), jobs.RunOptions{})
	if s := res.Scores; !(s["fid_64"] > 0) || !(s["fid_192"] > 0) || !strings.Contains(strings.Join(res.Warnings, " "), "the pictures in the file take their place") {
		t.Errorf("%+v", res)
	}
}

// TestFormats writes statistics of features of the first stage and of the network that comes with the program in other formats, and
// reads them as a reference.
func TestFormats(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	tmp := t.TempDir()
	plain := "eval.extractor.path="
	all := must(t, job(t, a, ref, "fid, kid, precision, recall, memorised", filepath.Join(tmp, "1"), plain), jobs.RunOptions{})
	for _, name := range []string{"b.arrow", "b.npz", "b.pt", "b_kid.npz"} {
		stats := filepath.Join(tmp, name)
		must(t, job(t, ref, "", "fid", filepath.Join(tmp, "2"+name), plain, "eval.save_stats="+stats), jobs.RunOptions{})
		metrics := "fid"
		if name == "b_kid.npz" { // features: everything but pictures
			metrics = "fid, kid, precision, recall, memorised"
		}
		res := must(t, job(t, a, stats, metrics, filepath.Join(tmp, "3"+name), plain), jobs.RunOptions{})
		for key, got := range res.Scores {
			tolerance := 1e-9
			if name == "b.pt" { // its mean is in single precision
				tolerance = 1e-5
			}
			if want := all.Scores[key]; math.Abs(got-want) > tolerance*math.Abs(want) {
				t.Errorf("%s: %s is %v, %v from pictures", name, key, got, want)
			}
		}
		if want := strings.Count(metrics, ",") + 1; len(res.Scores) < want {
			t.Errorf("%s: scores %v", name, res.Scores)
		}
		if said := strings.Contains(strings.Join(res.Warnings, " "), "does not say how"); said != (name != "b.arrow") {
			t.Errorf("%s: warnings %q", name, res.Warnings)
		}
		readReport(t, filepath.Join(tmp, "3"+name))
	}
}

// readReport reads the result of a folder, which checks it.
func readReport(t *testing.T, out string) *report.Result {
	t.Helper()
	f, err := os.Open(filepath.Join(out, ReportName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := report.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestClasses scores classes against pictures and against statistics of them, and refuses labels of other classes.
func TestClasses(t *testing.T) {
	tmp := t.TempDir()
	for set, classes := range map[string][]string{"a": {"ant", "bee", "cow"}, "b": {"ant", "bee", "cow"}, "other": {"ant", "bee", "dog"}} {
		for c, class := range classes {
			for i := range 4 + len(set) + c {
				pix := make([]byte, 3*16*16)
				for k := range pix {
					pix[k] = byte(k*(1+c) + 31*i*i + int(set[0])*k%(5+i))
				}
				writePNG(t, filepath.Join(tmp, set, class, fmt.Sprint(i, ".png")), 16, 16, pix)
			}
		}
	}
	a, b := filepath.Join(tmp, "a"), filepath.Join(tmp, "b")
	plain := "eval.extractor.path="
	direct := must(t, job(t, a, b, "fid, class_fid", filepath.Join(tmp, "1"), plain), jobs.RunOptions{})
	stats := filepath.Join(tmp, "b.arrow")
	must(t, job(t, b, "", "class_fid", filepath.Join(tmp, "2"), plain, "eval.save_stats="+stats), jobs.RunOptions{})
	res := must(t, job(t, a, stats, "fid, class_fid", filepath.Join(tmp, "3"), plain), jobs.RunOptions{})
	x, y := readReport(t, filepath.Join(tmp, "1")), readReport(t, filepath.Join(tmp, "3"))
	if len(x.Classes) != 3 || len(y.Classes) != 3 || x.Classes[1].Name != "bee" {
		t.Fatalf("classes %+v, %+v", x.Classes, y.Classes)
	}
	for i, c := range x.Classes {
		d := y.Classes[i]
		for _, p := range [][2]*report.Number{{c.ToClass, d.ToClass}, {c.ToAll, d.ToAll}} {
			if u, v := float64(*p[0]), float64(*p[1]); !(math.Abs(u-v) <= 1e-9*u) || c.ReferenceRows != d.ReferenceRows {
				t.Errorf("class %d: %v from pictures, %v from statistics", c.Label, u, v)
			}
		}
	}
	if u, v := direct.Scores["class_fd"], res.Scores["class_fd"]; !(u > 0) || !(math.Abs(u-v) <= 1e-9*u) {
		t.Errorf("%v from pictures, %v from statistics", u, v)
	}
	other := filepath.Join(tmp, "other")
	for _, ref := range []string{b, stats} {
		_, err := run(t, job(t, other, ref, "class_fid", filepath.Join(tmp, "4"), plain), jobs.RunOptions{})
		if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "class_table is") {
			t.Errorf("other classes against %s: %v", filepath.Base(ref), err)
		}
	}
	must(t, job(t, other, b, "class_fid", filepath.Join(tmp, "5"), plain, "eval.force=true"), jobs.RunOptions{})
	if r := readReport(t, filepath.Join(tmp, "5")); !strings.Contains(r.Protocol.Overrule, "class_table") {
		t.Errorf("overruled %q", r.Protocol.Overrule)
	}
}

func writePNG(t *testing.T, path string, w, h int, pix []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := picture.EncodePNG(&b, &picture.Image{W: w, H: h, Pix: pix, Channels: 3}, picture.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGate(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref, out := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz"), filepath.Join(t.TempDir(), "out")
	plain := "eval.extractor.path="
	res, err := run(t, job(t, a, ref, "fid", out, plain, "eval.fail_if=[\"fid>0.001\"]"), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "fid>0.001") || res.ExitCode != 65 || !(res.Scores["fd"] > 0.001) || res.State != "finished" || res.Retryable {
		t.Errorf("gate: %v, %+v", err, res)
	}
	if _, err := os.Stat(filepath.Join(out, "_SUCCESS")); err != nil {
		t.Error(err)
	}
	must(t, job(t, a, ref, "fid", out, plain, "eval.fail_if=[\"fid>1e9\"]"), jobs.RunOptions{}) // another gate is no other job
}

// TestPerceptual compares pairs of mixed sizes with weights that are computed, in one batch and one by one.
func TestPerceptual(t *testing.T) {
	tmp := t.TempDir()
	for i, size := range [][2]int{{16, 20}, {24, 16}, {16, 20}, {12, 16}} {
		pix := make([]byte, 3*size[0]*size[1])
		for k := range pix {
			pix[k] = byte(k * (3 + i))
		}
		name := fmt.Sprint(i, ".png")
		writePNG(t, filepath.Join(tmp, "a", name), size[0], size[1], pix)
		for k := range pix {
			if i != 2 { // that pair is of equal pictures
				pix[k] += byte(k % 23)
			}
		}
		writePNG(t, filepath.Join(tmp, "b", name), size[0], size[1], pix)
	}
	file := filepath.Join(tmp, "lpips.safetensors")
	if err := writePerceptual(file); err != nil {
		t.Fatal(err)
	}
	var first float64
	for batch := range 3 {
		res := must(t, job(t, filepath.Join(tmp, "a"), filepath.Join(tmp, "b"), "psnr, lpips", filepath.Join(tmp, fmt.Sprint(batch)), "eval.perceptual="+file,
			"limits.max_bad_rows=1", fmt.Sprint("compute.batch=", 1+batch)), jobs.RunOptions{})
		got := res.Scores["lpips"]
		if batch == 0 {
			first = got
		}
		if !(got > 0) || got != first || res.Failed != 1 || res.Details[1].GeneratedRows != 3 {
			t.Errorf("batch %d: %v, before %v: %+v", 1+batch, got, first, res)
		}
		r := readReport(t, filepath.Join(tmp, fmt.Sprint(batch)))
		if len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Reason, "at least 16 x 16") {
			t.Errorf("failed rows %+v", r.Failed)
		}
	}
}

// writePerceptual writes computed weights of the perceptual distance.
func writePerceptual(path string) error {
	var list []*weights.Tensor
	for _, k := range lpips.Keys("")[2:] { // the scaling layer is known
		mode := formula.Weight
		if strings.HasPrefix(k.Name, "lin") {
			mode = formula.NonNegative
		}
		e, err := tensor.Generated(k.Name, k.Shape, func(dst []float32) error {
			formula.Fill(dst, "lpips."+k.Name, mode, k.Shape, 1)
			return nil
		})
		if err != nil {
			return err
		}
		list = append(list, e)
	}
	f, err := weights.NewMemory(list)
	if err != nil {
		return err
	}
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	defer w.Close()
	return weights.Convert(f, w, weights.ConvertOptions{})
}

// TestBadRows: rows that cannot be used are refused unless the job allows them, and are counted.
func TestBadRows(t *testing.T) {
	folder := t.TempDir()
	for i := range 7 {
		m := &picture.Image{W: 16, H: 12 + i, Pix: bytes.Repeat([]byte{byte(40 * i), byte(7 * i), 99}, 16*(12+i)), Channels: 3}
		var b bytes.Buffer
		if err := picture.EncodePNG(&b, m, picture.PNGOptions{}); err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()
		if i%3 == 1 {
			data = data[:len(data)/2]
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i, ".png")), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ref := filepath.Join(golden.Dir(t, "eval", "files"), "images_b.npz")
	out := filepath.Join(t.TempDir(), "out")
	_, err := run(t, job(t, folder, ref, "fid", out, "eval.extractor.path="), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "limits.max_bad_rows") {
		t.Errorf("bad rows: %v", err)
	}
	var told bytes.Buffer
	progress := jobs.NewLogProgress(slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug})))
	res := must(t, job(t, folder, ref, "fid", out, "eval.extractor.path=", "limits.max_bad_rows=2"), jobs.RunOptions{Progress: progress})
	if text := told.String(); strings.Count(text, "row failed") != 2 || strings.Count(text, "part written") != int(res.PartsDone) || !strings.Contains(text, "1.png") {
		t.Errorf("told was %s", text)
	}
	if res.Failed != 2 || res.OK+res.Failed != res.Rows || !strings.Contains(strings.Join(res.Warnings, " "), "2 rows could not be used") || res.Details[0].GeneratedRows != 5 {
		t.Errorf("%+v", res)
	}
}

// TestInputs scores the same pictures from a folder, an archive, an array, and a finished run, of which a row failed.
func TestInputs(t *testing.T) {
	tmp := t.TempDir()
	const n, h, w = 6, 20, 16
	var all []byte
	var rows []part.Row
	folder := filepath.Join(tmp, "folder")
	for i := range n {
		pix := make([]byte, 3*h*w)
		for k := range pix {
			pix[k] = byte(k*(2+i) + i*i)
		}
		all = append(all, pix...)
		name := fmt.Sprint(i, ".png")
		writePNG(t, filepath.Join(folder, name), w, h, pix)
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, part.Row{ID: name, Status: part.OK, Image: b, Width: w, Height: h})
	}
	archive, array, finished := filepath.Join(tmp, "z.zip"), filepath.Join(tmp, "a.npz"), filepath.Join(tmp, "run")
	create := func(path string, write func(w io.Writer) error) {
		t.Helper()
		f, err := os.Create(path)
		if err == nil {
			err = errors.Join(write(f), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	create(archive, func(w io.Writer) error {
		z := zip.NewWriter(w)
		return errors.Join(z.AddFS(os.DirFS(folder)), z.Close())
	})
	create(array, func(w io.Writer) error {
		z := npz.NewWriter(w, true)
		a, err := z.Create("arr_0", npz.Uint8, n, h, 16, 3)
		if err == nil {
			_, err = a.Write(all)
		}
		return errors.Join(err, z.Close())
	})
	writeRun(t, finished, rows)
	ref := filepath.Join(golden.Dir(t, "eval", "files"), "images_b.npz")
	plain := "eval.extractor.path="
	var want float64
	for i, path := range []string{folder, archive, array, finished} {
		res := must(t, job(t, path, ref, "fid", filepath.Join(tmp, fmt.Sprint("out", i)), plain), jobs.RunOptions{})
		if i == 0 {
			want = res.Scores["fd"]
		}
		if got := res.Scores["fd"]; got != want || res.Details[0].GeneratedRows != n {
			t.Errorf("%s: %v, from the folder %v: %+v", filepath.Base(path), got, want, res.Details)
		}
	}
	// One failed row of the run is refused, and counted where it is allowed.
	rows[2] = part.Row{ID: "2", Status: part.Failed, Error: "no such luck"}
	writeRun(t, finished+"2", rows)
	_, err := run(t, job(t, finished+"2", ref, "fid", filepath.Join(tmp, "bad"), plain), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("a failed row: %v", err)
	}
	res := must(t, job(t, finished+"2", ref, "fid", filepath.Join(tmp, "bad"), plain, "limits.max_bad_rows=1"), jobs.RunOptions{})
	if res.Failed != 1 || res.Details[0].GeneratedRows != n-1 {
		t.Errorf("%+v", res)
	}
	// A part that is not what the manifest says, and a run that is not finished.
	file := filepath.Join(finished, "data", "part-00000.arrow")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	for _, damage := range []func() error{func() error { return os.WriteFile(file, b, 0o644) }, func() error { return os.Remove(filepath.Join(finished, "_manifest.json")) }} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, job(t, finished, ref, "fid", filepath.Join(tmp, "worse"), plain), jobs.RunOptions{}); exitcode.Of(err) != exitcode.Data && exitcode.Of(err) != exitcode.Temporary {
			t.Errorf("damaged run: %v", err)
		}
	}
}

// writeRun writes the output folder of a finished job of one part.
func writeRun(t *testing.T, dir string, rows []part.Row) {
	t.Helper()
	p, err := commit.NewPlan(map[string]any{"job": dir}, []commit.PartPlan{{Rows: int64(len(rows))}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	f, err := commit.Open(ctx, dir, p, commit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WritePart(0, part.Schema{Image: true}, func(w *part.Writer) error {
		for _, r := range rows {
			if err := w.Append(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		_, err = commit.Finalize(ctx, dir)
	}
	if err != nil {
		t.Fatal(err)
	}
}

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
