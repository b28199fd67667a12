package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/page"
)

// Since puts earlier results, the oldest first, into the history, and says of each whether its scores compare with those of r.
func (r *Result) Since(earlier []*Result) {
	r.History = nil
	for _, e := range earlier {
		run := e.run()
		run.Differs = r.differs(e)
		r.History = append(r.History, run)
	}
}

// run is the result as far as history shows it.
func (r *Result) run() Run {
	extractor := r.Extractor.Name
	if len(r.Extractor.SHA256) >= 8 {
		extractor += " " + r.Extractor.SHA256[:8]
	}
	return Run{
		Name: cmp.Or(r.Name, "Evaluation"), When: r.When, Protocol: r.Protocol.Name, Extractor: extractor,
		Generated: r.Generated.Path, Reference: r.Reference.Path, Rows: r.Generated.Rows, Scores: r.Scores,
	}
}

// differs says why scores of both must not be compared, or nothing. Numbers of rows may differ by 1 %, as those of runs with a few
// failed rows do. References without a hash of their content are the same where path and number of rows are.
func (r *Result) differs(o *Result) string {
	var why []string
	differ := func(what, there, here string) {
		if there != here {
			why = append(why, fmt.Sprintf("%s %s, not %s", what, cmp.Or(there, "none"), cmp.Or(here, "none")))
		}
	}
	differ("protocol", o.Protocol.Name, r.Protocol.Name)
	differ("resizing", o.Protocol.Resize, r.Protocol.Resize)
	differ("scaling", o.Protocol.Scaling, r.Protocol.Scaling)
	there, here := o.run().Extractor, r.run().Extractor
	if o.Extractor.SHA256 != r.Extractor.SHA256 && there == here {
		there, here = o.Extractor.SHA256, r.Extractor.SHA256
	}
	differ("extractor", there, here)
	switch a, b := o.Reference, r.Reference; {
	case a.SHA256 != "" && b.SHA256 != "":
		if a.SHA256 != b.SHA256 {
			why = append(why, "another content of the reference")
		}
	case a.Path != b.Path:
		differ("reference", a.Path, b.Path)
	case a.Rows != b.Rows:
		differ("reference of", count(a.Rows)+" pictures", count(b.Rows))
	}
	if a, b := o.Generated.Rows, r.Generated.Rows; math.Abs(float64(a-b)) > 0.01*float64(max(a, b)) {
		differ("generated", count(a)+" pictures", count(b))
	}
	if o.Protocol.Overrule != "" && r.Protocol.Overrule == "" {
		why = append(why, "compared by force")
	}
	return strings.Join(why, "; ")
}

// runs are the history and the result itself, which is the last.
func (r *Result) runs() []Run {
	this := r.run()
	this.Name += " (this run)"
	return append(slices.Clone(r.History), this)
}

// score is that of a run which is made as s is.
func (run Run) score(s Score) *Score {
	if i := slices.IndexFunc(run.Scores, func(o Score) bool { return o.Metric == s.Metric && o.Label == s.Label }); i >= 0 {
		return &run.Scores[i]
	}
	return nil
}

func historyTable(r *Result) *table {
	if len(r.History) == 0 || len(r.Scores) == 0 {
		return nil
	}
	t := &table{Caption: "History", Head: []column{{"run", false}, {"when", false}}}
	for i, s := range r.Scores {
		t.Head = append(t.Head, column{s.Label, true})
		if i == 0 {
			t.Head = append(t.Head, column{"interval of 95 %", true}, column{"generated", true}, column{"comparable", false})
		}
	}
	t.Head = append(t.Head, column{"protocol", false}, column{"extractor", false}, column{"pictures", false}, column{"reference", false})
	for i, run := range r.runs() {
		comparable := "yes"
		if run.Differs != "" {
			comparable = "no: " + run.Differs
		}
		row := []string{fmt.Sprintf("%d. %s", i+1, run.Name), when(run.When)}
		for k, want := range r.Scores {
			value, interval := "", ""
			if s, m := run.score(want), MetricOf(want.Metric); s != nil {
				value, interval = m.Text(s.Value), m.interval(s.Interval)
			}
			if row = append(row, value); k == 0 {
				row = append(row, interval, some(run.Rows), comparable)
			}
		}
		t.Rows = append(t.Rows, append(row, run.Protocol, run.Extractor, run.Generated, run.Reference))
	}
	return t.pruned()
}

// historyText says what the table and the drawing show.
func historyText(r *Result) string {
	if len(r.History) == 0 || len(r.Scores) == 0 {
		return ""
	}
	s := r.Scores[0]
	var others, without int
	for _, run := range r.History {
		switch {
		case run.score(s) == nil:
			without++
		case run.Differs != "":
			others++
		}
	}
	runs := len(r.History) + 1
	text := fmt.Sprintf("%d runs, the oldest first; numbers below the drawing are those of the table.", runs)
	if joined := runs - others - without; joined > 1 {
		text += fmt.Sprintf(" The line joins the %s of %d runs that compare with this one.", s.Label, joined)
	} else {
		text += " No earlier run compares with this one."
	}
	if others > 0 {
		text += fmt.Sprintf(" %s measured otherwise, as the table says: such values stand beside the line as open circles and must not be compared with it.", were(others))
	}
	if without > 0 {
		text += fmt.Sprintf(" %s without this score.", were(without))
	}
	return text
}

func were(n int) string {
	if n == 1 {
		return "One run was"
	}
	return fmt.Sprintf("%d runs were", n)
}

// chart draws the first score of all runs with its interval. Only runs that compare with this one are joined.
func (r *Result) chart() template.HTML {
	if len(r.History) == 0 || len(r.Scores) == 0 {
		return ""
	}
	first := r.Scores[0]
	m := MetricOf(first.Metric)
	scale := 1.0
	if m.Percent {
		scale = 100
	}
	joined, loose := page.Series{Name: first.Label, Marked: true}, page.Series{Name: "measured otherwise", Loose: true}
	for i, run := range r.runs() {
		s := run.score(first)
		if s == nil {
			continue
		}
		to, label := &joined, fmt.Sprintf("%d. %s: %s", i+1, run.Name, m.Text(s.Value))
		if run.Differs != "" {
			to = &loose
		}
		low, high := math.NaN(), math.NaN()
		if s.Interval != nil {
			low, high = scale*float64(s.Interval.Low), scale*float64(s.Interval.High)
			label += ", interval of 95 % " + m.interval(s.Interval)
		}
		to.X, to.Y, to.Labels = append(to.X, float64(i+1)), append(to.Y, scale*float64(s.Value)), append(to.Labels, label)
		to.Low, to.High = append(to.Low, low), append(to.High, high)
	}
	title := first.Label
	if m.Percent {
		title += " in %"
	}
	c := page.Chart{Title: title + " of the runs", Series: []page.Series{joined}, Whole: true}
	if len(loose.X) > 0 {
		c.Series = append(c.Series, loose)
	}
	return c.SVG()
}
