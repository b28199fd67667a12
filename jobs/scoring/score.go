package scoring

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/eval/measure"
	"github.com/ldm-batch/ldm-batch/eval/reference"
	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// How much of the pictures a report shows.
const (
	shownSamples = 48
	shownPairs   = 12
	shownNearest = 12
	shownFailed  = 200
)

// sideOf reads the rows of one set back from the parts.
type sideOf struct {
	dir   string
	name  string // "generated" or "reference"
	parts []commit.Entry
	taps  []string
	rec   *record

	ok     int64
	failed []report.FailedRow
	bad    int64
	sizes  [4]int // least and most height, least and most width
}

// each yields the good rows of the set in order, with their numbers among the good ones.
func (s *sideOf) each(ctx context.Context, yield func(n int64, r *part.Row) error) error {
	n := int64(0)
	for _, p := range s.parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := part.OpenTrusted(filepath.Join(s.dir, p.File)) // hashed when the parts were listed
		if err != nil {
			return err
		}
		for row, err := range r.Rows() {
			if err == nil && row.Status == part.OK {
				err = yield(n, &row)
				n++
			}
			if err != nil {
				r.Close()
				return fmt.Errorf("%s: %w", p.File, err)
			}
		}
		r.Close()
	}
	return nil
}

// survey reads everything but features, once.
func (s *sideOf) survey() error {
	for _, p := range s.parts {
		r, err := part.Open(filepath.Join(s.dir, p.File), part.Expect{Size: p.Bytes, SHA256: p.SHA256})
		if err != nil {
			return err
		}
		for row, err := range r.Rows() {
			if err != nil {
				r.Close()
				return err
			}
			if row.Status != part.OK {
				if s.bad++; len(s.failed) < shownFailed {
					s.failed = append(s.failed, report.FailedRow{Set: s.name, ID: row.ID, Reason: row.Error})
				}
				continue
			}
			if s.ok == 0 {
				s.sizes = [4]int{row.Height, row.Height, row.Width, row.Width}
			}
			s.sizes = [4]int{min(s.sizes[0], row.Height), max(s.sizes[1], row.Height), min(s.sizes[2], row.Width), max(s.sizes[3], row.Width)}
			s.ok++
		}
		r.Close()
	}
	return nil
}

// set is the side as package measure takes it.
func (s *sideOf) set(ctx context.Context, info setInfo) *measure.Set {
	return &measure.Set{Rows: s.ok, Labeled: info.Labeled, Each: func(tap string, yield func([]float32, int64) error) error {
		at := slices.Index(s.taps, tap)
		return s.each(ctx, func(_ int64, r *part.Row) error {
			label := int64(-1)
			if r.HasLabel {
				label = r.Label
			}
			v, ok := r.Extra[len(r.Extra)-len(s.taps)+at].([]float32)
			if !ok {
				return exitcode.Errorf(exitcode.Data, "row %q has no features %s", r.ID, tap)
			}
			return yield(v, label)
		})
	}}
}

// thumbs collects the pictures of rows by their numbers.
func (s *sideOf) thumbs(ctx context.Context, rows map[int64]bool, info setInfo) (map[int64]report.Thumb, error) {
	out := map[int64]report.Thumb{}
	if len(rows) == 0 {
		return out, nil
	}
	return out, s.each(ctx, func(n int64, r *part.Row) error {
		if !rows[n] {
			return nil
		}
		m, err := picture.Decode(r.Image, picture.DefaultOptions())
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := picture.EncodePNG(&b, m, picture.PNGOptions{}); err != nil {
			return err
		}
		t := report.Thumb{ID: r.ID, Width: m.W, Height: m.H, PNG: b.Bytes()}
		if r.HasLabel {
			t.Class = className(info, r.Label)
		}
		out[n] = t
		return nil
	})
}

func className(info setInfo, label int64) string {
	if label >= 0 && label < int64(len(info.ClassNames)) {
		return info.ClassNames[label]
	}
	return strconv.FormatInt(label, 10)
}

func (s *sideOf) about(info setInfo) report.Set {
	out := report.Set{Path: info.Path, What: info.What, Rows: s.ok, Failed: s.bad}
	switch {
	case s.ok == 0:
	case s.sizes[0] == s.sizes[1] && s.sizes[2] == s.sizes[3]:
		out.Sizes = fmt.Sprintf("%dx%d", s.sizes[0], s.sizes[2])
	default:
		out.Sizes = fmt.Sprintf("%dx%d to %dx%d", s.sizes[0], s.sizes[2], s.sizes[1], s.sizes[3])
	}
	return out
}

