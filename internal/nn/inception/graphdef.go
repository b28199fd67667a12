package inception

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// graphDef is the constants of a TensorFlow graph, by node name: the form in which the network was first published
// (classify_image_graph_def.pb of 2015-12-05). Only what this network needs of the format is read.
type graphDef map[string]constant

// constant is a float32 tensor as the file stores it: raw little-endian values, or a list, whose last entry stands for all
// that follow it.
type constant struct {
	shape  []int
	raw    []byte
	values []float32
}

// maxGraph bounds the size of a file; the published one has 95.7 MB.
const maxGraph = 512 << 20

// isGraphDef tells the files apart: a graph begins with a node, and neither a checkpoint nor safetensors begins so.
func isGraphDef(head []byte) bool { return len(head) > 8 && head[0] == 0x0a && head[8] != '{' }

// openGraphDef reads the constants of a file.
func openGraphDef(path string) (graphDef, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxGraph {
		return nil, exitcode.Errorf(exitcode.Data, "model file %s: a graph of %d bytes, more than %d", path, info.Size(), maxGraph)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	g, err := parseGraphDef(data)
	if err != nil {
		return nil, exitcode.Errorf(exitcode.Data, "model file %s: TensorFlow graph: %w", path, err)
	}
	return g, nil
}

// parseGraphDef reads a GraphDef message: nodes (1) of name (1), operation (2) and attributes (5), which are pairs of a key
// (1) and a value (2), whose tensor is field 8.
func parseGraphDef(data []byte) (graphDef, error) {
	g := graphDef{}
	err := message(data, func(field int, _ uint64, node []byte) error {
		if field != 1 {
			return nil
		}
		var name, op string
		var value []byte
		err := message(node, func(field int, _ uint64, b []byte) error {
			switch field {
			case 1:
				name = string(b)
			case 2:
				op = string(b)
			case 5:
				var key string
				var attr []byte
				if err := message(b, func(field int, _ uint64, b []byte) error {
					switch field {
					case 1:
						key = string(b)
					case 2:
						attr = b
					}
					return nil
				}); err != nil {
					return err
				}
				if key == "value" {
					value = attr
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("node %.100q: %w", name, err)
		}
		if op != "Const" {
			return nil
		}
		return message(value, func(field int, _ uint64, b []byte) error {
			if field != 8 {
				return nil
			}
			c, isFloat, err := parseTensor(b)
			if err != nil {
				return fmt.Errorf("node %.100q: %w", name, err)
			}
			if isFloat {
				g[name] = c
			}
			return nil
		})
	})
	return g, err
}

// parseTensor reads a TensorProto: type (1), shape (2), raw content (4) and values (5).
func parseTensor(data []byte) (c constant, isFloat bool, err error) {
	err = message(data, func(field int, v uint64, b []byte) error {
		switch field {
		case 1:
			isFloat = v == 1 // DT_FLOAT
		case 2:
			return message(b, func(field int, _ uint64, dim []byte) error {
				if field != 2 {
					return nil
				}
				size := uint64(0)
				if err := message(dim, func(field int, v uint64, _ []byte) error {
					if field == 1 {
						size = v
					}
					return nil
				}); err != nil {
					return err
				}
				if size > maxGraph {
					return fmt.Errorf("a dimension of %d", int64(size))
				}
				c.shape = append(c.shape, int(size))
				return nil
			})
		case 4:
			c.raw = b
		case 5:
			if b == nil { // a single value, which the reader hands over as a number
				c.values = append(c.values, math.Float32frombits(uint32(v)))
				return nil
			}
			if len(b)%4 != 0 {
				return errors.New("packed values do not end on a value")
			}
			c.values = append(c.values, floats(b)...)
		}
		return nil
	})
	return c, isFloat, err
}

// message calls f for each field of a protobuf message: b is what a field of bytes holds, never nil for one, and v the number
// of any other.
func message(data []byte, f func(field int, v uint64, b []byte) error) error {
	for len(data) > 0 {
		tag, n := binary.Uvarint(data)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29 {
			return errors.New("damaged or no protobuf message")
		}
		data = data[n:]
		var v uint64
		var b []byte
		switch tag & 7 {
		case 0:
			if v, n = binary.Uvarint(data); n <= 0 {
				return errors.New("damaged: a number does not end")
			}
		case 1, 5:
			if n = 8; tag&7 == 5 {
				n = 4
			}
			if len(data) < n {
				return errors.New("cut off in a number")
			}
			v = uint64(binary.LittleEndian.Uint32(data))
		case 2:
			var size uint64
			if size, n = binary.Uvarint(data); n <= 0 || size > uint64(len(data)-n) {
				return errors.New("cut off, or a wrong length")
			}
			b = data[n : n+int(size) : n+int(size)]
			n += int(size)
		default:
			return fmt.Errorf("damaged: field of type %d", tag&7)
		}
		data = data[n:]
		if err := f(int(tag>>3), v, b); err != nil {
			return err
		}
	}
	return nil
}

func floats(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

// check says whether the graph holds every entry of the state dict in the right shape.
func (g graphDef) check() error {
	var bad []string
	for _, k := range Keys() {
		if strings.HasSuffix(k.Name, counterKey) {
			continue
		}
		name, shape := graphName(k.Name), graphShape(k.Shape)
		switch c, ok := g[name]; {
		case !ok:
			bad = append(bad, name+" is missing")
		case !slices.Equal(c.shape, shape):
			bad = append(bad, fmt.Sprintf("%s has shape %v, want %v", name, c.shape, shape))
		case len(c.raw) != 4*volume(shape) && (len(c.raw) != 0 || len(c.values) == 0 || len(c.values) > volume(shape)):
			bad = append(bad, fmt.Sprintf("%s of shape %v holds %d bytes and %d values", name, c.shape, len(c.raw), len(c.values)))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return exitcode.Errorf(exitcode.Data, "no Inception-v3 of 2015: %d entries do not fit: %s", len(bad), strings.Join(bad[:min(len(bad), 5)], "; "))
}

// values returns an entry of the state dict in its own order of dimensions.
func (g graphDef) values(key string) []float32 {
	c := g[graphName(key)]
	n := volume(c.shape)
	x := slices.Clip(c.values)
	if len(c.raw) > 0 {
		x = floats(c.raw)
	}
	for len(x) < n {
		x = append(x, x[len(x)-1])
	}
	if len(c.shape) < 2 {
		return x
	}
	// Kernels are (KH,KW,C,O) in the graph and (O,C,KH,KW) here; matrices (C,O) and (O,C).
	o := c.shape[len(c.shape)-1]
	ch := c.shape[len(c.shape)-2]
	taps := n / o / ch
	y := make([]float32, n)
	for i, v := range x {
		tap, c, out := i/o/ch, i/o%ch, i%o
		y[(out*ch+c)*taps+tap] = v
	}
	return y
}

// graphShape is the shape that the graph has for an entry of the state dict.
func graphShape(shape []int) []int {
	switch len(shape) {
	case 4:
		return []int{shape[2], shape[3], shape[1], shape[0]}
	case 2:
		return []int{shape[1], shape[0]}
	}
	return shape
}

func volume(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// The names of the graph: layers of the stem and blocks in order, entries of a layer, and the tower that a branch stands in.
var (
	graphStem   = []string{"Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"}
	graphBlocks = []string{"Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a", "Mixed_7b", "Mixed_7c"}
	graphKeys   = map[string]string{
		weightKey: "/conv2d_params", ".bn.weight": "/batchnorm/gamma", biasKey: "/batchnorm/beta",
		".bn.running_mean": "/batchnorm/moving_mean", ".bn.running_var": "/batchnorm/moving_variance",
	}
	graphTowers = map[string]string{
		"branch5x5": "tower", "branch3x3": "tower", "branch7x7": "tower",
		"branch3x3dbl": "tower_1", "branch7x7dbl": "tower_1", "branch7x7x3": "tower_1",
	}
)

// graphName is the name that an entry of the state dict has in the graph.
func graphName(key string) string {
	switch key {
	case "fc.weight":
		return "softmax/weights"
	case "fc.bias":
		return "softmax/biases"
	}
	layer, key, _ := strings.Cut(key, ".")
	if i := slices.Index(graphStem, layer); i >= 0 {
		return numbered("conv", i) + graphKeys["."+key]
	}
	branch, key, _ := strings.Cut(key, ".")
	return numbered("mixed", slices.Index(graphBlocks, layer)) + "/" + graphBranch(layer, branch) + graphKeys["."+key]
}

// graphBranch is the layer of a branch: "_3" of a name is the third layer of its tower, "_3a" and "_3b" are side by side.
func graphBranch(block, branch string) string {
	if branch == "branch_pool" {
		return "tower_2/conv"
	}
	family, place, ok := strings.Cut(branch, "_")
	if !ok { // a branch of one layer
		return "conv"
	}
	tower := graphTowers[family]
	if block == "Mixed_6a" {
		tower = "tower"
	}
	switch last := place[len(place)-1]; last {
	case 'a', 'b':
		return tower + "/mixed/" + numbered("conv", int(last-'a'))
	default:
		return tower + "/" + numbered("conv", int(last-'1'))
	}
}

// numbered is how the graph numbers things of one name: the first has no number.
func numbered(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprint(name, "_", i)
}
