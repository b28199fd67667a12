package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/table/tabletest"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// optionCases are jobs that give every option of kinds Encode and Sample that outputs depend on, and every value of those that have a
// list of values; TestOptionsSameBytes fails when one is missing.
func optionCases(t *testing.T) map[string]job {
	dir := t.TempDir()
	for name, k := range kinds() {
		var b bytes.Buffer
		if err := picture.Encode(&b, k.frame, picture.EncodeOptions{Format: k.format, Quality: 95}); err != nil {
			t.Fatal(err)
		}
		put(t, dir, "kinds/"+name, b.Bytes())
	}
	for i := range 4 { // larger than a tile, and smaller
		w, h := 32-8*(i%3), 32-16*(i%2)
		put(t, dir, fmt.Sprintf("tiles/%d.png", i), scene(t, uint64(i), w, h))
		put(t, dir, fmt.Sprintf("tiles/%d_mask.png", i), maskOf(t, w, h, func(x, y int) bool { return x > w/2 }))
		put(t, dir, fmt.Sprintf("maps/%d.png", i), labelMap(t, uint64(i), 32-3*(i/3), 32, 12))
		put(t, dir, fmt.Sprintf("maps/%d_labels.png", i), labelMap(t, uint64(i+9), 24, 32-3*(i/3), 12))
	}
	paths := writePaths(t, dir)
	kl, few := get(t, klModel), get(t, fewPictures)
	encode := func(settings ...string) job {
		return encodeJob(t, kl, few, "input.limit=7", "output.rows_per_part=3").with(settings...)
	}
	scored := "input.path=" + mixed(t, filepath.Join(dir, "scored"), 6, "mask", "truth")
	masked := "input.path=" + mixed(t, filepath.Join(dir, "masked"), 6, "mask")
	plain := "input.path=" + mixed(t, filepath.Join(dir, "plain"), 6)
	allKinds, tiles := "input.path="+filepath.Join(dir, "kinds"), "input.path="+filepath.Join(dir, "tiles")
	rows := "input.path=" + descriptions(t, dir, nil)
	words := "sample.vocab=" + vocab(t, 200)
	text := taskJob(t, textModel, "text", rows, "input.caption=caption", words, "sampler.steps=4")
	byClass := taskJob(t, classModel, "class", "sample.classes=0-2", "sample.per_class=2")
	return map[string]job{
		"encode sample, float16, tensor":  encode("encode.latent=sample", "encode.dtype=float16", "output.latent_layout=tensor", "encode.scale=false"),
		"encode mode, float32, list, lz4": encode("encode.latent=mode", "encode.dtype=float32", "output.latent_layout=list", "output.compression=lz4", "compute.seed=99"),
		"encode random, flipped, resized": encode("preprocess.crop=random", "preprocess.flip=true", "preprocess.resize=cv-area", "preprocess.size=24x40"),
		"encode mixed precision":          encode("compute.precision=mixed", "input.exif=apply", "model.weights=auto"),
		"encode columns, ids, paths": encode("input.path="+paths, "input.image=picture", "input.id=name", "input.label=kind", "input.columns=[note]",
			"input.allow_paths="+dir, "preprocess.size=32"),

		"kinds, png, tree": taskJob(t, superresModel, "superres", allKinds, "output.format=png", "output.layout=tree", "output.alpha=keep", "output.metadata=keep"),
		"kinds, jpeg, matte": taskJob(t, superresModel, "superres", allKinds, "output.format=jpeg", "output.quality=60", "output.layout=arrow", "output.alpha=matte",
			"output.matte=#102030", "output.metadata=drop", "output.compression=zstd"),
		"kinds, alpha dropped, as stored": taskJob(t, superresModel, "superres", allKinds, "output.alpha=drop", "input.exif=ignore", "output.compression=none", "sampler.steps=1"),
		"degraded and scored":             taskJob(t, superresModel, "superres", scored, "sample.degradation=pil_bicubic", "sample.score=true", "sampler.eta=0.4", "sampler.temperature=0.7"),
		"scored by a column":              taskJob(t, inpaintModel, "inpaint", scored, "input.mask=mask", "sample.inpaint=model", "input.reference=truth", "sample.score=true"),
		"latent mask, auto":               taskJob(t, uncondModel, "inpaint", masked, "input.mask=mask", "sample.inpaint=auto", "model.weights=raw"),
		"latent mask in tiles": taskJob(t, uncondModel, "inpaint", tiles, "input.mask=mask", "sample.inpaint=latent", "limits.tile.size=6", "limits.tile.overlap=2",
			"limits.tile.norm=global", "sampler.eta=1"),
		"outpaint":            taskJob(t, inpaintModel, "inpaint", plain, "sample.outpaint=3,0,5,9"),
		"superres in tiles":   taskJob(t, superresModel, "superres", tiles, "limits.tile.size=16", "limits.tile.norm=tile", "limits.tile.blend=ramp", "sampler.steps=1"),
		"superres in patches": taskJob(t, superresModel, "superres", tiles, "limits.tile.size=16", "limits.tile.overlap=8", "limits.tile.blend=reference"),
		"img2img in tiles":    taskJob(t, uncondModel, "img2img", tiles, "limits.tile.size=6", "sample.strength=0.4", "sampler.steps=4"),
		"plms with reuse":     taskJob(t, superresModel, "superres", plain, "sampler.name=plms", "sampler.reuse.every=2", "sampler.reuse.branch=1", "sampler.steps=5", "sampler.spacing=quad"),
		"guided text":         text.with("sampler.guidance=3", "sampler.guidance_rescale=0.7", "sampler.guidance_interval=0.2,0.9", "sampler.name=ddim", "sampler.spacing=uniform"),
		"guided text, reuse": text.with("sampler.guidance=2", "sampler.name=dpmpp-2m", "sampler.spacing=karras", "sampler.reuse.every=2",
			"input.columns=[caption]", "compute.precision=fp32"),
		"text, other size": text.with("sample.size=24x40", "sampler.name=unipc", "sampler.spacing=trailing"),
		"layout":           taskJob(t, layoutModel, "layout", rows, "input.boxes=boxes", "input.categories=categories", "sampler.name=euler-a", "sampler.spacing=linspace"),
		"semantic, beside": taskJob(t, semanticModel, "semantic", "input.path="+filepath.Join(dir, "maps"), "input.segmentation=labels", "sampler.name=euler"),
		"class, heun":      byClass.with("sampler.name=heun", "sampler.guidance=1.5", "sample.size=[32, 24]"),
		"class of labels":  taskJob(t, admModel, "class", rows, "input.label=label", "input.id=id"),
		"uncond":           taskJob(t, uncondModel, "uncond", "sample.rows=5", "sample.size=32"),
		"ddpm":             taskJob(t, briefModel, "uncond", "sample.rows=4", "sampler.name=ddpm", "sampler.steps=0"),
		"recorded noise":   taskJob(t, uncondModel, "uncond", "sample.rows=4", noiseFile(t, ramp(4*3*8*8), []int{4, 3, 8, 8}, nil, 0)),
	}
}

