package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// numerics is raised when a release changes the bytes of outputs, so that a folder never mixes two of them.
const numerics = 1

// PrepareOptions configure [Prepare].
type PrepareOptions struct {
	Log *slog.Logger // nil: silent
}

// Prepared is a job that was opened and checked, ready to run.
type Prepared struct {
	spec     *spec.Resolved
	log      *slog.Logger
	backend  plan.Backend
	file     *weights.File
	model    *nn.Model
	session  *engine.Session
	src      source
	task     task
	plan     commit.Plan
	modelSHA string
	// Digests of what the job names by path alone: the model's configuration and, "" without,
	// recorded noise and vocabulary.
	configSHA, noiseSHA, vocabSHA string

	warned   sync.Mutex
	warnings []string
	closers  []func()
	loading  time.Duration
}

// Prepare opens the model and the input, checks that they fit the job and plans the parts. Errors are those of a useless
// retry: they come before any work.
func Prepare(ctx context.Context, r *spec.Resolved, o PrepareOptions) (_ *Prepared, err error) {
	p := &Prepared{spec: r, log: o.Log}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if err := checkColumns(&r.Spec); err != nil {
		return nil, err
	}
	start := time.Now()
	if err := exitcode.Guard("prepare", func() error { return p.open(ctx) }); err != nil {
		return nil, err
	}
	p.loading = time.Since(start)
	return p, nil
}

// checkColumns checks that the columns to keep do not bear the names of those that the output has by itself.
func checkColumns(s *spec.Spec) error {
	schema := part.Schema{Files: s.Output.Layout == "tree"}
	for i, c := range s.Input.Columns {
		switch {
		case schema.Fixed(c) || s.Sample.Score && slices.Contains(scoreNames, c):
			return exitcode.Errorf(exitcode.Usage, "spec.input.columns: %q is the name of a column that the output has by itself", c)
		case slices.Contains(s.Input.Columns[:i], c):
			return exitcode.Errorf(exitcode.Usage, "spec.input.columns: %q is listed twice", c)
		}
	}
	return nil
}

func (p *Prepared) open(ctx context.Context) error {
	s := &p.spec.Spec
	var err error
	if p.backend, err = openBackend(s.Compute); err != nil {
		return err
	}
	p.onClose(p.backend.Close)

	// The hash of the model takes as long as reading it; it runs beside the rest.
	type digest struct {
		sum string
		err error
	}
	hashed := make(chan digest, 1)
	go func() {
		sum, _, err := weights.SHA256(s.Model.Checkpoint)
		hashed <- digest{sum, err}
	}()
	err = p.openModel()
	d := <-hashed
	if err != nil {
		return err
	}
	if d.err != nil {
		return fmt.Errorf("model: %w", d.err)
	}
	if s.Model.SHA256 != "" && s.Model.SHA256 != d.sum {
		return exitcode.Errorf(exitcode.Data, "model %s: sha256 is %s, the job says %s", s.Model.Checkpoint, d.sum, s.Model.SHA256)
	}
	p.modelSHA = d.sum
	if p.configSHA, _, err = weights.SHA256(s.Model.Config); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if s.Sampler.NoiseFrom != "" {
		if p.noiseSHA, _, err = weights.SHA256(s.Sampler.NoiseFrom); err != nil {
			return fmt.Errorf("spec.sampler.noise_from: %w", err)
		}
	}

	if s.Sample.Vocab != "" {
		if p.vocabSHA, _, err = weights.SHA256(s.Sample.Vocab); err != nil {
			return fmt.Errorf("spec.sample.vocab: %w", err)
		}
	}

	if err := p.openTask(ctx); err != nil {
		return err
	}
	parts, err := commit.SplitRows(p.src.rows(), int64(s.Output.RowsPerPart))
	if err != nil {
		return err
	}
	doc, err := p.document()
	if err != nil {
		return err
	}
	p.plan, err = commit.NewPlan(doc, parts)
	return err
}

// openBackend starts the device that the job asks for.
func openBackend(c spec.Compute) (plan.Backend, error) {
	if c.Device == "gpu" {
		return nil, exitcode.Errorf(exitcode.Unavailable, "device gpu: this build has no GPU backend; use --device cpu")
	}
	o := cpu.DefaultOptions()
	o.Threads = c.Threads
	if c.Precision == "mixed" {
		o.Precision = kernel.Mixed
	}
	return cpu.Open(o)
}

