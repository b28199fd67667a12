package stats

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestKernelDistanceGolden(t *testing.T) {
	const unit = 1e-2 // single precision of terms near 1 shows in values below
	var want map[string]map[string]json.RawMessage
	readJSON(t, "kid.json", &want)
	fs, c, single := tensors(t, "features.safetensors"), comparison{}, comparison{}
	for name, w := range want {
		a, b := sets(t, fs, name)
		for key, raw := range w {
			var k Kernel
			if strings.Contains(key, "rbf_sigma10") {
				k.Sigma = 10
			}
			s := Subsets{Seed: 2020}
			switch {
			case strings.HasSuffix(key, "10x30"):
				s.Count, s.Size = 10, 30
			case strings.HasSuffix(key, "100x40"):
				s.Count, s.Size = 100, 40
			case strings.HasSuffix(key, "20x35"):
				s.Count, s.Size, s.SecondFirst = 20, 35, true
			}
			if s.Count == 0 {
				var v float64
				if err := json.Unmarshal(raw, &v); err != nil {
					t.Fatal(err)
				}
				got, se, err := KernelDistance(a, b, k)
				if err != nil || !(se > 0) {
					t.Errorf("%s: standard error %v, %v", name, se, err)
				}
				c.check(t, "kid/"+key, name, got, v, math.Abs(v), 1e-12)
				continue
			}
			got, err := KernelDistanceSubsets(a, b, k, s)
			if err != nil {
				t.Fatal(err)
			}
			if s.SecondFirst {
				var v float64
				if err := json.Unmarshal(raw, &v); err != nil {
					t.Fatal(err)
				}
				single.check(t, "kid/"+key, name, got.Mean, v, max(math.Abs(v), unit), 1e-4)
				continue
			}
			var v struct {
				Mean32 float64   `json:"mean_f32"`
				SD32   float64   `json:"std_f32"`
				Mean   *float64  `json:"mean_f64"`
				SD     float64   `json:"std_f64"`
				First  []float64 `json:"first_three_f64"`
			}
			if err := json.Unmarshal(raw, &v); err != nil {
				t.Fatal(err)
			}
			single.check(t, "kid/"+key+"/mean", name, got.Mean, v.Mean32, math.Abs(v.Mean32), 1e-4)
			single.check(t, "kid/"+key+"/sd", name, got.SD, v.SD32, max(v.SD32, math.Abs(v.Mean32)), 1e-4)
			if v.Mean != nil {
				c.check(t, "kid/"+key+"/mean", name, got.Mean, *v.Mean, math.Abs(*v.Mean), 1e-12)
				c.check(t, "kid/"+key+"/sd", name, got.SD, v.SD, v.SD, 1e-12)
			}
			for i, w := range v.First {
				c.check(t, "kid/"+key+"/each", name, got.Each[i], w, max(math.Abs(w), v.SD), 1e-12)
			}
		}
	}
	c.report(t, 1e-12)
	single.report(t, 1e-4)
}

func TestInceptionScoreGolden(t *testing.T) {
	var want struct {
		Seed  uint32
		Cases map[string]map[string]json.RawMessage
	}
	readJSON(t, "inception_score.json", &want)
	fs, c := tensors(t, "logits.safetensors"), comparison{}
	for name, w := range want.Cases {
		logits := features(t, fs[name])
		for key, raw := range w {
			s := Splits{Seed: want.Seed, Shuffle: strings.HasSuffix(key, "_shuffled")}
			switch {
			case strings.Contains(key, "splits10_"):
				s.Count = 10
			case strings.Contains(key, "splits7_"):
				s.Count = 7
			case strings.Contains(key, "splits1_"):
				s.Count = 1
			case strings.HasPrefix(key, "chunk10"):
				s.Count, s.Chunks, s.DDOF = 10, true, 1
			case strings.HasPrefix(key, "adm_split5000"):
				s.Size = 5000
			case strings.HasPrefix(key, "adm_split128"):
				s.Size = 128
			default:
				t.Fatalf("unknown score %s", key)
			}
			mean, sd, err := InceptionScore(logits, s)
			if err != nil {
				t.Fatal(err)
			}
			var v []float64
			if s.Size >= 128 {
				var x float64
				if raw[0] == '"' { // not a number there, where a class has no probability
					if math.IsNaN(mean) {
						t.Errorf("%s: %s is not a number", name, key)
					}
					continue
				}
				if err := json.Unmarshal(raw, &x); err != nil {
					t.Fatal(err)
				}
				c.check(t, "inception score/"+key, name, mean, x, x, 1e-12)
				continue
			}
			if err := json.Unmarshal(raw, &v); err != nil {
				t.Fatal(err)
			}
			c.check(t, "inception score/"+key, name, mean, v[0], v[0], 1e-12)
			c.check(t, "inception score/"+key+"/sd", name, sd, v[1], v[0], 1e-12)
		}
	}
	c.report(t, 1e-12)
}

