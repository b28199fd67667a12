package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// view is a result in words, as both kinds of pages show it.
type view struct {
	Title, Subtitle     string
	Warnings            []string
	Headline            *headline
	Scores              *table
	Samples, References thumbs
	ClassesText         string
	Classes             *table
	Pairs, Neighbours   couples
	ProjectionText      string
	HistoryText         string
	History, Facts      *table
	FailedText          string
	Failed, Timings     *table
}

type headline struct{ Value, Label, Interval, Generated, Reference, Meaning, Better string }

// table is a table of texts; the first column names the row.
type table struct {
	Caption string
	Head    []column
	Rows    [][]string
}

type column struct {
	Text   string
	Number bool
}

// Numbers says which columns are aligned as numbers.
func (t *table) Numbers() []bool {
	out := make([]bool, len(t.Head))
	for i, c := range t.Head {
		out[i] = c.Number
	}
	if len(out) == 0 && len(t.Rows) > 0 {
		out = make([]bool, len(t.Rows[0]))
	}
	return out
}

type thumbs struct {
	Title    string
	Pictures []Thumb
}

type couples struct {
	Title, Text string
	Couples     []couple
}

type couple struct {
	Left, Right Thumb
	Note        string
	Bad         bool
}

// viewOf puts a result into words.
func viewOf(r *Result) *view {
	v := &view{Title: cmp.Or(r.Name, "Evaluation"), Warnings: r.Warnings, Samples: thumbs{"Generated pictures", r.Samples}, References: thumbs{"Reference pictures", r.References}}
	v.Subtitle = fmt.Sprintf("Evaluation of %s pictures", count(r.Generated.Rows))
	if r.Reference.Rows > 0 {
		v.Subtitle += fmt.Sprintf(" against %s", count(r.Reference.Rows))
	}
	if r.When != "" {
		v.Subtitle += ", " + when(r.When)
	}
	if len(r.Scores) > 0 {
		s := r.Scores[0]
		m := MetricOf(s.Metric)
		v.Headline = &headline{Value: m.Text(s.Value), Label: s.Label, Generated: count(s.GeneratedRows), Meaning: m.Meaning, Better: "Higher is better."}
		if m.Lower {
			v.Headline.Better = "Lower is better."
		}
		if m.Meaning == "" {
			v.Headline.Better = ""
		}
		v.Headline.Interval = m.interval(s.Interval)
		if s.ReferenceRows > 0 {
			v.Headline.Reference = count(s.ReferenceRows)
		}
		v.Scores = scoreTable(r.Scores)
	}
	v.Classes, v.ClassesText = classTable(r.Classes), "The farthest from the reference first."
	v.Pairs = couples{Title: "Pairs", Text: "Generated left, reference right; the worst first."}
	for _, p := range r.Pairs {
		var words []string
		for _, f := range p.Scores {
			words = append(words, f.Name+" "+f.Value)
		}
		v.Pairs.Couples = append(v.Pairs.Couples, couple{p.Generated, p.Reference, strings.Join(words, ", "), false})
	}
	v.Neighbours = couples{Title: "Nearest neighbours", Text: "Generated left, the reference picture nearest in feature space right; the nearest first."}
	for _, n := range r.Neighbours {
		note := strconv.FormatFloat(float64(n.Distance), 'g', 4, 64)
		if n.Copied {
			note += ", a copy"
		}
		v.Neighbours.Couples = append(v.Neighbours.Couples, couple{n.Generated, n.Reference, note, n.Copied})
	}
	if p := r.Projection; p != nil && len(p.Generated.X)+len(p.Reference.X) > 0 {
		v.ProjectionText = fmt.Sprintf("The first two principal components of the features, %.1f %% and %.1f %% of the variance. Generated pictures are circles, reference pictures are crosses.", 100*float64(p.Explained[0]), 100*float64(p.Explained[1]))
	}
	v.History, v.HistoryText = historyTable(r), historyText(r)
	v.Facts = factTable(r)
	if len(r.Failed) > 0 {
		v.Failed = &table{Caption: "Failed rows", Head: []column{{"row", false}, {"set", false}, {"reason", false}}}
		for _, f := range r.Failed {
			v.Failed.Rows = append(v.Failed.Rows, []string{f.ID, f.Set, f.Reason})
		}
		v.FailedText = "They took no part in any score."
		if all := r.Generated.Failed + r.Reference.Failed; all > int64(len(r.Failed)) {
			v.FailedText += fmt.Sprintf(" These are %s of %s.", count(int64(len(r.Failed))), count(all))
		}
	}
	if len(r.Timings) > 0 {
		v.Timings = &table{Caption: "Time", Head: []column{{"stage", false}, {"seconds", true}, {"rows", true}}}
		for _, t := range r.Timings {
			v.Timings.Rows = append(v.Timings.Rows, []string{t.Stage, fmt.Sprintf("%.2f", t.Seconds), some(t.Rows)})
		}
	}
	return v
}

