package spec

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Eval says what is scored, against what, and how.
type Eval struct {
	Generated      string    `yaml:"generated" path:"list"`
	Reference      string    `yaml:"reference" path:"list"`
	ReferenceImage string    `yaml:"reference_image"`
	ReferenceLabel string    `yaml:"reference_label"`
	Reconstruct    bool      `yaml:"reconstruct"`
	Metrics        []string  `yaml:"metrics"`
	Protocol       string    `yaml:"protocol" enum:"torch-fidelity,pytorch-fid,clean-fid,adm,torchmetrics"`
	Extractor      Extractor `yaml:"extractor"`
	Neighbours     int       `yaml:"neighbours"`
	MaxFeatures    int       `yaml:"max_features"`
	Plane          string    `yaml:"plane" enum:"rgb,luma,luma-rounded"`
	Border         int       `yaml:"border"`
	Perceptual     string    `yaml:"perceptual" path:"list"`
	Force          bool      `yaml:"force"`
	FailIf         []string  `yaml:"fail_if" op:"true"`
	SaveStats      string    `yaml:"save_stats" path:"true" op:"true"`
}

// Extractor names the network that makes features.
type Extractor struct {
	Name      string `yaml:"name" enum:"auto,shapes64,classifier,inception,vgg16,first-stage"`
	Path      string `yaml:"path" path:"true"`
	SHA256    string `yaml:"sha256"`
	Precision string `yaml:"precision" enum:"float32,float64"`
}

// Network is the extractor that is meant: "auto" is the Inception-v3 where its file is given, and else the network that comes with
// the program.
func (e Extractor) Network() string {
	switch {
	case e.Name != "auto":
		return e.Name
	case e.Path != "":
		return "inception"
	}
	return "shapes64"
}

// Key is the name of a metric in results and conditions: a distance of features of another network than the Inception-v3 is no FID.
func (e Eval) Key(metric string) string {
	if key, ok := distances[metric]; ok && e.Extractor.Network() != "inception" {
		return key
	}
	return metric
}

// distances are the names of metrics by features of another network.
var distances = map[string]string{"fid": "fd", "fid_infinity": "fd_infinity", "class_fid": "class_fd", "kid": "kd", "kid_unbiased": "kd_unbiased"}

// Metrics of kind Eval, in the order of results.
var metrics = []string{"fid", "fid_64", "fid_192", "fid_768", "sfid", "fid_infinity", "class_fid", "kid", "is", "precision", "recall", "density", "coverage",
	"mind", "memorised", "accuracy", "psnr", "ssim", "msssim", "lpips"}

// What metrics need.
var (
	paired    = []string{"psnr", "ssim", "msssim", "lpips"}                                                     // pictures of both sets, row by row
	alone     = []string{"is", "accuracy"}                                                                      // no reference
	classes   = []string{"accuracy"}                                                                            // a network that tells the classes of labels apart
	inception = []string{"fid_64", "fid_192", "fid_768", "sfid", "is"}                                          // taps of that network
	features  = []string{"kid", "precision", "recall", "density", "coverage", "mind", "memorised", "class_fid"} // of the reference, not only its statistics
)

// Paired reports whether a metric compares pictures row by row and needs no features.
func Paired(metric string) bool { return slices.Contains(paired, metric) }

// NeedsReference reports whether a metric compares with the reference.
func NeedsReference(metric string) bool { return !slices.Contains(alone, metric) }

// NeedsPictures reports whether a metric needs the pictures of the reference: neither means and covariances nor features will do.
func NeedsPictures(metric string) bool { return Paired(metric) }

// NeedsFeatures reports whether a metric needs the features of the reference's pictures, so that means and covariances will not do.
func NeedsFeatures(metric string) bool { return slices.Contains(features, metric) }