// pathRow is a picture that is given by its path.
type pathRow struct {
	Picture tabletest.Image `parquet:"picture"`
	Name    string          `parquet:"name"`
	Kind    int64           `parquet:"kind"`
	Note    *string         `parquet:"note,optional"`
}

// writePaths writes a table of pictures that lie beside it.
func writePaths(t *testing.T, dir string) string {
	t.Helper()
	var rows []pathRow
	for i := range 5 {
		name := fmt.Sprintf("beside/%d.png", i)
		put(t, dir, name, scene(t, uint64(i), 30+i, 40))
		r := pathRow{tabletest.Image{Path: name}, fmt.Sprint("picture ", i), int64(i % 2), nil}
		if i > 2 {
			r.Note = &r.Name
		}
		rows = append(rows, r)
	}
	path := filepath.Join(dir, "paths.parquet")
	tabletest.Write(t, path, rows)
	return path
}

// ramp is n numbers that look like noise.
func ramp(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32((i*7919)%2001-1000) / 600
	}
	return x
}

// TestOptionsSameBytes runs each case with one row at a time and with many: with every option the output is the same, byte for byte.
func TestOptionsSameBytes(t *testing.T) {
	cases := optionCases(t)
	for _, missing := range uncovered(cases) {
		t.Errorf("no case gives %s", missing)
	}
	for i, name := range sorted(cases) {
		if testing.Short() && i%3 != 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			j := cases[name].with("limits.max_bad_rows=0")
			r, err := j.with("compute.batch=1", "compute.threads=1").to(filepath.Join(dir, "ref")).run(t.Context(), jobs.RunOptions{})
			if j.set["compute.precision"] == "mixed" && exitcode.Of(err) == exitcode.Unavailable {
				t.Skip(err)
			} else if err != nil {
				t.Fatalf("%v: %v", j.set, err)
			}
			if r.OK != r.Rows || r.Rows < 4 {
				t.Fatalf("%d of %d rows are fine: %v", r.OK, r.Rows, r.Reasons)
			}
			many := filepath.Join(dir, "many")
			j.with("compute.batch=8", "compute.threads=2").to(many).must(t, jobs.RunOptions{})
			same(t, many, snapshot(t, filepath.Join(dir, "ref")))
		})
	}
}

// uncovered lists the options, and the values of options, that no case gives.
func uncovered(cases map[string]job) (missing []string) {
	given := map[string][]string{}
	for _, j := range cases {
		for k, v := range j.set {
			given[k] = append(given[k], v)
		}
	}
	never := []string{
		"model.sha256",      // a check
		"model.weights=ema", // the same networks with other numbers
	}
	var walk func(v reflect.Value, prefix string)
	walk = func(v reflect.Value, prefix string) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key := strings.TrimPrefix(prefix+"."+f.Tag.Get("yaml"), ".")
			if f.Type.Kind() == reflect.Struct && f.Type.NumField() > 0 && f.Type.Field(0).Tag.Get("yaml") != "" {
				if f.Tag.Get("op") == "" || key == "limits" {
					walk(v.Field(i), key)
				}
				continue
			}
			if f.Tag.Get("op") != "" || slices.Contains(never, key) || prefix == "limits" {
				continue
			}
			if len(given[key]) == 0 {
				missing = append(missing, key)
				continue
			}
			if values := f.Tag.Get("enum"); values != "" {
				for _, x := range strings.Split(values, ",") {
					if !slices.Contains(given[key], x) && !slices.Contains(never, key+"="+x) {
						missing = append(missing, key+"="+x)
					}
				}
			}
		}
	}
	s := spec.Default().Spec
	s.Eval, s.Train = spec.Eval{}, spec.Train{}
	walk(reflect.ValueOf(s), "")
	return slices.DeleteFunc(missing, func(k string) bool { return strings.HasPrefix(k, "eval.") || strings.HasPrefix(k, "train.") })
}
