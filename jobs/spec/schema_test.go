package spec

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// object is a JSON object.
type object = map[string]any

var schemaFile = filepath.Join("..", "..", "docs", "job.schema.json")

// schema is the JSON schema of job files. It knows types, values and ranges; which keys a kind or a task needs, it does not.
func schema(keys []key) object {
	root := object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Job file of ldm-batch", "required": []any{"kind", "spec"},
		"$defs": object{"parameter": object{"type": "string", "pattern": `\$\{[A-Za-z0-9_.-]*\}`, "description": "filled by --param"}},
	}
	for _, k := range keys {
		at := root
		names := strings.Split(k.path, ".")
		for _, name := range names[:len(names)-1] {
			at = child(at, name)
		}
		leaf := child(at, names[len(names)-1])
		clear(leaf)
		maps.Copy(leaf, k.schema())
	}
	return root
}

// child is the schema of a key of an object.
func child(parent object, name string) object {
	parent["type"], parent["additionalProperties"] = "object", false
	props, ok := parent["properties"].(object)
	if !ok {
		props = object{}
		parent["properties"] = props
	}
	if props[name] == nil {
		props[name] = object{}
	}
	return props[name].(object)
}

// schema is that of one value, or of a parameter in its place.
func (k key) schema() object {
	var forms []any
	switch k.kind {
	case reflect.TypeOf(Extent{}):
		pixels := object{"type": "integer", "minimum": 0, "maximum": 1 << 20}
		forms = []any{pixels, object{"type": "array", "items": pixels, "minItems": 1, "maxItems": 2}, object{"type": "string", "pattern": `^[0-9]+(x[0-9]+)?$`}}
	case reflect.TypeOf(Size(0)):
		forms = []any{object{"type": "number", "minimum": 64 << 20}, object{"type": "string", "pattern": `^[0-9]+(\.[0-9]+)? *([KMGT]iB|[kKMGT]?B)?$`}}
	case reflect.TypeOf(Cells(0)):
		forms = []any{object{"type": "integer", "minimum": 0, "maximum": 1 << 16}, object{"type": "string", "pattern": `^(auto|[0-9]+)$`}}
	case reflect.TypeOf(Budget{}):
		forms = []any{object{"type": "integer", "minimum": 0}, object{"type": "string", "pattern": `^([0-9]+|(100|[0-9]{1,2})(\.[0-9]+)? *%)$`}}
	default:
		value := object{"type": map[reflect.Kind]string{
			reflect.String: "string", reflect.Bool: "boolean", reflect.Int: "integer", reflect.Uint64: "integer",
			reflect.Float64: "number", reflect.Slice: "array",
		}[k.kind.Kind()]}
		if k.kind.Kind() == reflect.Slice {
			value["items"] = object{"type": "string"}
		}
		if k.enum != nil {
			value["enum"] = list(k.enum)
		}
		if r, ok := between[k.path]; ok {
			value["minimum"] = r.min
			if r.max != 0 {
				value["maximum"] = r.max
			}
		}
		forms = []any{value}
	}
	s := object{"description": k.about}
	if k.kind.Kind() == reflect.String && k.enum == nil { // a parameter is a text as well
		maps.Copy(s, forms[0].(object))
		return s
	}
	s["anyOf"] = append(forms, object{"$ref": "#/$defs/parameter"})
	return s
}

func list(names []string) []any {
	l := make([]any, len(names))
	for i, n := range names {
		l[i] = n
	}
	return l
}

