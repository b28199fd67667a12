package training

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/lpips"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	diffusion "github.com/ldm-batch/ldm-batch/sample/training"
)

// numerics is raised when a release changes the bytes of trained weights, so that a run never goes on with another arithmetic.
const numerics = 1

// Prepared is a training that was opened and checked, ready to run.
type Prepared struct {
	spec     *spec.Resolved
	log      *slog.Logger
	backend  plan.Backend
	workers  []plan.Backend // none when a step is one batch
	config   *nn.Config
	yaml     []byte // of the configuration
	recipe   *recipe
	learner  learner
	data     *dataset.Dataset
	valid    *dataset.Dataset // nil without validation
	order    train.Order
	rate     float64
	schedule train.Multiplier
	plan     commit.Plan
	digests  map[string]string // of files that the job names by path
	warnings []string
	closers  []func()
}

// Prepare opens the model and the rows and checks that they fit the job. Errors are those of a useless retry.
func Prepare(ctx context.Context, r *spec.Resolved, log *slog.Logger) (_ *Prepared, err error) {
	p := &Prepared{spec: r, log: log, digests: map[string]string{}}
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
	for _, step := range []func(context.Context) error{p.openDevice, p.openConfig, p.openModel, p.openRows, p.openRate, p.document} {
		if err := exitcode.Guard("training", func() error { return step(ctx) }); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Prepared) onClose(f func()) { p.closers = append(p.closers, f) }

// Close frees what Prepare opened.
func (p *Prepared) Close() {
	for _, f := range slices.Backward(p.closers) {
		f()
	}
	p.closers = nil
}

func (p *Prepared) warn(msg string) {
	p.warnings = append(p.warnings, msg)
	p.log.Warn(msg)
}

func (p *Prepared) openDevice(context.Context) error {
	c := p.spec.Spec.Compute
	if c.Device == "gpu" {
		return exitcode.Errorf(exitcode.Unavailable, "device gpu: this build has no GPU backend; use --device cpu")
	}
	o := cpu.DefaultOptions()
	o.Threads = c.Threads
	b, err := cpu.Open(o)
	if err != nil {
		return err
	}
	p.backend = b
	p.onClose(b.Close)
	return p.openWorkers(o)
}

// openWorkers divides the threads among the workers, where a step takes several batches.
func (p *Prepared) openWorkers(o cpu.Options) error {
	t := p.spec.Spec.Train
	switch {
	case t.Accumulate == 1 || t.Stage != "diffusion":
		return nil
	case t.Workers == 1:
		p.workers = []plan.Backend{p.backend}
		return nil
	}
	all := o.Threads
	if all == 0 {
		all = runtime.GOMAXPROCS(0)
	}
	for i := range t.Workers {
		o.Threads = max(1, (all+i)/t.Workers)
		b, err := cpu.Open(o)
		if err != nil {
			return err
		}
		p.workers = append(p.workers, b)
		p.onClose(b.Close)
	}
	return nil
}

func (p *Prepared) openConfig(context.Context) (err error) {
	path := p.spec.Spec.Model.Config
	if path == "" {
		return exitcode.Errorf(exitcode.Usage, "spec.model.config: missing")
	}
	if p.yaml, err = os.ReadFile(path); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	if p.spec.Spec.Train.Stage == "classifier" {
		p.config = &nn.Config{Path: path} // of no latent diffusion model
		return nil
	}
	if p.config, err = nn.ParseConfig(path, p.yaml); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	return nil
}

// open opens a model file that the job names, if it does, and notes its hash.
func (p *Prepared) open(key, path string) (*weights.File, error) {
	if path == "" {
		return nil, nil
	}
	sum, _, err := weights.SHA256(path)
	if err != nil {
		return nil, fmt.Errorf("spec.%s: %w", key, err)
	}
	p.digests[key] = sum
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		return nil, fmt.Errorf("spec.%s: %w", key, err)
	}
	p.onClose(func() { f.Close() })
	return f, nil
}

