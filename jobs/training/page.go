package training

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/page"
	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

// What tells of a training with curves and pictures, for people.
const (
	pageName    = "report.html"
	samplesName = "samples"
	// The page shows the newest sheets of pictures only, to stay small.
	sheetsShown = 6
)

// paint writes a sheet of pictures for the present step. A learner without pictures writes none.
func (l *loop) paint(ctx context.Context) error {
	n := min(l.p.spec.Spec.Train.Samples, len(l.valid))
	p, ok := l.p.learner.(painter)
	if !ok || n == 0 {
		return nil
	}
	rows, err := p.paint(ctx, l.valid[:n])
	if err != nil || len(rows) == 0 {
		return err
	}
	size := l.p.recipe.config.Size
	h, w := size.H, size.W
	if h == 0 {
		side := len(rows[0]) / (3 * n)
		h, w = l.p.recipe.latent[1], l.p.recipe.latent[2]
		f := int(math.Round(math.Sqrt(float64(side) / float64(h*w))))
		h, w = h*f, w*f
	}
	file, _, _, err := sheet(rows, h, w)
	if err != nil {
		return err
	}
	dir := filepath.Join(l.dir, samplesName)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return exitcode.With(exitcode.IO, err)
	}
	return exitcode.With(exitcode.IO, l.store.files.Replace(filepath.Join(dir, fmt.Sprintf("step-%08d.png", l.state.Step)), atomicfile.Bytes(file), nil))
}

// redraw writes the page anew, from the log, the index and the sheets.
func (l *loop) redraw(state string) error {
	charts, err := charts(filepath.Join(l.dir, logName))
	if err != nil {
		return err
	}
	t := l.p.spec.Spec.Train
	p := &page.Training{
		Name: l.p.spec.Metadata.Name, State: fmt.Sprintf("%s at step %d of %d", state, l.state.Step, t.Steps), Warnings: l.p.warnings, Charts: charts,
	}
	if p.Name == "" {
		p.Name = filepath.Base(l.dir)
	}
	for _, from := range []map[string]float64{l.result.Validation, l.result.Losses} {
		for _, name := range []string{"val/loss_simple_ema", "val/rec_loss", "val/accuracy", "val/loss", "loss", "rec_loss"} {
			if v, ok := from[name]; ok && len(p.Headline) < 3 {
				p.Headline = append(p.Headline, page.Fact{Name: name, Value: fmt.Sprintf("%.4g", v)})
			}
		}
	}
	if l.report.steps > 0 {
		if rate := l.report.rate(l.state.Step); rate > 0 {
			p.Headline = append(p.Headline, page.Fact{Name: "steps/s", Value: fmt.Sprintf("%.3g", rate)})
		}
	}
	if p.Grids, err = l.sheets(); err != nil {
		return err
	}
	last, _ := l.store.index.last()
	for _, c := range slices.Backward(l.store.index.Checkpoints) {
		k := page.Checkpoint{Step: c.Step, File: checkpointsName + "/" + c.Model.Name}
		if c.Score != nil {
			k.Score = fmt.Sprintf("%.5g", *c.Score)
		}
		if c.Step == last.Step {
			k.Note = "a run goes on from here"
		}
		p.Checkpoints = append(p.Checkpoints, k)
	}
	d := l.p.Describe()
	p.Facts = []page.Fact{
		{Name: "stage", Value: t.Stage}, {Name: "configuration", Value: filepath.Base(l.p.spec.Spec.Model.Config)}, {Name: "condition", Value: d.Condition},
		{Name: "trained numbers", Value: fmt.Sprintf("%.2f million", float64(d.Trained)/1e6)}, {Name: "rows", Value: fmt.Sprint(d.Rows)},
		{Name: "epochs", Value: fmt.Sprintf("%.2f", d.Epochs)}, {Name: "batch", Value: fmt.Sprintf("%d x %d", t.Batch, t.Accumulate)},
		{Name: "learning rate", Value: fmt.Sprintf("%g, %s", d.Rate, t.Schedule)}, {Name: "seed", Value: fmt.Sprint(l.p.spec.Spec.Compute.Seed)},
		{Name: "device", Value: d.Device}, {Name: "fingerprint", Value: d.Fingerprint},
	}
	return exitcode.With(exitcode.IO, l.store.files.Replace(filepath.Join(l.dir, pageName), p.HTML, nil))
}

// sheets are the newest sheets of pictures.
func (l *loop) sheets() (grids []page.Grid, err error) {
	names, err := filepath.Glob(filepath.Join(escape(l.dir), samplesName, "step-*.png"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		var step int64
		if _, err := fmt.Sscanf(filepath.Base(name), "step-%d.png", &step); err != nil || step > l.state.Step {
			continue
		}
		file, err := os.ReadFile(name)
		if err != nil {
			return nil, exitcode.With(exitcode.IO, err)
		}
		c, err := png.DecodeConfig(bytes.NewReader(file))
		if err != nil {
			return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", name, err))
		}
		grids = append(grids, page.Grid{Title: fmt.Sprintf("Step %d", step), Text: l.p.learner.(painter).caption(), Width: c.Width, Height: c.Height, PNG: file})
		if len(grids) == sheetsShown {
			break
		}
	}
	return grids, nil
}

// escape makes a path a pattern of itself.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// charts are the curves of a log: one chart for each number, with its validation.
func charts(path string) ([]page.Chart, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, exitcode.With(exitcode.IO, err)
	}
	defer f.Close()
	var list []page.Chart
	at := map[string]int{} // chart by name, and series within it
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		terms, err := parseLine(lines.Bytes())
		if err != nil {
			return nil, exitcode.Errorf(exitcode.Data, "%s, line %d: %v", path, n, err)
		}
		step := 0.0
		for _, x := range terms {
			title, series := strings.TrimPrefix(x.name, "val/"), x.name
			if base, ok := strings.CutSuffix(title, "_ema"); ok {
				title = base
			}
			switch x.name {
			case "step":
				step = x.value
				continue
			case "epoch", "samples":
				continue
			}
			k, ok := at[title]
			if !ok {
				k = len(list)
				at[title] = k
				list = append(list, page.Chart{Title: title})
			}
			c := &list[k]
			i := slices.IndexFunc(c.Series, func(s page.Series) bool { return s.Name == series })
			if i < 0 {
				i = len(c.Series)
				c.Series = append(c.Series, page.Series{Name: series})
			}
			c.Series[i].X, c.Series[i].Y = append(c.Series[i].X, step), append(c.Series[i].Y, x.value)
		}
	}
	return list, exitcode.With(exitcode.IO, lines.Err())
}

// parseLine reads a line of the log in the order of its keys.
func parseLine(line []byte) (terms []term, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("is no JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		value, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, ok := value.(float64)
		if !ok {
			v = math.NaN()
		}
		terms = append(terms, term{key.(string), v})
	}
	return terms, nil
}
