package scoring

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	iostats "github.com/ldm-batch/ldm-batch/io/stats"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// TestStatistics compares with statistics in every format that is written, and refuses those that were made in another way.
func TestStatistics(t *testing.T) {
	dir := golden.Dir(t, "eval", "files")
	a, ref := filepath.Join(dir, "images_a.npz"), filepath.Join(dir, "images_b.npz")
	tmp := t.TempDir()
	few := func(generated, ref, metrics, out string, more ...string) *spec.Resolved {
		return job(t, generated, ref, metrics, filepath.Join(tmp, out), append([]string{"input.limit=4"}, more...)...)
	}
	direct := must(t, few(a, ref, "fid_64", "1"), jobs.RunOptions{}).Scores["fid_64"]
	own := filepath.Join(tmp, "stats", "b.arrow")
	res := must(t, few(ref, "", "fid_64, fid_192", "2", "eval.save_stats="+own), jobs.RunOptions{}) // without a reference nothing is compared
	if len(res.Scores) != 0 || res.State != "finished" || res.Rows != 4 {
		t.Errorf("statistics alone: %+v", res)
	}
	res = must(t, few(a, own, "fid_64", "3"), jobs.RunOptions{})
	if got := res.Scores["fid_64"]; math.Abs(got-direct) > 1e-9*direct || res.Details[0].ReferenceRows != 4 {
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
	res = must(t, few(a, adm, "fid_64, fid_192", "5", "input.limit=8"), jobs.RunOptions{})
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
	few := func(generated, ref, metrics, out string, more ...string) *spec.Resolved {
		return job(t, generated, ref, metrics, filepath.Join(tmp, out), append([]string{"eval.extractor.path=", "input.limit=16"}, more...)...)
	}
	all := must(t, few(a, ref, "fid, kid, precision, recall, memorised", "1"), jobs.RunOptions{})
	for _, name := range []string{"b.arrow", "b.npz", "b.pt", "b_kid.npz"} {
		stats := filepath.Join(tmp, name)
		must(t, few(ref, "", "fid", "2"+name, "eval.save_stats="+stats), jobs.RunOptions{})
		metrics := "fid"
		if name == "b_kid.npz" { // features: everything but pictures
			metrics = "fid, kid, precision, recall, memorised"
		}
		res := must(t, few(a, stats, metrics, "3"+name), jobs.RunOptions{})
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

// TestMismatch has statistics that were made in another way in one respect: an error names it, and the result says so where it is
// overruled.
func TestMismatch(t *testing.T) {
	dir, tmp := golden.Dir(t, "eval", "files"), t.TempDir()
	a, stats := filepath.Join(dir, "images_a.npz"), filepath.Join(tmp, "a.arrow")
	few := func(ref, out string, more ...string) *spec.Resolved {
		return job(t, a, ref, "fid", filepath.Join(tmp, out), append([]string{"eval.extractor.path=", "input.limit=3"}, more...)...)
	}
	must(t, few("", "stats", "eval.save_stats="+stats), jobs.RunOptions{})
	f, err := iostats.Read(stats, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"extractor", "extractor_sha256", "protocol", "resize"} {
		meta := f.Meta
		*map[string]*string{"extractor": &meta.Extractor, "extractor_sha256": &meta.ExtractorSHA256, "protocol": &meta.Protocol, "resize": &meta.Resize}[field] = "another"
		other := filepath.Join(tmp, field+".arrow")
		create(t, other, func(w io.Writer) error {
			return iostats.Write(w, meta, func(yield func(iostats.Set, error) bool) { yield(f.Sets[0], nil) })
		})
		_, err := run(t, few(other, field), jobs.RunOptions{})
		if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "not comparable: "+field+" is ") || !strings.Contains(err.Error(), `"another"`) {
			t.Errorf("another %s: %v", field, err)
		}
		res := must(t, few(other, field, "eval.force=true"), jobs.RunOptions{})
		r := readReport(t, filepath.Join(tmp, field))
		if !(res.Scores["fd"] < 1e-9) || !strings.Contains(r.Protocol.Overrule, field+" is ") || !strings.Contains(strings.Join(r.Warnings, " "), field+" is ") {
			t.Errorf("another %s: scores %v, overruled %q, warnings %q", field, res.Scores, r.Protocol.Overrule, r.Warnings)
		}
	}
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