func (p *Prepared) openModel(ctx context.Context) error {
	s := &p.spec.Spec
	checkpoint, err := p.open("model.checkpoint", s.Model.Checkpoint)
	if err != nil {
		return err
	}
	if want := s.Model.SHA256; want != "" && want != p.digests["model.checkpoint"] {
		return exitcode.Errorf(exitcode.Data, "model %s: sha256 is %s, the job says %s", s.Model.Checkpoint, p.digests["model.checkpoint"], want)
	}
	switch s.Train.Stage {
	case "first-stage":
		return p.openFirstStage(checkpoint)
	case "classifier":
		return p.openClassifier(checkpoint)
	}
	first, err := p.open("train.first_stage", s.Train.FirstStage)
	if err != nil {
		return err
	}
	var m *nn.Model
	switch {
	case p.config.Diffusion == nil:
		return exitcode.Errorf(exitcode.Usage, "%s: describes no latent diffusion model; stage diffusion trains one", p.config.Path)
	case checkpoint != nil && first != nil:
		return exitcode.Errorf(exitcode.Usage, "spec.train.first_stage: spec.model.checkpoint brings a first stage already")
	case checkpoint != nil:
		m, err = diffusion.Continue(p.config, checkpoint, weights.Selection(s.Model.Weights))
	default:
		m, err = diffusion.FromScratch(p.config, first, s.Compute.Seed)
	}
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	for _, w := range m.Warnings {
		p.warn("model: " + w)
	}
	if p.recipe, err = newRecipe(s, m, nil); err != nil {
		return err
	}
	if s.Train.Vocab != "" {
		if p.digests["train.vocab"], _, err = weights.SHA256(s.Train.Vocab); err != nil {
			return fmt.Errorf("spec.train.vocab: %w", err)
		}
	}
	if s.Train.Latent == "" {
		if k := p.recipe.factor * m.UNet.Config.SizeMultiple(); s.Preprocess.Size.H%k != 0 || s.Preprocess.Size.W%k != 0 {
			return exitcode.Errorf(exitcode.Usage, "spec.preprocess.size: %v is not a multiple of %d pixels, which this model needs", s.Preprocess.Size, k)
		}
	}
	l, err := newDiffusionLearner(m, s, p.recipe, p.backend, p.workers)
	if err != nil {
		return err
	}
	l.measure = p.config.Diffusion.ScaleByStd && checkpoint == nil
	p.learner = l
	p.onClose(l.close)
	return nil
}

func (p *Prepared) openFirstStage(checkpoint *weights.File) error {
	s := &p.spec.Spec
	if p.config.FirstStage == nil || p.config.FirstStage.Kind == nn.IdentityFirstStage {
		return exitcode.Errorf(exitcode.Usage, "%s: describes no autoencoder; stage first-stage trains one", p.config.Path)
	}
	if s.Train.PosteriorLogVar != 0 {
		const key = "spec.train.posterior_logvar"
		if p.config.FirstStage.Kind == nn.VQ {
			return exitcode.Errorf(exitcode.Usage, "%s: %s describes a VQ autoencoder, which has no posterior", key, p.config.Path)
		}
		if checkpoint != nil {
			return exitcode.Errorf(exitcode.Usage, "%s: has no meaning beside spec.model.checkpoint, whose posterior is trained further", key)
		}
	}
	files, err := s.Train.PerceptualFiles()
	if err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	var perceptual *lpips.Model
	if files == nil {
		p.warn("no perceptual loss: spec.train.perceptual names no weights")
	} else {
		if perceptual, err = lpips.Open(files...); err != nil {
			return fmt.Errorf("spec.train.perceptual: %w", err)
		}
		p.onClose(func() { perceptual.Close() })
		for i, f := range files {
			if p.digests[fmt.Sprint("train.perceptual.", i)], _, err = weights.SHA256(f); err != nil {
				return fmt.Errorf("spec.train.perceptual: %w", err)
			}
		}
	}
	m := nn.New(&nn.Config{Path: p.config.Path, FirstStage: p.config.FirstStage})
	if p.recipe, err = newRecipe(s, m, nil); err != nil {
		return err
	}
	if k := p.recipe.factor; s.Preprocess.Size.H%k != 0 || s.Preprocess.Size.W%k != 0 {
		return exitcode.Errorf(exitcode.Usage, "spec.preprocess.size: %v is not a multiple of %d pixels, which this model needs", s.Preprocess.Size, k)
	}
	l, err := newFirstStageLearner(p.config.FirstStage, perceptual, s, p.recipe, p.backend)
	if err != nil {
		return err
	}
	p.learner = l
	p.onClose(l.close)
	if l.assumed {
		p.warn("the configuration names no loss: that of the reference's configurations is taken, with a discriminator from step 50001 on")
	}
	if checkpoint == nil {
		l.trainer.Initialize(s.Compute.Seed)
		if s.Train.PosteriorLogVar != 0 {
			l.trainer.SetPosterior(s.Train.PosteriorLogVar)
		}
		return nil
	}
	return l.trainer.Load(checkpoint)
}

