package scoring

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/eval"
	"github.com/ldm-batch/ldm-batch/eval/extract"
	"github.com/ldm-batch/ldm-batch/eval/measure"
	"github.com/ldm-batch/ldm-batch/eval/reference"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/io/resize"
	iostats "github.com/ldm-batch/ldm-batch/io/stats"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// numerics is raised when a release changes features or scores.
const numerics = 1

// record is what scores need beside the parts. It is written next to the plan.
type record struct {
	Schema    string           `json:"schema"`
	Name      string           `json:"name"`
	Eval      spec.Eval        `json:"eval"`
	Network   extract.Identity `json:"network"`
	Taps      []extract.Tap    `json:"taps"`
	Generated setInfo          `json:"generated"`
	Reference setInfo          `json:"reference"` // of its pictures
	Pictures  bool             `json:"pictures"`  // the reference has pictures whose features are in the parts
	Stats     string           `json:"stats"`     // file of statistics of the reference
	Overrule  string           `json:"overrule"`  // what is compared although it differs
	Facts     [][2]string      `json:"facts"`
	Warnings  []string         `json:"warnings"`
}

const recordSchema = "ldm-batch/evaluation/v1"

// Evaluation is a job of kind Eval that was opened and checked.
type Evaluation struct {
	job     *spec.Resolved
	log     *slog.Logger
	record  record
	plan    commit.Plan
	backend plan.Backend
	network extract.Network // nil if all metrics are of pairs
	first   *encode.FirstStage
	before  *preprocess.Config // of pictures, before anything is scored; nil for none

	generated, reference set // reference is nil without pictures
	closers              []func()
}

// Close frees what Prepare opened.
func (e *Evaluation) Close() {
	for _, f := range slices.Backward(e.closers) {
		f()
	}
	e.closers = nil
}

// Plan is the work of the job: rows of the generated set, then of the reference.
func (e *Evaluation) Plan() commit.Plan { return e.plan }

// Warnings are what was odd and did not matter.
func (e *Evaluation) Warnings() []string { return e.record.Warnings }

// Prepare opens sets and network and checks that they fit the job. No picture is decoded.
func Prepare(ctx context.Context, job *spec.Resolved, log *slog.Logger) (_ *Evaluation, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	e := &Evaluation{job: job, log: log}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	if err := job.Validate(); err != nil {
		return nil, err
	}
	return e, e.open(ctx)
}

func (e *Evaluation) open(ctx context.Context) error {
	s := &e.job.Spec
	e.record = record{Schema: recordSchema, Name: e.job.Metadata.Name, Eval: s.Eval}
	if s.Compute.Device == "gpu" {
		return exitcode.Errorf(exitcode.Unavailable, "device gpu: evaluations run on the processor; use --device cpu")
	}
	o := cpu.DefaultOptions()
	o.Threads = s.Compute.Threads
	b, err := cpu.Open(o)
	if err != nil {
		return err
	}
	e.backend = b
	e.closers = append(e.closers, b.Close)
	modelSHA, err := e.openModel()
	if err != nil {
		return err
	}
	if err := e.openNetwork(modelSHA); err != nil {
		return err
	}
	if err := e.openSets(ctx); err != nil {
		return err
	}
	var parts []commit.PartPlan
	for _, set := range []set{e.generated, e.reference} {
		if set == nil {
			continue
		}
		more, err := commit.SplitRows(set.rows(), int64(s.Output.RowsPerPart))
		if err != nil {
			return err
		}
		first := int64(0)
		if len(parts) > 0 {
			first = e.generated.rows()
		}
		for _, p := range more {
			parts = append(parts, commit.PartPlan{FirstRow: first + p.FirstRow, Rows: p.Rows})
		}
	}
	statsSHA := ""
	if e.record.Stats != "" {
		if statsSHA, _, err = weights.SHA256(e.record.Stats); err != nil {
			return err
		}
	}
	e.fact("seed of draws without one by protocol", "2020")
	e.fact("precision", "float32 features, float64 statistics")
	if modelSHA != "" {
		e.fact("first stage", fmt.Sprintf("%s, sha256 %s", filepath.Base(s.Model.Checkpoint), modelSHA))
	}
	if statsSHA != "" {
		e.fact("statistics of the reference", fmt.Sprintf("%s, sha256 %s", filepath.Base(e.record.Stats), statsSHA))
	}
	e.plan, err = commit.NewPlan(map[string]any{
		"job": e.job.Canonical(), "numerics": numerics, "extractor_sha256": e.record.Network.SHA256, "model_sha256": modelSHA, "stats_sha256": statsSHA,
		"generated": e.record.Generated.Identity, "reference": e.record.Reference.Identity,
	}, parts)
	return err
}

