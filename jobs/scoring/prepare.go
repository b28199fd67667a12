package scoring

import (
	"cmp"
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
	Classes   []string         `json:"classes,omitempty"` // that the network tells apart
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
	lpips   *extract.Perceptual
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
	if s.Eval.Perceptual != "" {
		if e.lpips, err = extract.OpenPerceptual(strings.Split(s.Eval.Perceptual, ","), e.backend); err != nil {
			return fmt.Errorf("spec.eval.perceptual: %w", err)
		}
		e.closers = append(e.closers, e.lpips.Close)
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
	e.fact("precision", s.Eval.Extractor.Precision+" features, float64 statistics")
	perceptual := ""
	if e.lpips != nil {
		perceptual = e.lpips.Words()
		e.fact("weights of the perceptual distance", perceptual)
	}
	if modelSHA != "" {
		e.fact("first stage", fmt.Sprintf("%s, sha256 %s", filepath.Base(s.Model.Checkpoint), modelSHA))
	}
	if statsSHA != "" {
		e.fact("statistics of the reference", fmt.Sprintf("%s, sha256 %s", filepath.Base(e.record.Stats), statsSHA))
	}
	e.plan, err = commit.NewPlan(map[string]any{
		"job": e.job.Canonical(), "numerics": numerics, "extractor_sha256": e.record.Network.SHA256, "model_sha256": modelSHA, "stats_sha256": statsSHA, "perceptual": perceptual,
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
	switch s.Eval.Extractor.Network() {
	case "shapes64":
		e.network, err = opened(extract.OpenDefault(e.backend))
	case "vgg16":
		e.network, err = opened(extract.OpenVGG16(s.Eval.Extractor.Path, e.backend))
	case "classifier":
		e.network, err = opened(extract.OpenClassifier(s.Eval.Extractor.Path, e.backend))
	case "first-stage":
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
	default:
		taps := measure.TapsOf(slices.DeleteFunc(slices.Clone(s.Eval.Metrics), spec.Paired))
		e.network, err = opened(extract.OpenInception(s.Eval.Extractor.Path, p, e.backend, taps))
	}
	if err != nil {
		return fmt.Errorf("extractor: %w", err)
	}
	e.closers = append(e.closers, e.network.Close)
	if s.Eval.Extractor.Precision == "float64" {
		x, ok := e.network.(extract.Auditable)
		if !ok {
			return exitcode.Errorf(exitcode.Internal, "extractor %s: not in double precision", s.Eval.Extractor.Network())
		}
		if err := x.UseDouble(); err != nil {
			return fmt.Errorf("extractor: %w", err)
		}
	}
	e.record.Network, e.record.Taps = e.network.Identity(), e.network.Taps()
	if c, ok := e.network.(extract.ClassTable); ok {
		e.record.Classes = c.Classes()
	}
	id := e.record.Network
	if want := s.Eval.Extractor.SHA256; want != "" && want != id.SHA256 {
		return exitcode.Errorf(exitcode.Data, "extractor %s: sha256 is %s, the job says %s", cmp.Or(id.Path, id.Name), id.SHA256, want)
	}
	if (id.FID || id.Name == extract.VGG16Name) && id.Known == "" {
		e.warn("the extractor's weights are in no known published file: the scores compare with those of the same file only")
	}
	return nil
}

// opened is one network as any; nil stays nil.
func opened[T extract.Network](x T, err error) (extract.Network, error) {
	if err != nil {
		return nil, err
	}
	return x, nil
}

// checkClasses makes sure that labels of the sets mean what those of the network mean.
func (e *Evaluation) checkClasses() error {
	if !slices.Contains(e.job.Spec.Eval.Metrics, measure.AccuracyMetric) {
		return nil
	}
	for i, info := range []setInfo{e.record.Generated, e.record.Reference} {
		if info.ClassNames != nil && !slices.Equal(info.ClassNames, e.record.Classes) {
			return exitcode.Errorf(exitcode.Data, "accuracy: the classes of the %s set are %q, those of the extractor %q", []string{"generated", "reference"}[i], info.ClassNames, e.record.Classes)
		}
	}
	if !e.record.Generated.Labeled {
		return exitcode.Errorf(exitcode.Usage, "accuracy: the generated set has no labels")
	}
	return nil
}

func (e *Evaluation) openSets(ctx context.Context) error {
	s := &e.job.Spec
	c := columns{image: s.Input.Image, label: s.Input.Label, id: s.Input.ID, allowPaths: s.Input.AllowPaths, limit: int64(s.Input.Limit), memory: int64(s.Limits.Memory)}
	r := c
	r.image, r.label, r.id = s.Eval.ReferenceImage, s.Eval.ReferenceLabel, ""
	var err error
	if s.Eval.Reconstruct {
		e.generated, err = openSet(ctx, s.Eval.Reference, r)
	} else {
		e.generated, err = openSet(ctx, s.Eval.Generated, c)
	}
	if err != nil {
		return fmt.Errorf("generated: %w", err)
	}
	e.record.Generated = e.generated.about()
	pictures := s.Eval.Reference != ""
	if pictures && !s.Eval.Reconstruct {
		statistics, both, err := isStatistics(s.Eval.Reference)
		if err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		if statistics {
			if pictures, err = e.openStatistics(both); err != nil {
				return err
			}
		}
	}
	if pictures {
		if e.reference, err = openSet(ctx, s.Eval.Reference, r); err != nil {
			return fmt.Errorf("reference: %w", err)
		}
		e.record.Reference, e.record.Pictures = e.reference.about(), true
	}
	for i, info := range []setInfo{e.record.Generated, e.record.Reference} {
		for _, w := range info.Warnings {
			e.warn([]string{"generated: ", "reference: "}[i] + w)
		}
	}
	if s.Eval.Reconstruct {
		e.record.Generated.What = "reconstructions of the reference by the first stage"
	}
	if err := e.checkClasses(); err != nil {
		return err
	}
	if err := e.checkClassTables(); err != nil {
		return err
	}
	if err := e.checkSave(); err != nil {
		return err
	}
	if g := e.generated.rows(); g == 0 {
		return exitcode.Errorf(exitcode.Data, "generated: no row")
	} else if e.paired() && e.reference.rows() != g {
		return exitcode.Errorf(exitcode.Data, "paired metrics compare row by row: %d generated rows, %d of the reference", g, e.reference.rows())
	}
	return nil
}

// checkClassTables makes sure that labels of both sets mean the same classes, where classes are compared.
func (e *Evaluation) checkClassTables() error {
	g, r := iostats.ClassTable(e.record.Generated.ClassNames), iostats.ClassTable(e.record.Reference.ClassNames)
	if !slices.Contains(e.job.Spec.Eval.Metrics, "class_fid") || g == "" || r == "" || g == r {
		return nil
	}
	return e.overrule(exitcode.Errorf(exitcode.Data, "classes are not comparable: class_table is %q of the generated set and %q of the reference", g, r))
}

// overrule passes an error on unless the job compares all the same.
func (e *Evaluation) overrule(err error) error {
	if !e.job.Spec.Eval.Force {
		return fmt.Errorf("%w; --force compares all the same, and the result says so", err)
	}
	e.record.Overrule = err.Error()
	e.warn(err.Error() + "; compared because of --force")
	return nil
}

// checkSave makes sure that the file of statistics can have what its format wants.
func (e *Evaluation) checkSave() error {
	s := &e.job.Spec
	path, tap := s.Eval.SaveStats, e.record.mainTap().Name
	switch {
	case path == "" || filepath.Ext(path) == ".arrow":
	case tap == "" || tap == extract.Spatial:
		return exitcode.Errorf(exitcode.Usage, "spec.eval.save_stats: %s has one kind of features and those of sFID beside it; spec.eval.metrics asks for others: add fid, or write .arrow", filepath.Base(path))
	case strings.HasSuffix(path, keptFeatures) && e.generated.rows() > int64(s.Eval.MaxFeatures):
		return exitcode.Errorf(exitcode.Usage, "spec.eval.save_stats: the features of %d rows are asked for, spec.eval.max_features is %d", e.generated.rows(), s.Eval.MaxFeatures)
	}
	return nil
}

// paired says that rows of the two sets are compared one by one.
func (e *Evaluation) paired() bool { return slices.ContainsFunc(e.job.Spec.Eval.Metrics, spec.Paired) }

// meta says how the features of FID are made.
func (r *record) meta() iostats.Meta {
	return iostats.Meta{Protocol: cmp.Or(r.Network.Protocol, "none"), Resize: r.Network.Resize, Extractor: r.Network.Name, ExtractorSHA256: r.Network.SHA256, ClassTable: iostats.ClassTable(r.Generated.ClassNames)}
}

// mainTap is the tap of FID.
func (r *record) mainTap() extract.Tap {
	for _, t := range r.Taps {
		if t.Name == extract.Pool || t.Name == extract.Features || len(r.Taps) == 1 {
			return t
		}
	}
	return extract.Tap{}
}

// openStatistics checks that the statistics of the reference were made as the features here are, and whether its pictures, which
// the file may have too, are needed beside them.
func (e *Evaluation) openStatistics(pictures bool) (need bool, err error) {
	path := e.job.Spec.Eval.Reference
	e.record.Stats = path
	ref, err := reference.Open(path, nil)
	if err != nil {
		return false, fmt.Errorf("reference: %w", err)
	}
	if err := e.record.meta().Check(ref.Meta); err != nil {
		if err := e.overrule(fmt.Errorf("%s: %w", path, err)); err != nil {
			return false, err
		}
	}
	for _, m := range e.job.Spec.Eval.Metrics {
		if spec.NeedsPictures(m) || spec.NeedsFeatures(m) && ref.Features == nil && !(m == "class_fid" && ref.HasClasses(e.record.mainTap().Name)) {
			if need = true; !pictures {
				return false, exitcode.Errorf(exitcode.Usage, "spec.eval.metrics: %s needs the pictures of the reference; %s has statistics only", m, path)
			}
		}
	}
	for _, tap := range e.record.Taps {
		if tap.Name == extract.Unbiased || tap.Name == extract.Logits {
			continue
		}
		if err := ref.Has(tap.Name, tap.D); err != nil {
			if !pictures {
				return false, err
			}
			need = true
			e.warn(fmt.Sprintf("%s; the pictures in the file take their place", err))
		}
	}
	if u := ref.Meta.Unknown(); len(u) > 0 {
		e.warn(fmt.Sprintf("%s does not say how its features were made (%s); whether they compare is not checked", filepath.Base(path), strings.Join(u, ", ")))
	}
	e.record.Reference = setInfo{Path: path, What: "statistics, format " + ref.Format, Rows: ref.Rows(), Labeled: ref.HasClasses(e.record.mainTap().Name)}
	return need, nil
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