func (p *Prepared) openRows(ctx context.Context) (err error) {
	s := &p.spec.Spec
	if s.Train.Latent != "" {
		if err := p.openLatents(); err != nil {
			return err
		}
	}
	open := func(path string, limit int64) (*dataset.Dataset, error) {
		ds, err := dataset.Open(ctx, p.recipe.dataset(path, limit), dataset.Limits{Memory: int64(s.Limits.Memory)})
		if err != nil {
			return nil, err
		}
		for _, w := range ds.Warnings() {
			p.warn("input: " + w)
		}
		if l, ok := p.learner.(*classifierLearner); ok {
			if err := l.classNames(ds.Features()); err != nil {
				return nil, err
			}
		}
		return ds, nil
	}
	if p.data, err = open(s.Input.Path, int64(s.Input.Limit)); err != nil {
		return fmt.Errorf("input: %w", err)
	}
	if p.data.NumRows() == 0 {
		return exitcode.Errorf(exitcode.Data, "input: %s holds no rows", s.Input.Path)
	}
	p.order = orderOf(p.data.NumRows(), s.Train.Shuffle, s.Compute.Seed)
	if s.Train.Validation == "" {
		return nil
	}
	if p.valid, err = open(s.Train.Validation, int64(s.Train.ValidationRows)); err != nil {
		return fmt.Errorf("validation: %w", err)
	}
	if p.valid.NumRows() == 0 {
		return exitcode.Errorf(exitcode.Data, "validation: %s holds no rows", s.Train.Validation)
	}
	return nil
}

// openLatents finds out how the latents were stored: their shape and the factor that they were multiplied with.
func (p *Prepared) openLatents() error {
	s := &p.spec.Spec
	l, ok := p.learner.(*diffusionLearner)
	if !ok {
		return exitcode.Errorf(exitcode.Internal, "latents for a first stage")
	}
	path, err := firstPart(s.Input.Path)
	if err != nil {
		return fmt.Errorf("input: %w", err)
	}
	r, err := part.OpenTrusted(path)
	if err != nil {
		return fmt.Errorf("input: %w", err)
	}
	defer r.Close()
	schema := r.Schema()
	d := p.config.Diffusion
	switch z := schema.Latent; {
	case z == nil:
		return exitcode.Errorf(exitcode.Data, "input: %s holds no latents", path)
	case z.Layout == part.Ragged:
		return exitcode.Errorf(exitcode.Data, "input: %s: latents of many sizes cannot be trained on", path)
	case z.C != d.Channels:
		return exitcode.Errorf(exitcode.Data, "input: %s: latents have %d channels, the model takes %d", path, z.C, d.Channels)
	case z.H%l.model.UNet.Config.SizeMultiple() != 0 || z.W%l.model.UNet.Config.SizeMultiple() != 0:
		return exitcode.Errorf(exitcode.Data, "input: %s: latents of %dx%d cells are no multiples of %d, which the model needs", path, z.H, z.W, l.model.UNet.Config.SizeMultiple())
	case p.recipe.mapsLatents() && (s.Preprocess.Size.H != z.H*p.recipe.factor || s.Preprocess.Size.W != z.W*p.recipe.factor):
		return exitcode.Errorf(exitcode.Usage, "spec.preprocess.size: %v, want that of the images that were encoded, %dx%d: %s go with them", s.Preprocess.Size, z.H*p.recipe.factor, z.W*p.recipe.factor, p.recipe.condition)
	default:
		p.recipe.latent = [3]int{z.C, z.H, z.W}
	}
	if f := schema.Meta.ScaleFactor; f != 0 {
		l.stored = float32(f)
	}
	return nil
}

func (p *Prepared) openRate(context.Context) error {
	t := p.spec.Spec.Train
	p.rate = t.LearningRate
	base := 0.0
	if d := p.config.Diffusion; d != nil {
		base = d.BaseLearningRate
	}
	if p.rate == 0 {
		if p.rate = base * float64(t.Batch) * float64(t.Accumulate); p.rate == 0 {
			return exitcode.Errorf(exitcode.Usage, "spec.train.learning_rate: missing, and %s has no base_learning_rate", p.config.Path)
		}
	}
	if t.Schedule != "config" {
		s := train.Schedule{Kind: train.ScheduleKind(t.Schedule), Warmup: int64(t.Warmup), Steps: int64(t.Steps), End: t.FinalRate}
		p.schedule = s
		return s.Validate()
	}
	if p.config.Diffusion == nil || p.config.Diffusion.Scheduler == nil {
		return exitcode.Errorf(exitcode.Usage, "spec.train.schedule: %s has no scheduler_config", p.config.Path)
	}
	x := p.config.Diffusion.Scheduler
	var err error
	p.schedule, err = train.Lambda(x.Target, x.Params)
	return err
}

// document makes the plan: everything that the weights depend on.
func (p *Prepared) document(context.Context) (err error) {
	type file struct {
		Name   string `json:"name"`
		Size   int64  `json:"size"`
		Footer string `json:"footer_sha256"`
		Rows   int64  `json:"rows"`
	}
	var files []file
	for _, f := range p.data.Files() {
		files = append(files, file{f.Name, f.Size, f.FooterSHA256, f.Rows})
	}
	if p.digests["model.config"], _, err = weights.SHA256(p.spec.Spec.Model.Config); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	p.plan, err = commit.NewPlan(map[string]any{
		"job": p.spec.Canonical(), "sha256": p.digests, "input": files, "rows": p.data.NumRows(), "numerics": numerics,
	}, nil)
	return err
}
