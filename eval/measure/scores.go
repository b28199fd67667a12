package measure

import (
	"fmt"
	"math"
	"slices"

	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/eval/extract"
	"github.com/ldm-batch/ldm-batch/eval/reference"
	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/eval/stats"
)

// FewRows is the number of pictures below which the Fréchet distance is dominated by their number.
const FewRows = 10000

// Config says what is measured.
type Config struct {
	Metrics     []string
	Protocol    eval.Protocol
	Network     extract.Identity
	Taps        []extract.Tap
	Neighbours  int // 0: the protocol's, or 3 of precision and recall and 5 of density and coverage
	MaxFeatures int
	Reconstruct bool     // the generated set are reconstructions
	Keep        bool     // what statistics of the generated set are made of is wanted
	ClassNames  []string // of the network's classes, where it has any
}

// Keyed is a score under the key by which conditions and results name it.
type Keyed struct {
	Key string
	report.Score
}

// Neighbour is a generated row and the reference row nearest to it, by their numbers in the sets.
type Neighbour struct {
	Generated, Reference int
	Distance             float64
	Copied               bool
}

// Kept is what statistics of the generated set by one tap are made of.
type Kept struct {
	Tap     string
	Moments *stats.Moments
	// Of the tap of FID: features and labels of all rows, or no row if they are more than [Config.MaxFeatures].
	Features stats.Features
	Labels   []int64
}

// Outcome is what was measured.
type Outcome struct {
	Scores     []Keyed
	Classes    []report.Class
	Neighbours []Neighbour // the nearest first
	Projection *report.Projection
	Kept       []Kept // by tap; nil unless asked for
	Warnings   []string
}

// tapOf is the tap that a metric is made of, for the network of FID.
func tapOf(metric string) string {
	switch metric {
	case "fid_64", "fid_192", "fid_768":
		return metric[len("fid_"):]
	case "sfid":
		return extract.Spatial
	case "is":
		return extract.Unbiased
	}
	return extract.Pool
}

// tapOf is the tap that a metric is made of.
func (c Config) tapOf(metric string) string {
	if c.Network.FID && len(c.Taps) > 1 {
		return tapOf(metric)
	}
	return c.Taps[0].Name
}

// TapsOf lists the taps of the network of FID that metrics need, each once, in the order of the metrics.
func TapsOf(metrics []string) []string {
	var taps []string
	seen := map[string]bool{}
	for _, m := range metrics {
		if t := tapOf(m); !seen[t] {
			seen[t] = true
			taps = append(taps, t)
		}
	}
	return taps
}

// measurement is one run of Scores.
type measurement struct {
	Config
	generated, reference *Set
	given                *reference.Reference
	out                  *Outcome
}

// Scores measures. The reference is a set, statistics, or both: then distances of distributions are from the statistics, as far as
// they go. Without a reference, metrics that compare are left out.
func Scores(c Config, generated, ref *Set, given *reference.Reference) (*Outcome, error) {
	m := &measurement{Config: c, generated: generated, reference: ref, given: given, out: &Outcome{}}
	// Metric by metric within one tap after the other, so that the features of one tap at a time are held.
	for _, tap := range c.Taps {
		var mine []string
		for _, metric := range c.Metrics {
			if c.tapOf(metric) == tap.Name && metric != AccuracyMetric {
				mine = append(mine, metric)
			}
		}
		if len(mine) == 0 {
			continue
		}
		if err := m.tap(tap, mine); err != nil {
			return nil, err
		}
	}
	if slices.Contains(c.Metrics, AccuracyMetric) {
		if err := m.accuracy(); err != nil {
			return nil, fmt.Errorf("%s: %w", AccuracyMetric, err)
		}
	}
	// In the order of the metrics.
	var sorted []Keyed
	for _, metric := range c.Metrics {
		for _, s := range m.out.Scores {
			if s.Key == metric || s.Key == metric+"_unbiased" {
				sorted = append(sorted, s)
			}
		}
	}
	m.out.Scores = sorted
	return m.out, nil
}

// side is the reference by one tap.
type side struct {
	*held                // nil without pictures
	normal *stats.Normal // nil without a reference
	n      int64
}