func scoreTable(scores []Score) *table {
	t := &table{Caption: "Scores", Head: []column{{"score", false}, {"value", true}, {"interval of 95 %", true}, {"standard error", true}, {"without bias", true}, {"extrapolated", true}, {"generated", true}, {"reference", true}, {"better", false}, {"notes", false}}}
	for _, s := range scores {
		m := MetricOf(s.Metric)
		better := "higher"
		switch {
		case m.Lower:
			better = "lower"
		case m.Meaning == "":
			better = ""
		}
		notes := slices.Clone(s.Notes)
		if s.Spread != nil {
			notes = append(notes, fmt.Sprintf("standard deviation %s over %s", m.Text(s.Spread.SD), s.Spread.Of))
		}
		if k := s.Ranks; k != nil {
			notes = append(notes, fmt.Sprintf("effective rank %s of the generated and %s of the reference, by %s features", count(int64(k.Generated)), count(int64(k.Reference)), count(int64(k.Features))))
		}
		t.Rows = append(t.Rows, []string{s.Label, m.Text(s.Value), m.interval(s.Interval), m.optional(s.StandardError), m.optional(s.Corrected), m.optional(s.Extrapolated), some(s.GeneratedRows), some(s.ReferenceRows), better, strings.Join(notes, "; ")})
	}
	return t.pruned()
}

// classTable has the farthest class first; those without a distance come last.
func classTable(classes []Class) *table {
	if len(classes) == 0 {
		return nil
	}
	sorted := slices.Clone(classes)
	far := func(c Class) float64 {
		switch n := cmp.Or(c.ToClass, c.ToAll); {
		case n == nil || math.IsNaN(float64(*n)):
			return math.Inf(-1)
		default:
			return float64(*n)
		}
	}
	slices.SortStableFunc(sorted, func(a, b Class) int { return cmp.Or(cmp.Compare(far(b), far(a)), cmp.Compare(a.Label, b.Label)) })
	t := &table{Caption: "Classes", Head: []column{{"class", false}, {"name", false}, {"distance from its class", true}, {"from the whole reference", true}, {"accuracy", true}, {"generated", true}, {"reference", true}}}
	d, a := MetricOf("fd"), MetricOf("accuracy")
	for _, c := range sorted {
		label, name := strconv.FormatInt(c.Label, 10), c.Name
		if name == label { // classes that have no names
			name = ""
		}
		t.Rows = append(t.Rows, []string{label, name, d.optional(c.ToClass), d.optional(c.ToAll), a.optional(c.Accuracy), count(c.GeneratedRows), count(c.ReferenceRows)})
	}
	return t.pruned()
}

func factTable(r *Result) *table {
	t := &table{Caption: "How it was measured"}
	add := func(name string, words ...string) {
		words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
		if len(words) > 0 {
			t.Rows = append(t.Rows, []string{name, strings.Join(words, "; ")})
		}
	}
	for _, s := range []struct {
		name string
		set  Set
	}{{"generated", r.Generated}, {"reference", r.Reference}} {
		failed := ""
		if s.set.Failed > 0 {
			failed = count(s.set.Failed) + " failed"
		}
		rows := ""
		if s.set.Rows > 0 {
			rows = count(s.set.Rows) + " rows"
		}
		add(s.name, s.set.Path, s.set.What, rows, failed, s.set.Sizes, hash(s.set.SHA256))
	}
	add("protocol", append([]string{r.Protocol.Name}, r.Protocol.Words...)...)
	add("resize", r.Protocol.Resize)
	add("scaling", r.Protocol.Scaling)
	add("compared by force", r.Protocol.Overrule)
	add("extractor", r.Extractor.Name, r.Extractor.Words, r.Extractor.Path, hash(r.Extractor.SHA256))
	for _, f := range r.Provenance {
		add(f.Name, f.Value)
	}
	if len(t.Rows) == 0 {
		return nil
	}
	return t
}

// pruned is t without the columns in which nothing stands.
func (t *table) pruned() *table {
	for i := len(t.Head) - 1; i > 0; i-- {
		if !slices.ContainsFunc(t.Rows, func(r []string) bool { return r[i] != "" }) {
			t.Head = slices.Delete(t.Head, i, i+1)
			for k := range t.Rows {
				t.Rows[k] = slices.Delete(t.Rows[k], i, i+1)
			}
		}
	}
	return t
}

// Text is a value as people read it, with its unit.
func (m Metric) Text(n Number) string {
	v := float64(n)
	switch {
	case math.IsNaN(v):
		return "not a number"
	case math.IsInf(v, 0):
		return map[bool]string{true: "∞", false: "-∞"}[v > 0]
	case m.Percent:
		return strconv.FormatFloat(100*v, 'f', max(m.Decimals-2, 0), 64) + " %"
	}
	return strings.TrimSpace(strconv.FormatFloat(v, 'f', m.Decimals, 64) + " " + m.Unit)
}

func (m Metric) optional(n *Number) string {
	if n == nil {
		return ""
	}
	return m.Text(*n)
}

func (m Metric) interval(i *Interval) string {
	if i == nil {
		return ""
	}
	return m.Text(i.Low) + " to " + m.Text(i.High)
}

// when is a time as people read it; what is no time in RFC 3339 stays as it is.
func when(s string) string {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return s
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// count is n with commas between thousands.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func some(n int64) string {
	if n == 0 {
		return ""
	}
	return count(n)
}

func hash(s string) string {
	if s == "" {
		return ""
	}
	return "sha256 " + s
}
