package spec

import (
	"math"
	"strings"
	"testing"
)

const evalJob = `kind: Eval
spec:
  eval: {generated: out, reference: "a,b", metrics: [fid, is], extractor: {path: inception.pth}}
  output: {path: score}
`

func TestEval(t *testing.T) {
	r, err := load(evalJob, nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := r.Spec.Eval; e.Generated != "/base/out" || e.Reference != "/base/a,/base/b" || e.Extractor.Path != "/base/inception.pth" || e.Protocol != "torch-fidelity" {
		t.Errorf("%+v", e)
	}
	model := []Setting{{"model.checkpoint", "m", "--set"}, {"model.config", "c", "--set"}, {"preprocess.size", "64", "--set"}}
	for want, settings := range map[string][]Setting{
		"":                           append([]Setting{{"eval.generated", "", "--set"}, {"eval.reconstruct", "true", "--set"}}, model...),
		`"fdi" is not one of fid`:    {{"eval.metrics", "[fdi]", "--set"}},
		"fid is listed twice":        {{"eval.metrics", "[fid, fid]", "--set"}},
		"metrics: missing":           {{"eval.metrics", "[]", "--set"}},
		"generated: missing":         {{"eval.generated", "", "--set"}},
		"reference: missing: fid":    {{"eval.reference", "", "--set"}},
		"has no inception score":     {{"eval.protocol", "clean-fid", "--set"}},
		"extractor.path: missing":    {{"eval.extractor.path", "", "--set"}, {"eval.extractor.name", "inception", "--set"}},
		"is is made of features of":  {{"eval.extractor.path", "", "--set"}},
		"file of the classifier":     {{"eval.extractor.path", "", "--set"}, {"eval.extractor.name", "classifier", "--set"}, {"eval.metrics", "[accuracy]", "--set"}},
		"weights of VGG16":           {{"eval.extractor.path", "", "--set"}, {"eval.extractor.name", "vgg16", "--set"}, {"eval.metrics", "[precision]", "--set"}},
		"inception, not of vgg16":    {{"eval.extractor.name", "vgg16", "--set"}},
		"float64 is for networks":    append([]Setting{{"eval.extractor.name", "first-stage", "--set"}, {"eval.extractor.path", "", "--set"}, {"eval.metrics", "[kid]", "--set"}, {"eval.extractor.precision", "float64", "--set"}}, model...),
		"meaning for shapes64":       {{"eval.extractor.name", "shapes64", "--set"}, {"eval.metrics", "[accuracy]", "--set"}},
		"tells classes apart":        {{"eval.metrics", "[accuracy]", "--set"}},
		"not of first-stage":         append([]Setting{{"eval.extractor.name", "first-stage", "--set"}}, model...),
		"checkpoint: missing":        {{"eval.extractor.name", "first-stage", "--set"}, {"eval.metrics", "[kid]", "--set"}, {"eval.extractor.path", "", "--set"}},
		"does not go with":           append([]Setting{{"eval.reconstruct", "true", "--set"}}, model...),
		"without spec.eval.reconst":  {{"model.checkpoint", "m", "--set"}},
		"not a condition":            {{"eval.fail_if", "[fid]", "--set"}},
		"not a number":               {{"eval.fail_if", "[fid>x]", "--set"}},
		"kid is not among":           {{"eval.fail_if", "[kid>1]", "--set"}},
		"fd is not among":            {{"eval.fail_if", "[fd>1]", "--set"}},
		"no fid without":             {{"eval.fail_if", "[fid>1]", "--set"}, {"eval.reference", "", "--set"}, {"eval.save_stats", "s.arrow", "--set"}},
		"go with the metric lpips":   {{"eval.metrics", "[psnr, lpips]", "--set"}},
		"could be kept":              {{"eval.metrics", "[is]", "--set"}, {"eval.save_stats", "s.npz", "--set"}},
		"ends in .arrow":             {{"eval.save_stats", "s.pkl", "--set"}},
		`"double" is not one of`:     {{"eval.extractor.precision", "double", "--set"}},
		"no meaning for kind Eval":   {{"sampler.steps", "3", "--set"}},
		"see spec.eval.generated":    {{"input.path", "x", "--set"}},
		`"fast" is not one of torch`: {{"eval.protocol", "fast", "--set"}},
	} {
		_, err := load(evalJob, nil, settings...)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

func TestCondition(t *testing.T) {
	for text, want := range map[string][3]bool{ // of 1, 2 and 3
		"fid>2": {false, false, true}, "fid >= 2": {false, true, true}, "fid<2": {true, false, false}, " fid<=2.0 ": {true, true, false},
	} {
		c, err := ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			if c.Holds(float64(i+1)) != w {
				t.Errorf("%s of %d", text, i+1)
			}
		}
		if !c.Holds(math.NaN()) {
			t.Errorf("%s lets pass what is not a number", text)
		}
	}
}