func (m *measurement) tap(tap extract.Tap, metrics []string) error {
	main := tap.Name == m.tapOf("fid")
	g, err := hold(m.generated, tap, m.MaxFeatures, m.Keep && tap.Name != extract.Unbiased)
	if err != nil {
		return fmt.Errorf("generated: %w", err)
	}
	if m.Keep && tap.Name != extract.Unbiased {
		k := Kept{Tap: tap.Name, Moments: g.moments}
		if main && g.whole() {
			k.Features, k.Labels = g.sample, g.labels
		}
		m.out.Kept = append(m.out.Kept, k)
	}
	var r side
	if m.reference != nil && tap.Name != extract.Unbiased {
		if r.held, err = hold(m.reference, tap, m.MaxFeatures, false); err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		r.n = r.held.n
	}
	switch {
	case tap.Name == extract.Unbiased:
	case m.given != nil && (r.held == nil || m.given.Has(tap.Name, tap.D) == nil):
		if r.normal, err = m.given.Normal(tap.Name, tap.D); err != nil {
			return err
		}
		r.n = int64(r.normal.N)
	case r.held != nil:
		if r.normal, err = r.held.normal(); err != nil {
			return fmt.Errorf("reference: %w", err)
		}
	}
	for _, metric := range metrics {
		if r.normal == nil && metric != "is" {
			continue // there is no reference
		}
		if err := m.metric(metric, g, r); err != nil {
			return fmt.Errorf("%s: %w", metric, err)
		}
	}
	if main && r.held != nil {
		m.out.Projection = project(g, r.held)
	}
	return nil
}

func (m *measurement) metric(metric string, g *held, r side) error {
	switch metric {
	case "fid", "fid_64", "fid_192", "fid_768", "sfid":
		return m.frechet(metric, g, r)
	case "fid_infinity":
		return m.infinity(g, r)
	case "class_fid":
		return m.classes(g, r)
	case "kid":
		return m.kernel(g, r)
	case "is":
		return m.inception(g)
	case "precision", "recall", "density", "coverage":
		return m.manifold(metric, g, r)
	case "mind":
		return m.sliced(g, r)
	case "memorised":
		return m.memorised(g, r)
	}
	return nil // made of pictures, elsewhere
}

func (m *measurement) add(key, metric, label string, value float64, g, r int64) *report.Score {
	m.out.Scores = append(m.out.Scores, Keyed{key, report.Score{Metric: metric, Label: label, Value: report.Number(value), GeneratedRows: g, ReferenceRows: r}})
	return &m.out.Scores[len(m.out.Scores)-1].Score
}

// thinned is a note on rows left out.
func thinned(s *report.Score, what string, sets ...*held) {
	for _, h := range sets {
		if h != nil && !h.whole() {
			s.Notes = append(s.Notes, fmt.Sprintf("%s from %d of %d rows", what, h.sample.N, h.n))
		}
	}
}

func (m *measurement) frechet(key string, g *held, r side) error {
	p, err := g.normal()
	if err != nil {
		return fmt.Errorf("generated: %w", err)
	}
	d, err := stats.Frechet(p, r.normal)
	if err != nil {
		return err
	}
	metric, label := "fid", m.Network.Label("FID")
	switch {
	case key == "sfid":
		metric, label = "sfid", "sFID"
	case key != "fid":
		label = fmt.Sprintf("FID, %s features", key[len("fid_"):])
	case m.Reconstruct:
		metric, label = "rfid", "r"+label
	case !m.Network.FID:
		metric = "fd"
	}
	s := m.add(key, metric, label, d.Value, g.n, r.n)
	if g.sample.N >= 2 {
		e, err := stats.FrechetError(g.sample, r.normal)
		if err != nil {
			return err
		}
		e *= math.Sqrt(float64(g.sample.N) / float64(g.n))
		s.StandardError, s.Interval = report.Num(e), report.Around(d.Value, e)
		s.Interval.Low = max(0, s.Interval.Low)
		thinned(s, "standard error", g)
	}
	if g.sample.N >= 8 {
		corrected, _, err := stats.FrechetBlocks(g.shuffled(), r.normal, 4)
		if err != nil {
			return err
		}
		s.Corrected = report.Num(max(0, corrected))
	}
	s.Notes = append(s.Notes, "the standard error is that of the generated rows, by the delta method")
	if g.n < FewRows {
		m.out.Warnings = append(m.out.Warnings, fmt.Sprintf("%s is of %d generated pictures: below %d it is dominated by their number; extrapolated to infinitely many it is %s",
			label, g.n, FewRows, maybe(s.Corrected)))
	}
	if r.n > 0 && r.n < FewRows {
		m.out.Warnings = append(m.out.Warnings, fmt.Sprintf("the reference of %s has %d pictures only", label, r.n))
	}
	return nil
}