func (r *Resolved) validateEval() error {
	e := &r.Spec.Eval
	for i, m := range e.Metrics {
		switch {
		case !slices.Contains(metrics, m):
			return r.fail("spec.eval.metrics", "%q is not one of %s", m, strings.Join(metrics, ", "))
		case slices.Index(e.Metrics, m) < i:
			return r.fail("spec.eval.metrics", "%s is listed twice", m)
		case e.Reference == "" && NeedsReference(m) && (e.SaveStats == "" || Paired(m)):
			return r.fail("spec.eval.reference", "missing: %s compares with a reference", m)
		case e.Extractor.Network() != "inception" && slices.Contains(inception, m):
			return r.fail("spec.eval.metrics", "%s is made of features of the extractor inception, not of %s", m, e.Extractor.Network())
		case e.Extractor.Network() != "shapes64" && e.Extractor.Network() != "classifier" && slices.Contains(classes, m):
			return r.fail("spec.eval.metrics", "%s needs an extractor that tells classes apart, shapes64 or classifier, not %s", m, e.Extractor.Network())
		case m == "is" && e.Protocol != "torch-fidelity" && e.Protocol != "adm" && e.Protocol != "torchmetrics":
			return r.fail("spec.eval.metrics", "protocol %s has no inception score", e.Protocol)
		}
	}
	needsFeatures := slices.ContainsFunc(e.Metrics, func(m string) bool { return !Paired(m) })
	needsModel := e.Reconstruct || e.Extractor.Name == "first-stage"
	for _, c := range []struct {
		bad bool
		key string
		msg string
	}{
		{len(e.Metrics) == 0, "spec.eval.metrics", "missing: " + strings.Join(metrics, ", ")},
		{e.Generated == "" && !e.Reconstruct, "spec.eval.generated", "missing: the pictures to score"},
		{e.Generated != "" && e.Reconstruct, "spec.eval.generated", "does not go with spec.eval.reconstruct, which scores reconstructions of the reference"},
		{e.Reference == "" && e.Reconstruct, "spec.eval.reference", "missing: the pictures to reconstruct"},
		{needsFeatures && e.Extractor.Name == "inception" && e.Extractor.Path == "", "spec.eval.extractor.path", "missing: the file of the Inception-v3 weights of FID"},
		{needsFeatures && e.Extractor.Name == "vgg16" && e.Extractor.Path == "", "spec.eval.extractor.path", "missing: the file of the weights of VGG16"},
		{e.Extractor.Name == "classifier" && e.Extractor.Path == "", "spec.eval.extractor.path", "missing: the model file of the classifier, with config.yaml beside it"},
		{e.Extractor.Name == "shapes64" && e.Extractor.Path != "", "spec.eval.extractor.path", "has no meaning for shapes64, which comes with the program"},
		{e.Extractor.Name == "first-stage" && e.Extractor.Path != "", "spec.eval.extractor.path", "has no meaning for first-stage, which is spec.model"},
		{e.Extractor.SHA256 != "" && len(e.Extractor.SHA256) != 64, "spec.eval.extractor.sha256", "not 64 hexadecimal digits"},
		{needsModel && r.Spec.Model.Checkpoint == "", "spec.model.checkpoint", "missing: the first stage"},
		{needsModel && r.Spec.Model.Config == "", "spec.model.config", "missing: the first stage's configuration"},
		{!needsModel && r.Spec.Model.Checkpoint != "", "spec.model.checkpoint", "has no meaning without spec.eval.reconstruct and without extractor first-stage"},
		{needsModel && (r.Spec.Preprocess.Size.H == 0 || r.Spec.Preprocess.Size.W == 0), "spec.preprocess.size", "missing: the size at which the first stage sees pictures"},
		{r.Origins["spec.input.path"] != "", "spec.input.path", "has no meaning for kind Eval; see spec.eval.generated"},
		{e.Neighbours < 0, "spec.eval.neighbours", "negative"},
		{e.MaxFeatures < 100, "spec.eval.max_features", "not at least 100"},
		{e.Border < 0, "spec.eval.border", "negative"},
		{slices.Contains(e.Metrics, "lpips") != (e.Perceptual != ""), "spec.eval.perceptual", "the files of the network's weights go with the metric lpips"},
		{e.Extractor.Precision == "float64" && e.Extractor.Network() == "first-stage", "spec.eval.extractor.precision", "float64 is for networks of features, not for first stages"},
		{e.SaveStats != "" && !slices.ContainsFunc(e.Metrics, func(m string) bool { return !Paired(m) && NeedsReference(m) }), "spec.eval.save_stats", "no metric has features whose statistics could be kept"},
		{e.SaveStats != "" && !slices.Contains([]string{".arrow", ".npz", ".pt"}, filepath.Ext(e.SaveStats)), "spec.eval.save_stats", "not a name that ends in .arrow, .npz or .pt"},
	} {
		if c.bad {
			return r.fail(c.key, "%s", c.msg)
		}
	}
	for _, text := range e.FailIf {
		c, err := ParseCondition(text)
		switch {
		case err != nil:
		case !slices.ContainsFunc(e.Metrics, func(m string) bool { return m == c.Metric || e.Key(m) == c.Metric }):
			err = fmt.Errorf("%q: %s is not among spec.eval.metrics", text, c.Metric)
		case e.Reference == "" && NeedsReference(c.Metric):
			err = fmt.Errorf("%q: there is no %s without a reference", text, c.Metric)
		}
		if err != nil {
			return r.fail("spec.eval.fail_if", "%s", err)
		}
	}
	for _, key := range []string{"spec.sample.task", "spec.sampler.steps", "spec.sampler.name", "spec.encode.latent", "spec.output.layout", "spec.output.format"} {
		if r.Origins[key] != "" {
			return r.fail(key, "has no meaning for kind Eval")
		}
	}
	return nil
}

// Condition is one on a score, such as fid>12.5.
type Condition struct {
	Metric string
	Op     string // one of < <= > >=
	Limit  float64
}

var condition = regexp.MustCompile(`^\s*([a-z0-9_]+)\s*(<=|>=|<|>)\s*(\S+)\s*$`)

// ParseCondition reads a condition.
func ParseCondition(s string) (Condition, error) {
	m := condition.FindStringSubmatch(s)
	if m == nil {
		return Condition{}, fmt.Errorf("%q is not a condition such as fid>12.5", s)
	}
	v, err := strconv.ParseFloat(m[3], 64)
	if err != nil || v != v {
		return Condition{}, fmt.Errorf("%q: %s is not a number", s, m[3])
	}
	return Condition{m[1], m[2], v}, nil
}

// Holds says whether a score meets the condition. One that is not a number meets every condition: a gate must not let it pass.
func (c Condition) Holds(v float64) bool {
	switch c.Op {
	case "<":
		return !(v >= c.Limit)
	case "<=":
		return !(v > c.Limit)
	case ">":
		return !(v <= c.Limit)
	default:
		return !(v < c.Limit)
	}
}

func (c Condition) String() string { return fmt.Sprintf("%s%s%g", c.Metric, c.Op, c.Limit) }
