package nn

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// reader walks a YAML file and keeps the first error, so that a configuration is read without a check at every key.
type reader struct {
	file     string
	lines    map[string]int // of every key below what is read, by dotted path
	err      error
	warnings []string
}

// fail records an error at a path; the line is that of the path or of what encloses it.
func (r *reader) fail(path, format string, args ...any) {
	if r.err == nil {
		r.err = exitcode.Errorf(exitcode.Data, "%s: %s", r.place(path), fmt.Sprintf(format, args...))
	}
}

func (r *reader) warn(path, format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf("%s: %s", r.place(path), fmt.Sprintf(format, args...)))
}

// invalid records an error of a Validate method, whose key is relative to base.
func (r *reader) invalid(base string, err error) {
	if bad, ok := err.(*FieldError); ok {
		r.fail(join(base, bad.Key), "%s", bad.Reason)
	} else if err != nil {
		r.fail(base, "%v", err)
	}
}

func (r *reader) place(path string) string {
	for at := path; ; {
		if n, ok := r.lines[at]; ok {
			return fmt.Sprintf("%s:%d: %s", r.file, n, path)
		}
		i := strings.LastIndexByte(at, '.')
		if i < 0 {
			return fmt.Sprintf("%s: %s", r.file, path)
		}
		at = at[:i]
	}
}

func join(base, key string) string {
	if base == "" || key == "" {
		return base + key
	}
	return base + "." + key
}

// section is a mapping of the file.
type section struct {
	r      *reader
	path   string
	values map[string]*yaml.Node
	seen   map[string]bool
}

// section reads the mapping at n. Duplicate keys, aliases and merge keys are errors: the first would be lost silently, the
// others have no use in these files.
func (r *reader) section(path string, n *yaml.Node) section {
	s := section{r, path, map[string]*yaml.Node{}, map[string]bool{}}
	if n.Kind != yaml.MappingNode {
		r.fail(path, "is %s, want a mapping", describe(n))
		return s
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at := join(path, k.Value)
		if _, ok := r.lines[at]; !ok {
			r.lines[at] = k.Line
		}
		switch {
		case k.Kind != yaml.ScalarNode || k.Tag == "!!merge":
			r.fail(at, "only plain keys are supported")
		case s.values[k.Value] != nil:
			r.lines[at] = k.Line
			r.fail(at, "appears twice")
		case v.Kind == yaml.AliasNode:
			r.fail(at, "aliases are not supported")
		}
		s.values[k.Value] = v
	}
	return s
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	return fmt.Sprintf("%.60q", n.Value)
}

// get returns the value of a key, nil when it is absent or null.
func (s section) get(key string) *yaml.Node {
	s.seen[key] = true
	n := s.values[key]
	if n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return n
}

func (s section) at(key string) string { return join(s.path, key) }

// scalar decodes a value of a Go type; want describes it.
func scalar[T any](s section, key, want string, def T) T {
	n := s.get(key)
	if n == nil {
		return def
	}
	v := def
	if n.Kind != yaml.ScalarNode || n.Decode(&v) != nil {
		s.r.fail(s.at(key), "is %s, want %s", describe(n), want)
		return def
	}
	return v
}

func (s section) integer(key string, def int) int {
	const limit = 1 << 30
	n := scalar(s, key, "a whole number", def)
	if v := s.values[key]; v != nil && v.Tag == "!!float" || n > limit || n < -limit {
		s.r.fail(s.at(key), "is %s, want a whole number up to %d", describe(v), limit)
		return def
	}
	return n
}

func (s section) number(key string, def float64) float64 {
	f := scalar(s, key, "a number", def)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		s.r.fail(s.at(key), "is not finite")
		return def
	}
	return f
}

func (s section) boolean(key string, def bool) bool {
	return scalar(s, key, "true or false", def)
}

func (s section) text(key, def string) string {
	if n := s.get(key); n != nil && (n.Kind != yaml.ScalarNode || n.Tag != "!!str") {
		s.r.fail(s.at(key), "is %s, want a text", describe(n))
		return def
	}
	return scalar(s, key, "a text", def)
}

// integers reads a list of whole numbers.
func (s section) integers(key string) []int {
	n := s.get(key)
	if n == nil {
		return nil
	}
	list := []int{}
	bad := n.Kind != yaml.SequenceNode
	for _, v := range n.Content {
		i := 0
		bad = bad || v.Kind != yaml.ScalarNode || v.Tag != "!!int" || v.Decode(&i) != nil
		list = append(list, i)
	}
	if bad {
		s.r.fail(s.at(key), "is %s, want a list of whole numbers", describe(n))
		return nil
	}
	return list
}

// require fails for each key that is absent or null.
func (s section) require(keys ...string) {
	for _, k := range keys {
		if s.get(k) == nil {
			s.r.fail(s.at(k), "is missing")
		}
	}
}

// ignore accepts keys that have no effect here.
func (s section) ignore(keys ...string) {
	for _, k := range keys {
		s.seen[k] = true
	}
}

// unsupported fails when a key has a value that is not off: absent, null, false, or an empty list.
func (s section) unsupported(keys ...string) {
	for _, k := range keys {
		n := s.get(k)
		if n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!bool" && strings.EqualFold(n.Value, "false") ||
			n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			continue
		}
		s.r.fail(s.at(k), "is not supported (it is %s)", describe(n))
	}
}

// unread lists, in order, the keys that nothing asked for.
func (s section) unread() []string {
	var keys []string
	for _, k := range slices.Sorted(maps.Keys(s.values)) {
		if !s.seen[k] {
			keys = append(keys, k)
		}
	}
	return keys
}

// closed fails for keys that nothing asked for, as a constructor does for unknown arguments.
func (s section) closed() {
	for _, k := range s.unread() {
		s.r.fail(s.at(k), "is not a parameter of this target; known are %s", strings.Join(slices.Sorted(maps.Keys(s.seen)), ", "))
	}
}

// open only warns of them.
func (s section) open() {
	for _, k := range s.unread() {
		s.r.warn(s.at(k), "is unknown and ignored")
	}
}

// Target is a part of a configuration that is kept as it was written: a class and its parameters.
type Target struct {
	Target string         `yaml:"target"`
	Params map[string]any `yaml:"params"`
}

// target reads {target, params} as it is written; nil when absent.
func (s section) target(key string) *Target {
	n := s.get(key)
	if n == nil {
		return nil
	}
	var t Target
	if n.Kind != yaml.MappingNode || n.Decode(&t) != nil {
		s.r.fail(s.at(key), "is %s, want a mapping with target and params", describe(n))
		return nil
	}
	return &t
}

// instance reads {target, params} of a class that must be known. ok is false when it is not.
func (s section) instance(key string, known []string) (target string, params section, ok bool) {
	n := s.get(key)
	if n == nil {
		s.r.fail(s.at(key), "is missing")
		return "", section{}, false
	}
	return s.r.instance(s.at(key), n, known)
}

func (r *reader) instance(path string, n *yaml.Node, known []string) (target string, params section, ok bool) {
	node := r.section(path, n)
	target = node.text("target", "")
	switch {
	case r.err != nil:
		return "", section{}, false
	case target == "":
		r.fail(node.at("target"), "is missing; supported are %s", strings.Join(known, ", "))
		return "", section{}, false
	case !slices.Contains(known, target):
		r.fail(node.at("target"), "%s is not supported; supported are %s", target, strings.Join(known, ", "))
		return "", section{}, false
	}
	p := node.get("params")
	if p == nil {
		p = &yaml.Node{Kind: yaml.MappingNode}
	}
	params = r.section(node.at("params"), p)
	return target, params, r.err == nil
}