func (e *Evaluation) fact(name, value string) {
	e.record.Facts = append(e.record.Facts, [2]string{name, value})
}

func (e *Evaluation) warn(text string) {
	e.record.Warnings = append(e.record.Warnings, text)
	e.log.Warn(text)
}

// openModel opens the first stage, if the job has one.
func (e *Evaluation) openModel() (sha string, err error) {
	s := &e.job.Spec
	if s.Model.Checkpoint == "" {
		return "", nil
	}
	if sha, _, err = weights.SHA256(s.Model.Checkpoint); err != nil {
		return "", fmt.Errorf("model: %w", err)
	}
	if s.Model.SHA256 != "" && s.Model.SHA256 != sha {
		return "", exitcode.Errorf(exitcode.Data, "model %s: sha256 is %s, the job says %s", s.Model.Checkpoint, sha, s.Model.SHA256)
	}
	f, err := weights.Open(s.Model.Checkpoint, weights.Limits{})
	if err != nil {
		return "", fmt.Errorf("model: %w", err)
	}
	e.closers = append(e.closers, func() { f.Close() })
	m, err := nn.Load(s.Model.Config, f, nn.Options{Weights: weights.Selection(s.Model.Weights), FirstStageOnly: true})
	if err != nil {
		return "", fmt.Errorf("model: %w", err)
	}
	session := engine.New(m, e.backend)
	e.closers = append(e.closers, session.Close)
	if e.first, err = encode.New(session); err != nil {
		return "", exitcode.With(exitcode.Data, err)
	}
	if err := e.first.CheckSize(s.Preprocess.Size.H, s.Preprocess.Size.W); err != nil {
		return "", exitcode.With(exitcode.Usage, fmt.Errorf("spec.preprocess.size: %w", err))
	}
	if e.job.Spec.Eval.Reconstruct {
		c := e.preprocess()
		if err := c.Validate(); err != nil {
			return "", exitcode.With(exitcode.Usage, fmt.Errorf("spec.preprocess: %w", err))
		}
		if c.Crop == preprocess.Random || c.Flip {
			return "", exitcode.Errorf(exitcode.Usage, "spec.preprocess: scores are not to depend on chance: neither crop random nor flip")
		}
		e.before = &c
	}
	return sha, nil
}

func (e *Evaluation) preprocess() preprocess.Config {
	p := e.job.Spec.Preprocess
	return preprocess.Config{Size: preprocess.Size{H: p.Size.H, W: p.Size.W}, Crop: preprocess.Crop(p.Crop), Resize: resize.Method(p.Resize), Flip: p.Flip}
}

func (e *Evaluation) openNetwork(modelSHA string) error {
	s := &e.job.Spec
	if !slices.ContainsFunc(s.Eval.Metrics, func(m string) bool { return !spec.Paired(m) }) {
		return nil
	}
	p, err := eval.ParseProtocol(s.Eval.Protocol)
	if err != nil {
		return exitcode.With(exitcode.Usage, err)
	}
	if s.Eval.Extractor.Name == "first-stage" {
		c := e.preprocess()
		f := e.first.Factor()
		e.network, err = extract.NewLatents(extract.LatentsConfig{
			Identity: extract.Identity{
				Name: strings.TrimSuffix(filepath.Base(s.Model.Checkpoint), filepath.Ext(s.Model.Checkpoint)), SHA256: modelSHA, Path: s.Model.Checkpoint,
				Resize: fmt.Sprintf("%s to %dx%d, crop %s", c.Resize, c.Size.H, c.Size.W, c.Crop), Words: "latents of the first stage",
			},
			Preprocess: c, C: e.first.Channels(), H: c.Size.H / f, W: c.Size.W / f,
			Encode: func(images []float32, n int) ([]float32, error) {
				return e.first.Encode(images, n, c.Size.H, c.Size.W, encode.Options{})
			},
		})
	} else {
		e.network, err = extract.OpenInception(s.Eval.Extractor.Path, p, e.backend, measure.TapsOf(slices.DeleteFunc(slices.Clone(s.Eval.Metrics), spec.Paired)))
	}
	if err != nil {
		return fmt.Errorf("extractor: %w", err)
	}
	e.closers = append(e.closers, e.network.Close)
	e.record.Network, e.record.Taps = e.network.Identity(), e.network.Taps()
	id := e.record.Network
	if want := s.Eval.Extractor.SHA256; want != "" && want != id.SHA256 {
		return exitcode.Errorf(exitcode.Data, "extractor %s: sha256 is %s, the job says %s", id.Path, id.SHA256, want)
	}
	if id.FID && id.Known == "" {
		e.warn("the extractor's weights are in no known published file: the scores compare with those of the same file only")
	}
	return nil
}