func TestSchemaFile(t *testing.T) {
	b, err := json.MarshalIndent(schema(allKeys(t)), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	current(t, schemaFile, string(b)+"\n")
}

// TestSchemaAgrees gives the same files to the schema and to the decoder.
func TestSchemaAgrees(t *testing.T) {
	data, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	var root object
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	base := "kind: Encode\nspec:\n  model: {checkpoint: a, config: b}\n  input: {path: x}\n  preprocess: {size: 64}\n  output: {path: o}\n"
	for text, good := range map[string]bool{
		encodeJob: true,
		base:      true,
		base + "  compute: {batch: 4, seed: 18446744073709551615}\n":       true,
		base + "  compute: {batch: ${batch}}\n":                            true,
		base + "  limits: {max_bad_rows: 10, memory: 1.5GB}\n":             true,
		base + "  limits: {tile: {size: auto, overlap: 16, norm: tile}}\n": true,
		base + "  limits: {tile: {size: 64, overlap: auto}}\n":             true,
		base + "  limits: {tile: {size: big}}\n":                           false,
		base + "  limits: {tile: {size: -1}}\n":                            false,
		base + "  limits: {max_bad_rows: 2.5%, memory: 1073741824}\n":      true,
		base + "  compute: {bach: 4}\n":                                    false,
		base + "  computer: {batch: 4}\n":                                  false,
		base + "  compute: {batch: 0}\n":                                   false,
		base + "  compute: {batch: 4097}\n":                                false,
		base + "  compute: {batch: 1.5}\n":                                 false,
		base + "  compute: {batch: \"4\"}\n":                               false,
		base + "  compute: [4]\n":                                          false,
		base + "  compute: {seed: -1}\n":                                   false,
		base + "  compute: {device: tpu}\n":                                false,
		base + "  encode: {latent: mean}\n":                                false,
		base + "  encode: {scale: 1}\n":                                    false,
		base + "  limits: {memory: much}\n":                                false,
		base + "  limits: {memory: 1000}\n":                                false,
		base + "  limits: {max_bad_rows: 101%}\n":                          false,
		base + "  limits: {max_bad_rows: -1}\n":                            false,
		strings.Replace(base, "{size: 64}", "{size: [64, 96]}", 1):         true,
		strings.Replace(base, "{size: 64}", "{size: 64x96}", 1):            true,
		strings.Replace(base, "{size: 64}", "{size: [1, 2, 3]}", 1):        false,
		strings.Replace(base, "{size: 64}", "{size: big}", 1):              false,
		strings.Replace(base, "{size: 64}", "{size: -1}", 1):               false,
		strings.Replace(base, "{path: x}", "{path: x, columns: [a]}", 1):   true,
		strings.Replace(base, "{path: x}", "{path: x, columns: a}", 1):     false,
		strings.Replace(base, "{path: x}", "{path: 12}", 1):                false,
		strings.Replace(base, "kind: Encode", "kind: Distil", 1):           false,
		strings.Replace(base, "kind: Encode\n", "", 1):                     false,
		"apiVersion: ldm-batch/v2\n" + base:                                false,
		"apiVersion: ldm-batch/v1\nmetadata: {name: a, team: b}\n" + base:  false,
	} {
		if _, err := load(text, map[string]string{"day": "1", "batch": "4"}); (err == nil) != good {
			t.Errorf("decoder: want good %t: %v\n%s", good, err, text)
		}
		var doc any
		if err := yaml.Unmarshal(mark([]byte(text)), &doc); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if err := matches(root, root, unmark(doc), ""); (err == nil) != good {
			t.Errorf("schema: want good %t: %v\n%s", good, err, text)
		}
	}
}

// unmark brings placeholders back after parsing.
func unmark(v any) any {
	switch x := v.(type) {
	case object:
		for k := range x {
			x[k] = unmark(x[k])
		}
	case []any:
		for i := range x {
			x[i] = unmark(x[i])
		}
	case string:
		return marked.ReplaceAllString(x, "$${$1}")
	}
	return v
}

// matches checks a value by the few keywords that the schema uses; another keyword is an error.
func matches(root, s object, v any, at string) error {
	n, numeric := number(v)
	text, isText := v.(string)
	items, isList := v.([]any)
	for word, arg := range s {
		bad := false
		switch word {
		case "description", "title", "$schema", "$defs":
		case "type":
			switch arg {
			case "string":
				bad = !isText
			case "integer":
				bad = !numeric || n != math.Trunc(n)
			case "number":
				bad = !numeric
			case "boolean":
				_, ok := v.(bool)
				bad = !ok
			case "array":
				bad = !isList
			case "object":
				_, ok := v.(object)
				bad = !ok
			}
		case "enum":
			bad = !slices.Contains(arg.([]any), v)
		case "pattern":
			bad = isText && !regexp.MustCompile(arg.(string)).MatchString(text)
		case "minimum":
			bad = numeric && n < arg.(float64)
		case "maximum":
			bad = numeric && n > arg.(float64)
		case "minItems":
			bad = isList && float64(len(items)) < arg.(float64)
		case "maxItems":
			bad = isList && float64(len(items)) > arg.(float64)
		case "items":
			for i, item := range items {
				if err := matches(root, arg.(object), item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
					return err
				}
			}
		case "anyOf":
			bad = !slices.ContainsFunc(arg.([]any), func(form any) bool { return matches(root, form.(object), v, at) == nil })
		case "$ref":
			def := root["$defs"].(object)[strings.TrimPrefix(arg.(string), "#/$defs/")].(object)
			if err := matches(root, def, v, at); err != nil {
				return err
			}
		case "required":
			m, _ := v.(object)
			for _, name := range arg.([]any) {
				if m[name.(string)] == nil {
					return fmt.Errorf("%s: %s is missing", at, name)
				}
			}
		case "properties", "additionalProperties": // together, below
		default:
			return fmt.Errorf("schema of %s: keyword %s", at, word)
		}
		if bad {
			return fmt.Errorf("%s: %v is against %s %v", at, v, word, arg)
		}
	}
	if props, ok := s["properties"].(object); ok {
		m, _ := v.(object)
		for name, value := range m {
			p, ok := props[name].(object)
			if !ok {
				return fmt.Errorf("%s: unknown key %s", at, name)
			}
			if err := matches(root, p, value, join(at, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func number(v any) (float64, bool) {
	switch x := v.(type) {
	case int:
		return float64(x), true
	case uint64:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

// TestRanges compares the documented ranges with what is accepted.
func TestRanges(t *testing.T) {
	jobs := map[string]string{
		"spec.sample.rows":     "kind: Sample\nspec: {model: {checkpoint: a, config: b}, output: {path: o}, sample: {task: uncond}}\n",
		"spec.sample.strength": "kind: Sample\nspec: {model: {checkpoint: a, config: b}, output: {path: o}, input: {path: i}, sample: {task: img2img}}\n",

		"spec.train.posterior_logvar": "kind: Train\nspec: {model: {config: b}, input: {path: i}, preprocess: {size: 64}, train: {stage: first-stage, perceptual: none, steps: 1}, output: {path: o}}\n",

		"spec.train.workers": strings.Replace(trainJob, "steps: 1000", "steps: 1000, accumulate: 256", 1), // not more than batches of a step

		"train":   trainJob,
		"eval":    "kind: Eval\nspec: {eval: {generated: g, reference: r, extractor: {path: x}}, output: {path: o}}\n",
		"sample":  "kind: Sample\nspec: {model: {checkpoint: a, config: b}, output: {path: o}, sample: {task: class, classes: 0-3}}\n",
		"sampler": "kind: Sample\nspec: {model: {checkpoint: a, config: b}, output: {path: o}, sample: {task: class, classes: 0-3}}\n",
	}
	for _, k := range allKeys(t) {
		r, ok := between[k.path]
		if !ok {
			continue
		}
		job := cmp.Or(jobs[k.path], jobs[k.section()], encodeJob)
		try := func(n int) error {
			_, err := load(job, map[string]string{"day": "1"}, Setting{k.path, strconv.Itoa(n), "--set"})
			return err
		}
		if err := try(r.min); err != nil {
			t.Errorf("%s: the smallest value is refused: %v", k.path, err)
		}
		if try(r.min-1) == nil {
			t.Errorf("%s: %d is accepted", k.path, r.min-1)
		}
		if r.max == 0 {
			continue
		}
		if err := try(r.max); err != nil {
			t.Errorf("%s: the largest value is refused: %v", k.path, err)
		}
		if try(r.max+1) == nil {
			t.Errorf("%s: %d is accepted", k.path, r.max+1)
		}
	}
}