func (p *Prepared) openModel() error {
	s := &p.spec.Spec
	var err error
	if p.file, err = weights.Open(s.Model.Checkpoint, weights.Limits{}); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	p.onClose(func() { p.file.Close() })
	p.model, err = nn.Load(s.Model.Config, p.file, nn.Options{Weights: weights.Selection(s.Model.Weights), FirstStageOnly: p.spec.Kind == "Encode"})
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	for _, w := range p.model.Warnings {
		p.warn("model: " + w)
	}
	p.session = engine.New(p.model, p.backend)
	p.onClose(p.session.Close)
	return nil
}

func (p *Prepared) openTask(ctx context.Context) error {
	s := &p.spec.Spec
	switch p.spec.Kind {
	case "Encode":
		src, err := openDataset(ctx, s.Input, s.Limits, wanted{image: true})
		if err != nil {
			return err
		}
		for _, w := range src.ds.Warnings() {
			p.warn("input: " + w)
		}
		p.src = src
		p.fitBatch()
		first, err := encode.New(p.session)
		if err != nil {
			return exitcode.With(exitcode.Data, err)
		}
		p.task, err = newEncodeTask(first, s, src, p.session.Seconds)
		return exitcode.With(exitcode.Usage, err)
	case "Sample":
		return p.openSample(ctx)
	}
	return exitcode.Errorf(exitcode.Usage, "kind: %s is not available in this version", p.spec.Kind)
}

func (p *Prepared) openSample(ctx context.Context) error {
	s := &p.spec.Spec
	t, err := newGenerateTask(p.session, s, p.session.Seconds)
	if err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	t.tally.warn = p.warn
	p.onClose(t.close)
	p.task = t
	var data *datasetSource
	if s.Input.Path != "" {
		if data, err = openDataset(ctx, s.Input, s.Limits, t.wants()); err != nil {
			return err
		}
		for _, w := range data.ds.Warnings() {
			p.warn("input: " + w)
		}
		if s.Output.Layout == "tree" {
			if err := data.nameRows(ctx, s.Output.Format); err != nil {
				return err
			}
		}
		p.src = data
	} else if p.src, err = newListSource(s.Sample); err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	p.fitBatch()
	if err := t.from(data, p.src.rows()); err != nil {
		return err
	}
	for _, note := range t.notes() {
		p.warn(note)
	}
	return nil
}

// fitBatch makes the batch no larger than the job; results do not depend on it.
func (p *Prepared) fitBatch() {
	c := &p.spec.Spec.Compute
	c.Batch = int(max(min(int64(c.Batch), p.src.rows()), 1))
}

// document is everything that the output depends on: the job, the model, the input, the tiles and the numerics of this release.
// It is an error when images of the job's only size do not fit into memory.
func (p *Prepared) document() (map[string]any, error) {
	doc := map[string]any{
		"job": p.spec.Canonical(), "model_sha256": p.modelSHA, "config_sha256": p.configSHA, "noise_sha256": p.noiseSHA, "vocab_sha256": p.vocabSHA,
		"input": p.src.identity(), "rows": p.src.rows(), "numerics": numerics,
	}
	fits, h, w := p.fits()
	tiles, err := fits.identity(h, w, p.spec.Spec.Compute.Batch)
	if tiles != nil {
		doc["tiles"] = tiles
	}
	return doc, err
}

// fits is what decides how images are computed, and their size where all have one, else 0.
func (p *Prepared) fits() (fits *needs, h, w int) {
	switch t := p.task.(type) {
	case *encodeTask:
		return &t.fits, t.config.Size.H, t.config.Size.W
	case *generateTask:
		if r, ok := t.recipe.(sized); ok {
			h, w = r.size()
		}
		return &t.fits, h, w
	}
	return &needs{}, 0, 0
}

// warn tells something that does not stop the job; workers call it too.
func (p *Prepared) warn(msg string) {
	if msg == "" {
		return
	}
	p.warned.Lock()
	p.warnings = append(p.warnings, msg)
	p.warned.Unlock()
	p.log.Warn(msg)
}

// told are the warnings so far.
func (p *Prepared) told() []string {
	p.warned.Lock()
	defer p.warned.Unlock()
	return slices.Clone(p.warnings)
}

func (p *Prepared) onClose(f func()) { p.closers = append(p.closers, f) }

// Close frees what Prepare opened.
func (p *Prepared) Close() {
	for _, f := range slices.Backward(p.closers) {
		f()
	}
	p.closers = nil
}