// score makes the result of a folder whose parts are all there. It depends on parts and record alone.
func score(ctx context.Context, dir string, rec *record) (*report.Result, []measure.Keyed, error) {
	entries, err := commit.Entries(dir)
	if err != nil {
		return nil, nil, err
	}
	g := &sideOf{dir: dir, name: "generated", rec: rec}
	r := &sideOf{dir: dir, name: "reference", rec: rec}
	rows := int64(0)
	for _, p := range entries {
		if rows < rec.Generated.Rows {
			g.parts = append(g.parts, p)
		} else {
			r.parts = append(r.parts, p)
		}
		rows += p.Rows
	}
	for _, t := range rec.Taps {
		g.taps, r.taps = append(g.taps, t.Name), append(r.taps, t.Name)
	}
	for _, s := range []*sideOf{g, r} {
		if err := s.survey(); err != nil {
			return nil, nil, err
		}
	}
	p, err := eval.ParseProtocol(rec.Eval.Protocol)
	if err != nil {
		return nil, nil, err
	}
	var given *reference.Reference
	if rec.Stats != "" {
		if given, err = reference.Open(rec.Stats, nil); err != nil {
			return nil, nil, fmt.Errorf("reference: %w", err)
		}
	}
	var ref *measure.Set
	switch {
	case rec.Pictures:
		ref = r.set(ctx, rec.Reference)
	case given != nil && given.Features != nil:
		ref = setOf(*given.Features)
	}
	out := &measure.Outcome{}
	if len(rec.Taps) > 0 {
		out, err = measure.Scores(measure.Config{
			Metrics: slices.DeleteFunc(slices.Clone(rec.Eval.Metrics), spec.Paired), Protocol: p, Network: rec.Network, Taps: rec.Taps, Neighbours: rec.Eval.Neighbours,
			MaxFeatures: rec.Eval.MaxFeatures, Reconstruct: rec.Eval.Reconstruct, Keep: rec.Eval.SaveStats != "", ClassNames: rec.Classes,
		}, g.set(ctx, rec.Generated), ref, given)
		if err != nil {
			return nil, nil, exitcode.With(exitcode.Data, err)
		}
	}
	scores := out.Scores
	worst, more, err := pairScores(ctx, g, rec)
	if err != nil {
		return nil, nil, err
	}
	scores = append(scores, more...)
	if out.Kept != nil {
		left, err := saveStatistics(rec, out.Kept)
		if err != nil {
			return nil, nil, fmt.Errorf("statistics %s: %w", rec.Eval.SaveStats, err)
		}
		if left != "" {
			out.Warnings = append(out.Warnings, left)
		}
	}

	res := &report.Result{
		Name: cmp.Or(rec.Name, filepath.Base(dir)), Generated: g.about(rec.Generated), Reference: r.about(rec.Reference), Classes: out.Classes, Projection: out.Projection,
		Warnings: append(out.Warnings, rec.Warnings...), Failed: append(g.failed, r.failed...),
		Protocol:  report.Protocol{Name: p.Name, Resize: rec.Network.Resize, Overrule: rec.Overrule, Words: protocolWords(rec, p)},
		Extractor: report.Extractor{Name: rec.Network.Name, SHA256: rec.Network.SHA256, Path: rec.Network.Path, Words: rec.Network.Words},
	}
	if rec.Network.FID {
		res.Protocol.Scaling = string(p.Scaling)
	}
	if rec.Network.Known != "" {
		res.Extractor.Words += "; known as " + rec.Network.Known
	}
	if !rec.Pictures && rec.Reference.Path != "" {
		res.Reference = report.Set{Path: rec.Reference.Path, What: rec.Reference.What, Rows: rec.Reference.Rows}
	}
	if n := g.bad + r.bad; n > 0 {
		res.Warnings = append(res.Warnings, fmt.Sprintf("%d rows could not be used and took no part", n))
	}
	for _, f := range rec.Facts {
		res.Provenance = append(res.Provenance, report.Fact{Name: f[0], Value: f[1]})
	}
	for i, s := range scores {
		scores[i].Key = rec.Eval.Key(s.Key)
		res.Scores = append(res.Scores, s.Score)
	}
	for i := range res.Classes {
		res.Classes[i].Name = className(rec.Generated, res.Classes[i].Label)
	}
	return res, scores, g.pictures(ctx, r, res, out.Neighbours, worst)
}