func maybe(n *report.Number) string {
	if n == nil {
		return "not known"
	}
	return fmt.Sprintf("%.4g", float64(*n))
}

func (m *measurement) infinity(g *held, r side) error {
	n := g.sample.N
	least := 5000
	if n < 2*least {
		least = n / 2
	}
	subsets, err := stats.InfinitySubsets(n, least, 15, seed)
	if err != nil {
		return err
	}
	v, _, _, err := stats.FrechetInfinity(g.sample, r.normal, subsets)
	if err != nil {
		return err
	}
	s := m.add("fid_infinity", "fid_infinity", m.Network.Label("FID")+" at infinity", v, g.n, r.n)
	s.Notes = []string{fmt.Sprintf("15 subsets of %d to %d rows, seed %d", least, n, seed)}
	return nil
}

func (m *measurement) classes(g *held, r side) error {
	tap := m.tapOf("class_fid")
	given := m.given != nil && m.given.HasClasses(tap)
	if labels := given || m.reference != nil && m.reference.Labeled; !m.generated.Labeled || !labels {
		return fmt.Errorf("both sets need labels; generated has them: %t, reference: %t", m.generated.Labeled, labels)
	}
	of := map[int64]stats.ClassReference{}
	var err error
	if given {
		err = m.given.Classes(tap, func(class, rows int64, p *stats.Normal) error {
			of[class] = stats.ClassReference{N: int(rows), Normal: p}
			return nil
		})
	} else {
		of, err = stats.Classes(r.sample, r.labels)
	}
	if err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	list, err := stats.FrechetByClass(g.sample, g.labels, of, r.normal)
	if err != nil {
		return err
	}
	sum, n := 0.0, 0
	for _, c := range list {
		m.out.Classes = append(m.out.Classes, report.Class{Label: c.Class, GeneratedRows: int64(c.NA), ReferenceRows: int64(c.NB), ToClass: report.Num(c.ToClass), ToAll: report.Num(c.ToAll)})
		if !math.IsNaN(c.ToClass) {
			sum += c.ToClass
			n++
		}
	}
	if n == 0 {
		return fmt.Errorf("no class has two rows in both sets")
	}
	s := m.add("class_fid", "class_fid", m.Network.Label("FID")+", mean over classes", sum/float64(n), g.n, r.n)
	s.Notes = []string{fmt.Sprintf("%d classes with two rows or more in both sets; few rows of a class dominate its distance", n)}
	thinned(s, "classes", g, r.held)
	return nil
}

// kernelRows is the most rows of which all pairs are taken.
const kernelRows = 10000

func (m *measurement) kernel(g *held, r side) error {
	sub := m.Protocol.KID
	least := min(g.sample.N, r.sample.N)
	if m.Protocol.Shrink {
		sub.Size = min(sub.Size, least)
	}
	label := "KID"
	if !m.Network.FID {
		label = fmt.Sprintf("KD(%s)", m.Network.Name)
	}
	key := "kid"
	if sub.Count > 0 && sub.Size <= least {
		e, err := stats.KernelDistanceSubsets(g.sample, r.sample, stats.Kernel{}, sub)
		if err != nil {
			return err
		}
		s := m.add(key, "kid", label, e.Mean, g.n, r.n)
		of := fmt.Sprintf("%d subsets of %d rows", sub.Count, sub.Size)
		s.Spread = &report.Spread{SD: report.Number(e.SD), Of: of}
		s.Notes = []string{fmt.Sprintf("%s, seed %d", of, sub.Seed)}
		key, label = "kid_unbiased", label+", all pairs"
	}
	few := func(h *held) stats.Features {
		if h.sample.N <= kernelRows {
			return h.sample
		}
		return h.sample.Pick(stats.NewRandomState(seed).Choice(h.sample.N, kernelRows))
	}
	a, b := few(g), few(r.held)
	v, e, err := stats.KernelDistance(a, b, stats.Kernel{})
	if err != nil {
		return err
	}
	s := m.add(key, "kid", label, v, int64(a.N), int64(b.N))
	s.StandardError, s.Interval = report.Num(e), report.Around(v, e)
	s.Notes = []string{"unbiased estimate over all pairs of rows"}
	return nil
}

