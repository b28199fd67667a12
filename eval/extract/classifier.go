package extract

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/models/shapes64"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/classifier"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
)

// Taps of a classifier.
const (
	Features = string(classifier.Features) // distances
	Logits   = string(classifier.Logits)   // accuracy
)

// Default is the name of the network that comes with the program.
const Default = shapes64.Name

// ClassTable is a network that tells classes apart: the tap [Logits] holds one number for each.
type ClassTable interface {
	Network
	Classes() []string
}

// Classifier takes the features and the logits of a network that this program trained, see package internal/nn/classifier.
type Classifier struct {
	model    *classifier.Model
	session  *engine.Session
	images   preprocess.Config
	double   *nn.Double // in the session's place, if features are computed in double precision
	identity Identity
}

// OpenDefault opens the network that comes with the program.
func OpenDefault(b plan.Backend) (*Classifier, error) {
	c, err := classifier.ParseConfig(shapes64.Name, shapes64.Config)
	if err != nil {
		return nil, err
	}
	tensors, _, err := safetensors.Read(tensor.Memory(shapes64.Weights), safetensors.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shapes64.Name, err)
	}
	f, err := weights.NewMemory(tensors)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shapes64.Name, err)
	}
	sum := sha256.Sum256(shapes64.Weights)
	return newClassifier(c, f, b, Identity{
		Name: shapes64.Name, SHA256: hex.EncodeToString(sum[:]),
		Words: "the classifier of coloured shapes, textures and digits that comes with this program, trained on its demonstration data",
	})
}

// OpenClassifier opens a model file that a training of stage classifier wrote; the configuration lies beside it, as config.yaml.
func OpenClassifier(path string, b plan.Backend) (*Classifier, error) {
	c, err := classifier.LoadConfig(filepath.Join(filepath.Dir(path), "config.yaml"))
	if err != nil {
		return nil, err
	}
	sum, _, err := weights.SHA256(path)
	if err != nil {
		return nil, err
	}
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		return nil, err
	}
	name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	return newClassifier(c, f, b, Identity{Name: name, SHA256: sum, Path: path, Words: fmt.Sprintf("a classifier of %d classes", len(c.Classes))})
}

func newClassifier(c classifier.Config, f *weights.File, b plan.Backend, id Identity) (*Classifier, error) {
	m, err := classifier.Bind(c, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	x := &Classifier{model: m, session: engine.NewWeights(m, b), images: preprocess.Config{
		Size: preprocess.Size{H: c.Size, W: c.Size}, Crop: preprocess.NoCrop, Resize: "pil-bicubic",
	}}
	id.Resize = fmt.Sprintf("%s to %dx%d, crop %s", x.images.Resize, c.Size, c.Size, x.images.Crop)
	x.identity = id
	return x, nil
}

// Identity implements [Network].
func (x *Classifier) Identity() Identity { return x.identity }

// Classes implements [ClassTable].
func (x *Classifier) Classes() []string { return x.model.Config.Classes }

// Taps implements [Network].
func (x *Classifier) Taps() []Tap {
	return []Tap{{Features, x.model.Config.Features()}, {Logits, len(x.model.Config.Classes)}}
}

// NewPreparer implements [Network].
func (x *Classifier) NewPreparer() (Preparer, error) {
	p, err := preprocess.New(x.images)
	return &latentPreparer{p: p}, err
}

// Inputs implements [Network].
func (x *Classifier) Inputs() int { return 3 * x.images.Size.H * x.images.Size.W }

// Features implements [Network].
func (x *Classifier) Features(inputs []float32, n int) ([][]float32, error) {
	if err := checkInputs(x, inputs, n); err != nil {
		return nil, err
	}
	if x.double != nil {
		return runDouble(x.double, inputs, n, x.Taps())
	}
	return run(x.session, "classifier", n, inputs, x.Taps(), x.graph(n))
}

func (x *Classifier) graph(n int) func() (*nn.Graph, error) {
	return func() (*nn.Graph, error) { return x.model.Config.Graph(n, classifier.Features, classifier.Logits) }
}

// UseDouble implements [Auditable].
func (x *Classifier) UseDouble() error {
	g, err := x.graph(1)()
	if err != nil {
		return err
	}
	x.double, err = nn.NewDouble(g, stored(x.model))
	return err
}

// Close implements [Network].
func (x *Classifier) Close() {
	x.session.Close()
	_ = x.model.Close() // of a file that was only read
}