// pictures adds the pictures that people look at.
func (g *sideOf) pictures(ctx context.Context, r *sideOf, res *report.Result, nearest []measure.Neighbour, worst []pairOf) error {
	spread := func(n int64) (list []int64) {
		for i := range min(n, shownSamples) {
			list = append(list, i*n/min(n, shownSamples))
		}
		return list
	}
	gs, rs := spread(g.ok), spread(r.ok)
	if len(nearest) > shownNearest {
		nearest = nearest[:shownNearest]
	}
	if r.ok == 0 { // features without pictures
		nearest = nil
	}
	wantG, wantR := map[int64]bool{}, map[int64]bool{}
	for _, n := range gs {
		wantG[n] = true
	}
	for _, n := range rs {
		wantR[n] = true
	}
	for _, n := range nearest {
		wantG[int64(n.Generated)], wantR[int64(n.Reference)] = true, true
	}
	whole := g.bad == 0 && r.bad == 0 // else numbers of good rows are not those of pairs
	for _, p := range worst {
		wantG[p.n] = true
		if whole {
			wantR[p.n] = true
		}
	}
	tg, err := g.thumbs(ctx, wantG, g.rec.Generated)
	if err != nil {
		return err
	}
	tr, err := r.thumbs(ctx, wantR, r.rec.Reference)
	if err != nil {
		return err
	}
	for _, n := range gs {
		res.Samples = append(res.Samples, tg[n])
	}
	for _, n := range rs {
		res.References = append(res.References, tr[n])
	}
	for _, n := range nearest {
		res.Neighbours = append(res.Neighbours, report.Neighbour{Generated: tg[int64(n.Generated)], Reference: tr[int64(n.Reference)], Distance: report.Number(n.Distance), Copied: n.Copied})
	}
	for _, p := range worst {
		if t, ok := tr[p.n]; ok && whole {
			res.Pairs = append(res.Pairs, report.Pair{Generated: tg[p.n], Reference: t, Scores: p.facts})
		}
	}
	return nil
}

// pairOf is a row of a pair and its scores.
type pairOf struct {
	n     int64
	first float64
	facts []report.Fact
}

// pairScores are the means of the scores of pairs, and the pairs with the worst first score.
func pairScores(ctx context.Context, g *sideOf, rec *record) (worst []pairOf, scores []measure.Keyed, err error) {
	names := pairedMetrics(rec.Eval.Metrics)
	if len(names) == 0 {
		return nil, nil, nil
	}
	sums := make([]struct {
		n, infinite int64
		mean, m2    float64
	}, len(names))
	err = g.each(ctx, func(n int64, r *part.Row) error {
		p := pairOf{n: n}
		for i, name := range names {
			v, ok := r.Extra[1+i].(float64)
			if !ok {
				return exitcode.Errorf(exitcode.Data, "row %q has no %s", r.ID, name)
			}
			if i == 0 {
				if p.first = v; name == "lpips" { // a distance: the largest is the worst
					p.first = -v
				}
			}
			p.facts = append(p.facts, report.Fact{Name: labels[name], Value: fmt.Sprintf("%.4g", v)})
			if s := &sums[i]; math.IsInf(v, 0) {
				s.infinite++
			} else {
				s.n++
				d := v - s.mean
				s.mean += d / float64(s.n)
				s.m2 += d * (v - s.mean)
			}
		}
		at, _ := slices.BinarySearchFunc(worst, p, func(a, b pairOf) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.n, b.n)) })
		if worst = slices.Insert(worst, at, p); len(worst) > shownPairs {
			worst = worst[:shownPairs]
		}
		return nil
	})
	for i, name := range names {
		s := sums[i]
		k := measure.Keyed{Key: name, Score: report.Score{Metric: name, Label: labels[name], Value: report.Number(s.mean), GeneratedRows: s.n + s.infinite, ReferenceRows: s.n + s.infinite}}
		k.Notes = []string{"mean over pictures, " + rec.Eval.Plane}
		if name == "lpips" {
			k.Notes = []string{"mean over pictures, VGG16, whole pictures in RGB"}
		} else if rec.Eval.Border > 0 {
			k.Notes = append(k.Notes, fmt.Sprintf("border of %d pixels left out", rec.Eval.Border))
		}
		if s.infinite > 0 {
			k.Notes = append(k.Notes, fmt.Sprintf("%d equal pairs, whose value is infinite, are left out", s.infinite))
		}
		if s.n == 0 {
			k.Value = report.Number(math.Inf(1))
		}
		if s.n > 1 {
			e := math.Sqrt(s.m2/float64(s.n-1)) / math.Sqrt(float64(s.n))
			k.StandardError, k.Interval = report.Num(e), report.Around(s.mean, e)
		}
		scores = append(scores, k)
	}
	return worst, scores, err
}

var labels = map[string]string{"psnr": "PSNR", "ssim": "SSIM", "msssim": "MS-SSIM", "lpips": "LPIPS"}

func protocolWords(rec *record, p eval.Protocol) []string {
	if !rec.Network.FID {
		return nil
	}
	words := []string{fmt.Sprintf("pictures are resized to %d x %d by %s and scaled to %s", eval.Side, eval.Side, p.Resize, p.Scaling)}
	if p.Unseeded {
		words = append(words, "the tool draws without a seed; the seeds here are this program's")
	}
	return words
}
