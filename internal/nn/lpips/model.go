package lpips

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/ir"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// Model is the weights of the network. It implements plan.WeightSource.
type Model struct {
	Files []File // that it came from, when opened by [Open]

	keys    []ir.Param
	tensors weights.Map // by the names of keys
	open    []*weights.File
}

// File is a file that weights came from.
type File struct{ Path, SHA256 string }

// Open opens the weights in files, which together must hold the convolutions of VGG16 and the heads of the distance: the state
// dict of torchvision's vgg16 (features.0.weight, ...; its classifier is not used) beside that of the heads
// (lin0.model.1.weight, ...), or one file with the state dict of the whole distance, or a checkpoint of a first stage, which holds
// it under "loss.perceptual_loss.".
func Open(paths ...string) (*Model, error) {
	if len(paths) == 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "perceptual distance: no file of weights")
	}
	return open("perceptual distance", Keys(""), paths)
}

// OpenFeatures opens the weights of [FeatureGraph]: the state dict of torchvision's vgg16, whose last layer is not used.
func OpenFeatures(path string) (*Model, error) {
	return open("features of VGG16", FeatureKeys(), []string{path})
}

func open(what string, keys []ir.Param, paths []string) (*Model, error) {
	var opened []*weights.File
	var files []File
	closeAll := func() {
		for _, f := range opened {
			f.Close()
		}
	}
	for _, path := range paths {
		digest, _, err := weights.SHA256(path)
		if err != nil {
			closeAll()
			return nil, err
		}
		f, err := weights.Open(path, weights.Limits{})
		if err != nil {
			closeAll()
			return nil, err
		}
		opened, files = append(opened, f), append(files, File{path, digest})
	}
	m, err := bind(what, keys, opened)
	if err != nil {
		closeAll()
		return nil, fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
	}
	m.open, m.Files = opened, files
	return m, nil
}

// prefixes are what may stand before the names of the state dict in a file.
var prefixes = []string{"", "loss.perceptual_loss.", "perceptual_loss.", "first_stage_model.loss.perceptual_loss."}

// Bind takes the weights of open files; see [Open].
func Bind(files ...*weights.File) (*Model, error) {
	return bind("perceptual distance", Keys(""), files)
}

// BindFeatures takes the weights of an open file; see [OpenFeatures].
func BindFeatures(f *weights.File) (*Model, error) {
	return bind("features of VGG16", FeatureKeys(), []*weights.File{f})
}

func bind(what string, keys []ir.Param, files []*weights.File) (*Model, error) {
	m := &Model{keys: keys, tensors: weights.Map{}}
	var bad weights.MismatchError
	for _, k := range keys {
		t := find(files, k.Name)
		switch want := constants[k.Name]; {
		case want != nil:
			if t != nil {
				v, err := t.Values()
				if err != nil {
					return nil, err
				}
				if !slices.Equal(v, want) {
					return nil, exitcode.Errorf(exitcode.Data, "%s: %s is %v, want %v", what, k.Name, v, want)
				}
			}
			var err error
			if m.tensors[k.Name], err = tensor.FromFloat32(k.Name, k.Shape, want); err != nil {
				return nil, err
			}
		case t == nil:
			bad.Missing = append(bad.Missing, strings.Join(names(k.Name), " or "))
		case !slices.Equal(t.Shape, k.Shape):
			bad.Shape = append(bad.Shape, fmt.Sprintf("%s: %v, want %v", t.Name, t.Shape, k.Shape))
		default:
			m.tensors[k.Name] = t.Renamed(k.Name)
		}
	}
	if len(bad.Missing)+len(bad.Shape) > 0 {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", what, &bad))
	}
	return m, nil
}

// names are what an entry is called in files, its own name first.
func names(key string) []string {
	rest, ok := strings.CutPrefix(key, "net.slice")
	if !ok {
		return []string{key}
	}
	return []string{key, "features" + rest[1:]}
}

func find(files []*weights.File, key string) *weights.Tensor {
	for _, f := range files {
		for _, name := range names(key) {
			for _, p := range prefixes {
				if t, ok := f.Lookup(p + name); ok {
					return t
				}
			}
		}
	}
	return nil
}

// Prefixed is the same weights under names with a prefix, for graphs that use one. It needs no Close of its own.
func (m *Model) Prefixed(prefix string) *Model {
	p := &Model{Files: m.Files, tensors: m.tensors.Prefixed(prefix)}
	for _, k := range m.keys {
		p.keys = append(p.keys, ir.Param{Name: prefix + k.Name, Shape: k.Shape})
	}
	return p
}

// Close closes the files of a model that came from [Open].
func (m *Model) Close() error {
	var first error
	for _, f := range m.open {
		if err := f.Close(); err != nil && first == nil {
			first = err
		}
	}
	m.open = nil
	return first
}

// Tensors lists the state dict as it is saved; see [Keys]. The scaling layer is part of it.
func (m *Model) Tensors() []*weights.Tensor {
	var list []*weights.Tensor
	for _, k := range m.keys {
		list = append(list, m.tensors[k.Name])
	}
	return list
}

// Load writes a weight into dst.
func (m *Model) Load(name string, dst []float32) error { return m.tensors.Load(name, dst) }

// View returns a weight without a copy where its storage allows it.
func (m *Model) View(name string) ([]float32, bool) { return m.tensors.View(name) }

// Release says that a weight will not be read soon.
func (m *Model) Release(name string) { m.tensors.Release(name) }