func TestManifoldsGolden(t *testing.T) {
	type scores struct{ Precision, Recall, Density, Coverage float64 }
	var want struct {
		Cases map[string]map[string]struct {
			LE   scores `json:"exact_le"`
			LT   scores `json:"exact_lt"`
			Prdc scores
			Full []float64 `json:"torch_fidelity_full"`
			ADM  *struct {
				F32 scores `json:"float32_only"`
			}
		}
	}
	readJSON(t, "precision_recall.json", &want)
	fs, c := tensors(t, "features.safetensors"), comparison{}
	for name, e := range tensors(t, "prdc_features.safetensors") {
		fs[name] = e
	}
	for name, ks := range want.Cases {
		var a, b Features
		if name == "d64_near" {
			all := features(t, fs["d64_full.a"])
			a, b = all.Rows(0, 200), all.Rows(200, 400)
			b.Data = append([]float32(nil), b.Data...)
			for i := range b.Data {
				b.Data[i] *= float32(1.05)
			}
		} else {
			a, b = sets(t, fs, name)
		}
		for key, w := range ks {
			k := int(key[1] - '0')
			le, err := Manifolds(a, b, k, false)
			if err != nil {
				t.Fatal(err)
			}
			lt, err := Manifolds(a, b, k, true)
			if err != nil {
				t.Fatal(err)
			}
			what := name + " " + key
			c.check(t, "precision", what, le.Precision, w.LE.Precision, 1, 1e-15)
			c.check(t, "recall", what, le.Recall, w.LE.Recall, 1, 1e-15)
			c.check(t, "precision, torch-fidelity", what, le.Precision, w.Full[0], 1, 1e-6)
			c.check(t, "recall, torch-fidelity", what, le.Recall, w.Full[1], 1, 1e-6)
			if w.ADM != nil {
				c.check(t, "precision, adm in float32", what, le.Precision, w.ADM.F32.Precision, 1, 1e-15)
				c.check(t, "recall, adm in float32", what, le.Recall, w.ADM.F32.Recall, 1, 1e-15)
			}
			for _, v := range []scores{w.LT, w.Prdc} {
				c.check(t, "strict precision", what, lt.Precision, v.Precision, 1, 1e-15)
				c.check(t, "strict recall", what, lt.Recall, v.Recall, 1, 1e-15)
				c.check(t, "density", what, lt.Density, v.Density, 1, 4e-15)
				c.check(t, "coverage", what, lt.Coverage, v.Coverage, 1, 1e-15)
			}
		}
	}
	c.report(t, 1e-15)
}

func TestSlicedGolden(t *testing.T) {
	var want map[string]struct {
		F32 float64 `json:"torch_fidelity_f32"`
		F64 float64 `json:"float64"`
	}
	readJSON(t, "mind.json", &want)
	fs, ds, c := tensors(t, "features.safetensors"), tensors(t, "mind.safetensors"), comparison{}
	for name, w := range want {
		a, b := sets(t, fs, name)
		if e, ok := ds[name+".rows_a"]; ok {
			a = a.Pick(indices(e))
		}
		if e, ok := ds[name+".rows_b"]; ok {
			b = b.Pick(indices(e))
		}
		got, err := Sliced(a, b, features(t, ds[name+".directions"]))
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, "mind", name, got, w.F64, w.F64, 1e-12)
		c.check(t, "mind in float32", name, got, w.F32, w.F32, 1e-6)
	}
	c.report(t, 1e-12)
}
