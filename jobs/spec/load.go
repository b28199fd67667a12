package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// maxFile bounds a job file; real ones have a few hundred bytes.
const maxFile = 1 << 20

// Setting is one override: a dotted key below spec (or apiVersion, kind, metadata.name), its value as YAML, and where it
// came from, for instance "--set" or "--steps".
type Setting struct {
	Key, Value, Origin string
}

// Resolved is a job with the origin of every value.
type Resolved struct {
	Job
	// Origins maps dotted keys to file:line:column, an override's origin, or "default".
	Origins map[string]string
	// Dir is what relative paths were resolved against: the job file's folder, or the working folder without a file.
	Dir string
}

// LoadFile reads a job file, fills ${name} from params and applies the settings in order.
func LoadFile(path string, params map[string]string, settings []Setting) (*Resolved, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("job file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("job file %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, exitcode.Errorf(exitcode.Usage, "job file %s: more than %d bytes", path, maxFile)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("job file %s: %w", path, err)
	}
	return Load(path, data, filepath.Dir(abs), params, settings)
}

// Load resolves a job from the bytes of a file (which may be empty for jobs given by flags alone). Errors name the file as
// given; relative paths are resolved against dir.
func Load(name string, data []byte, dir string, params map[string]string, settings []Setting) (*Resolved, error) {
	r := &Resolved{Job: Default(), Origins: map[string]string{}, Dir: dir}
	src := &source{file: filepath.Base(name), origins: r.Origins}
	err := func() error {
		if len(data) > 0 {
			n, err := parse(src, mark(data))
			if err != nil {
				return err
			}
			if err := fill(src, n, params); err != nil {
				return err
			}
			if err := src.decode(n, reflect.ValueOf(&r.Job).Elem(), "", ""); err != nil {
				return err
			}
		}
		for _, s := range settings {
			if err := apply(r, s); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		return nil, exitcode.With(exitcode.Usage, err)
	}
	if s := &r.Spec.Sampler; s.Name == "ddpm" && r.Origins["spec.sampler.steps"] == "" {
		s.Steps = 0 // every step of the process
	}
	resolvePaths(reflect.ValueOf(&r.Job).Elem(), dir)
	return r, nil
}

// parse reads exactly one document.
func parse(src *source, data []byte) (*yaml.Node, error) {
	if bytes.ContainsRune(data, 0) {
		return nil, fmt.Errorf("%s: not a text file", src.file)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: empty job file", src.file)
		}
		return nil, fmt.Errorf("%s: %s", src.file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more than one document", src.file)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, fmt.Errorf("%s: not a mapping", src.file)
	}
	return doc.Content[0], nil
}

// Placeholders are marked before parsing with private characters, one for one, since braces mean something to YAML.
var (
	placeholder = regexp.MustCompile(`\$\{([A-Za-z0-9_.-]*)\}`)
	marked      = regexp.MustCompile("\uE000\uE001([^\uE002]*)\uE002")
)

func mark(data []byte) []byte { return placeholder.ReplaceAll(data, []byte("\uE000\uE001$1\uE002")) }

// fill replaces ${name} in scalars by parameters. A plain scalar takes the type that its text then has.
func fill(src *source, n *yaml.Node, params map[string]string) error {
	if n.Kind == yaml.ScalarNode && marked.MatchString(n.Value) {
		var missing error
		text := marked.ReplaceAllStringFunc(n.Value, func(m string) string {
			name := marked.FindStringSubmatch(m)[1]
			v, ok := params[name]
			if !ok && missing == nil {
				missing = src.errorf(n, "", "${%s} has no value; give --param %s=VALUE", name, name)
			}
			return v
		})
		if missing != nil {
			return missing
		}
		n.Value = text
		if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0 {
			var plain yaml.Node
			if err := yaml.Unmarshal([]byte(text), &plain); err == nil && len(plain.Content) == 1 && plain.Content[0].Kind == yaml.ScalarNode {
				n.Tag = plain.Content[0].Tag
			}
		}
	}
	for _, c := range n.Content {
		if err := fill(src, c, params); err != nil {
			return err
		}
	}
	return nil
}

// apply decodes one override into the job.
func apply(r *Resolved, s Setting) error {
	src := &source{label: s.Origin, origins: r.Origins}
	v, path := reflect.ValueOf(&r.Job).Elem(), s.Key
	if first, _, _ := strings.Cut(path, "."); first != "spec" && first != "metadata" && first != "kind" && first != "apiVersion" {
		path = "spec." + path
	}
	enum, walked := "", ""
	for _, key := range strings.Split(path, ".") {
		if v.Kind() != reflect.Struct || v.NumField() == 0 || v.Type().Field(0).Tag.Get("yaml") == "" {
			return fmt.Errorf("%s: %s is a value and has no key %q", s.Origin, walked, key)
		}
		f, ok := field(v.Type(), key)
		if !ok {
			return fmt.Errorf("%s: unknown key %s%s; allowed: %s", s.Origin, join(walked, key), suggestion(key, keys(v.Type())), strings.Join(keys(v.Type()), ", "))
		}
		v, enum, walked = v.FieldByIndex(f.Index), f.Tag.Get("enum"), join(walked, key)
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s.Value}
	if v.Kind() != reflect.String { // text is taken as it is; everything else is YAML
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(s.Value), &doc); err != nil || len(doc.Content) != 1 {
			return fmt.Errorf("%s: %s: %q is not a value", s.Origin, walked, s.Value)
		}
		n = doc.Content[0]
	}
	return src.decode(n, v, walked, enum)
}

// resolvePaths makes the paths of a job absolute, so that nothing later depends on the working folder.
func resolvePaths(v reflect.Value, dir string) {
	for i := range v.NumField() {
		f, t := v.Field(i), v.Type().Field(i)
		switch {
		case f.Kind() == reflect.Struct && t.Type != reflect.TypeOf(Extent{}) && t.Type != reflect.TypeOf(Budget{}):
			resolvePaths(f, dir)
		case t.Tag.Get("path") != "" && f.String() != "":
			parts := []string{f.String()}
			if t.Tag.Get("path") == "list" {
				parts = strings.Split(f.String(), ",")
			}
			for j, p := range parts {
				if p = strings.TrimSpace(p); !filepath.IsAbs(p) {
					p = filepath.Join(dir, p)
				}
				parts[j] = p
			}
			f.SetString(strings.Join(parts, ","))
		}
	}
}

// Value is one resolved value for printing.
type Value struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Values lists every value of the job in the order of the types, with its origin.
func (r *Resolved) Values() []Value {
	var list []Value
	walk(reflect.ValueOf(r.Job), "", func(path string, v reflect.Value, _ reflect.StructField) {
		origin := r.Origins[path]
		if origin == "" {
			origin = "default"
		}
		list = append(list, Value{path, fmt.Sprint(v.Interface()), origin})
	})
	return list
}

// walk visits every leaf value.
func walk(v reflect.Value, path string, visit func(path string, v reflect.Value, f reflect.StructField)) {
	for i := range v.NumField() {
		f, t := v.Field(i), v.Type().Field(i)
		p := join(path, t.Tag.Get("yaml"))
		if f.Kind() == reflect.Struct && t.Type != reflect.TypeOf(Extent{}) && t.Type != reflect.TypeOf(Budget{}) {
			walk(f, p, visit)
			continue
		}
		visit(p, f, t)
	}
}
