package inception

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// The TorchScript archive that StyleGAN and clean-fid use (inception-2015-12-05.pt) is a module "layers", whose parts have the names of
// the TensorFlow graph, and a module "output", the classifier.
const (
	scriptLayers = "layers."
	scriptOutput = "output."
)

// isScript says whether a file has the modules of the archive.
func isScript(f *weights.File) bool {
	_, ok := f.Lookup(scriptOutput + "weight")
	return ok && slices.ContainsFunc(f.Tensors(), func(t *weights.Tensor) bool { return strings.HasPrefix(t.Name, scriptLayers+"conv.") })
}

// bindScript takes the weights of the archive by the names of the state dict. What a layer holds is told apart by its number of
// dimensions and by the last part of its name; without a factor of the normalisation it is 1, as in the graph.
func bindScript(f *weights.File) (weights.Map, error) {
	found, used := weights.Map{}, 0
	var bad weights.MismatchError
	layer := ""
	var parts map[string]*weights.Tensor // of the layer, by the ends of their keys
	for _, k := range Keys() {
		if strings.HasSuffix(k.Name, counterKey) {
			continue
		}
		var t *weights.Tensor
		if end, ok := strings.CutPrefix(k.Name, "fc."); ok {
			if t, ok = f.Lookup(scriptOutput + end); ok {
				used++
			}
		} else {
			if base, ok := strings.CutSuffix(k.Name, weightKey); ok { // the first of a layer
				layer = base
				var err error
				if parts, err = scriptParts(f, scriptPath(base)); err != nil {
					return nil, err
				}
				used += len(parts)
				if parts[normKeys[0]] == nil {
					ones, err := tensor.FromFloat32(base+normKeys[0], k.Shape[:1], slices.Repeat([]float32{1}, k.Shape[0]))
					if err != nil {
						return nil, err
					}
					parts[normKeys[0]] = ones
				}
			}
			t = parts[k.Name[len(layer):]]
		}
		switch {
		case t == nil:
			bad.Missing = append(bad.Missing, k.Name)
		case !slices.Equal(t.Shape, k.Shape):
			bad.Shape = append(bad.Shape, fmt.Sprintf("%s: %v, want %v", t.Name, t.Shape, k.Shape))
		default:
			found[k.Name] = t.Renamed(k.Name)
		}
	}
	if len(bad.Missing)+len(bad.Shape) > 0 {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("TorchScript archive: %w", &bad))
	}
	if counted := slices.DeleteFunc(slices.Clone(f.Tensors()), isCounter); used != len(counted) {
		return nil, exitcode.Errorf(exitcode.Data, "TorchScript archive: %d tensors, of which the Inception-v3 of 2015 has %d", len(counted), used)
	}
	return found, nil
}

// isCounter says whether a tensor is a single number, such as a count of batches.
func isCounter(t *weights.Tensor) bool { return len(t.Shape) == 0 }

// scriptPath is the module of a layer, given the beginning of its keys in the state dict.
func scriptPath(base string) string {
	path := strings.TrimSuffix(graphName(base+weightKey), graphKeys[weightKey])
	return scriptLayers + strings.ReplaceAll(path, "/", ".") + "."
}

// scriptRoles are the ends of keys by what last parts of names say.
var scriptRoles = map[string]string{
	"mean": ".bn.running_mean", "running_mean": ".bn.running_mean", "moving_mean": ".bn.running_mean",
	"var": ".bn.running_var", "variance": ".bn.running_var", "running_var": ".bn.running_var", "moving_variance": ".bn.running_var",
	"beta": biasKey, "bias": biasKey, "gamma": ".bn.weight", "weight": ".bn.weight",
}

// scriptParts are the tensors below a module, by the ends of their keys in the state dict.
func scriptParts(f *weights.File, path string) (map[string]*weights.Tensor, error) {
	parts := map[string]*weights.Tensor{}
	for _, t := range f.Tensors() {
		if !strings.HasPrefix(t.Name, path) || isCounter(t) {
			continue
		}
		role := weightKey
		if len(t.Shape) != 4 {
			role = scriptRoles[t.Name[strings.LastIndexByte(t.Name, '.')+1:]]
		}
		if role == "" || parts[role] != nil {
			return nil, exitcode.Errorf(exitcode.Data, "TorchScript archive: %s of shape %v is none of the parts of a layer, or one that is there already", t.Name, t.Shape)
		}
		parts[role] = t
	}
	return parts, nil
}