func (e *Evaluation) openSets(ctx context.Context) error {
	s := &e.job.Spec
	c := columns{image: s.Input.Image, label: s.Input.Label, id: s.Input.ID, allowPaths: s.Input.AllowPaths, limit: int64(s.Input.Limit), memory: int64(s.Limits.Memory)}
	r := c
	r.image, r.label, r.id = s.Eval.ReferenceImage, s.Eval.ReferenceLabel, ""
	pictures := s.Eval.Reference != ""
	if pictures && !s.Eval.Reconstruct {
		statistics, both, err := isStatistics(s.Eval.Reference)
		if err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		if statistics {
			need := slices.IndexFunc(s.Eval.Metrics, spec.NeedsPictures)
			if need >= 0 && !both {
				return exitcode.Errorf(exitcode.Usage, "spec.eval.metrics: %s needs the pictures of the reference; %s has statistics only", s.Eval.Metrics[need], s.Eval.Reference)
			}
			pictures = need >= 0
			if err := e.openStatistics(); err != nil {
				return err
			}
		}
	}
	var err error
	if pictures {
		if e.reference, err = openSet(ctx, s.Eval.Reference, r); err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		e.record.Reference, e.record.Pictures = e.reference.about(), true
	}
	if s.Eval.Reconstruct {
		e.generated, err = openSet(ctx, s.Eval.Reference, r)
	} else {
		e.generated, err = openSet(ctx, s.Eval.Generated, c)
	}
	if err != nil {
		return fmt.Errorf("generated: %w", err)
	}
	e.record.Generated = e.generated.about()
	for i, info := range []setInfo{e.record.Generated, e.record.Reference} {
		for _, w := range info.Warnings {
			e.warn([]string{"generated: ", "reference: "}[i] + w)
		}
	}
	if s.Eval.Reconstruct {
		e.record.Generated.What = "reconstructions of the reference by the first stage"
	}
	if g := e.generated.rows(); g == 0 {
		return exitcode.Errorf(exitcode.Data, "generated: no row")
	} else if e.paired() && e.reference.rows() != g {
		return exitcode.Errorf(exitcode.Data, "paired metrics compare row by row: %d generated rows, %d of the reference", g, e.reference.rows())
	}
	return nil
}

// paired says that rows of the two sets are compared one by one.
func (e *Evaluation) paired() bool { return slices.ContainsFunc(e.job.Spec.Eval.Metrics, spec.Paired) }

// meta says how the features of FID are made.
func (r *record) meta() iostats.Meta {
	return iostats.Meta{Protocol: r.Network.Protocol, Resize: r.Network.Resize, Extractor: r.Network.Name, ExtractorSHA256: r.Network.SHA256, Tap: r.mainTap().Name}
}

// mainTap is the tap of FID.
func (r *record) mainTap() extract.Tap {
	for _, t := range r.Taps {
		if t.Name == extract.Pool || len(r.Taps) == 1 {
			return t
		}
	}
	return extract.Tap{}
}

// openStatistics checks that the statistics of the reference were made as the features here are.
func (e *Evaluation) openStatistics() error {
	path := e.job.Spec.Eval.Reference
	e.record.Stats = path
	ref, err := reference.Open(path, nil)
	if err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	if err := e.record.meta().Check(ref.Meta); err != nil {
		if !e.job.Spec.Eval.Force {
			return fmt.Errorf("%s: %w; --force compares all the same, and the result says so", path, err)
		}
		e.record.Overrule = err.Error()
		e.warn(err.Error() + "; compared because of --force")
	}
	if tap := e.record.mainTap(); ref.Normal.D() != tap.D && tap.D != 0 {
		return exitcode.Errorf(exitcode.Data, "%s: statistics of %d features, the tap %s has %d", path, ref.Normal.D(), tap.Name, tap.D)
	}
	if u := ref.Meta.Unknown(); len(u) > 0 {
		e.warn(fmt.Sprintf("%s does not say how its features were made (%s); whether they compare is not checked", filepath.Base(path), strings.Join(u, ", ")))
	}
	e.record.Reference = setInfo{Path: path, What: "statistics, format " + ref.Format, Rows: int64(ref.Normal.N)}
	return nil
}

// schema is the form of the parts: a thumbnail, scores of the pair, features.
func (e *Evaluation) schema() part.Schema {
	s := part.Schema{Label: true, Image: true, Compression: part.Compression(e.job.Spec.Output.Compression), Extra: []part.Column{{Name: "set", Type: part.String}}}
	for _, m := range e.job.Spec.Eval.Metrics {
		if spec.Paired(m) {
			s.Extra = append(s.Extra, part.Column{Name: m, Type: part.Float64})
		}
	}
	for _, t := range e.record.Taps {
		s.Extra = append(s.Extra, part.Column{Name: "features_" + t.Name, Type: part.Vector, Len: t.D})
	}
	return s
}