func (m *measurement) inception(g *held) error {
	p := m.Protocol.Score
	v, sd, err := stats.InceptionScore(g.sample, p)
	if err != nil {
		return err
	}
	s := m.add("is", "is", "IS", v, g.n, 0)
	of := fmt.Sprintf("%d splits", p.Count)
	if p.Size > 0 {
		of = fmt.Sprintf("splits of %d rows", p.Size)
	}
	if n := report.Num(sd); n != nil {
		s.Spread = &report.Spread{SD: *n, Of: of}
	}
	s.Notes = []string{of}
	if p.Shuffle {
		s.Notes = []string{fmt.Sprintf("%s, shuffled by seed %d", of, p.Seed)}
	}
	thinned(s, "score", g)
	return nil
}

func (m *measurement) manifold(metric string, g *held, r side) error {
	for _, s := range m.out.Scores {
		if s.Key == metric {
			return nil // came with another one
		}
	}
	wanted := func(names ...string) bool {
		for _, n := range names {
			if n == metric {
				return true
			}
		}
		return false
	}
	k, strict := m.Neighbours, false
	if k == 0 {
		if k = m.Protocol.Neighbours; k == 0 {
			k = 3
		}
		if wanted("density", "coverage") {
			k = 5
		}
	}
	balls := "closed balls"
	if wanted("density", "coverage") {
		strict, balls = true, "open balls"
	}
	v, err := stats.Manifolds(g.sample, r.sample, k, strict)
	if err != nil {
		return err
	}
	add := func(key, label string, value float64) {
		s := m.add(key, key, label, value, g.n, r.n)
		s.Notes = []string{fmt.Sprintf("%d neighbours, %s", k, balls)}
		if m.Protocol.Name == "adm" && !strict {
			s.Notes = append(s.Notes, "distances in double precision; the tool has them in half precision, which moves the score by up to 0.007")
		}
		thinned(s, key, g, r.held)
	}
	if strict {
		add("density", "Density", v.Density)
		add("coverage", "Coverage", v.Coverage)
	} else {
		add("precision", "Precision", v.Precision)
		add("recall", "Recall", v.Recall)
	}
	return nil
}

func (m *measurement) sliced(g *held, r side) error {
	n := min(g.sample.N, r.sample.N)
	same := func(h *held) stats.Features {
		if h.sample.N == n {
			return h.sample
		}
		return h.sample.Pick(stats.NewRandomState(seed).Choice(h.sample.N, n))
	}
	v, err := stats.Sliced(same(g), same(r.held), stats.Directions(1000, g.sample.D, seed))
	if err != nil {
		return err
	}
	s := m.add("mind", "mind", "MIND", v, int64(n), int64(n))
	s.Notes = []string{fmt.Sprintf("1000 directions, seed %d; torch draws others", seed)}
	return nil
}

func (m *measurement) memorised(g *held, r side) error {
	rows, distances, err := stats.Nearest(g.sample, r.sample)
	if err != nil {
		return err
	}
	copies, err := stats.Copies(r.sample, rows, distances)
	if err != nil {
		return err
	}
	n := 0
	for i, c := range copies {
		if c {
			n++
		}
		m.out.Neighbours = append(m.out.Neighbours, Neighbour{g.rows[i], r.rows[rows[i]], distances[i], c})
	}
	sortNeighbours(m.out.Neighbours)
	s := m.add("memorised", "memorised", "Memorised", float64(n)/float64(len(copies)), g.n, r.n)
	s.Notes = []string{"share of generated rows nearer to a reference row than that one is to another reference row"}
	thinned(s, "share", g, r.held)
	return nil
}
