package spec

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// source remembers where the values of a job came from.
type source struct {
	file    string
	origins map[string]string // by dotted path
	label   string            // origin of the layer being decoded when it is not the file
}

// at formats the place of a node.
func (s *source) at(n *yaml.Node) string {
	if s.label != "" {
		return s.label
	}
	return fmt.Sprintf("%s:%d:%d", s.file, n.Line, n.Column)
}

func (s *source) errorf(n *yaml.Node, path, format string, args ...any) error {
	msg := fmt.Sprintf(format, args...)
	if path == "" {
		return fmt.Errorf("%s: %s", s.at(n), msg)
	}
	return fmt.Errorf("%s: %s: %s", s.at(n), path, msg)
}

// parser types are written as one scalar.
var parsers = map[reflect.Type]func(string) (any, error){
	reflect.TypeOf(Size(0)):  func(s string) (any, error) { return ParseSize(s) },
	reflect.TypeOf(Cells(0)): func(s string) (any, error) { return ParseCells(s) },
	reflect.TypeOf(Budget{}): func(s string) (any, error) { return ParseBudget(s) },
}

// decode writes a node into a value, strictly. enum is the tag of the field, path its dotted key.
func (s *source) decode(n *yaml.Node, v reflect.Value, path, enum string) error {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return s.errorf(n, path, "anchors and aliases are not allowed")
	case n.Style&yaml.TaggedStyle != 0:
		return s.errorf(n, path, "tags such as %s are not allowed", n.Tag)
	}
	if v.Type() == reflect.TypeOf(Extent{}) {
		return s.extent(n, v, path)
	}
	if parse := parsers[v.Type()]; parse != nil {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			return s.errorf(n, path, "expected one value")
		}
		x, err := parse(n.Value)
		if err != nil {
			return s.errorf(n, path, "%s", err)
		}
		v.Set(reflect.ValueOf(x))
		s.origins[path] = s.at(n)
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return s.mapping(n, v, path)
	case reflect.Slice:
		return s.list(n, v, path)
	}
	if n.Kind != yaml.ScalarNode {
		return s.errorf(n, path, "expected %s, not a %s", kindName(v.Kind()), nodeName(n))
	}
	s.origins[path] = s.at(n)
	switch v.Kind() {
	case reflect.String:
		if n.Tag != "!!str" {
			return s.errorf(n, path, "%s is not text; put it in quotes if it is meant as text", n.Value)
		}
		if enum != "" && !slices.Contains(strings.Split(enum, ","), n.Value) {
			return s.errorf(n, path, "%q is not one of %s", n.Value, strings.ReplaceAll(enum, ",", ", "))
		}
		if strings.ContainsRune(n.Value, 0) {
			return s.errorf(n, path, "text holds a zero byte")
		}
		v.SetString(n.Value)
	case reflect.Bool:
		if n.Tag != "!!bool" {
			return s.errorf(n, path, "%q is not true or false", n.Value)
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int:
		i, err := whole(n)
		if err != nil {
			return s.errorf(n, path, "%s", err)
		}
		v.SetInt(i)
	case reflect.Uint64:
		u, err := strconv.ParseUint(n.Value, 10, 64)
		if err != nil || n.Tag != "!!int" {
			return s.errorf(n, path, "%q is not a whole number from 0 to 18446744073709551615", n.Value)
		}
		v.SetUint(u)
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || n.Tag != "!!int" && n.Tag != "!!float" || math.IsInf(f, 0) || math.IsNaN(f) {
			return s.errorf(n, path, "%q is not a number", n.Value)
		}
		v.SetFloat(f)
	default:
		return s.errorf(n, path, "unsupported type %s", v.Type())
	}
	return nil
}

// whole reads a plain decimal integer: no fraction, no octal, no text.
func whole(n *yaml.Node) (int64, error) {
	digits := strings.TrimPrefix(n.Value, "-")
	if n.Tag != "!!int" || len(digits) > 1 && digits[0] == '0' {
		return 0, fmt.Errorf("%q is not a whole number", n.Value)
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", n.Value)
	}
	return i, nil
}

func (s *source) extent(n *yaml.Node, v reflect.Value, path string) error {
	text := n.Value
	if n.Kind == yaml.SequenceNode {
		var parts []string
		for _, c := range n.Content {
			if c.Kind != yaml.ScalarNode {
				return s.errorf(c, path, "expected a size in pixels such as 256 or [256, 384]")
			}
			parts = append(parts, c.Value)
		}
		text = strings.Join(parts, ",")
	} else if n.Kind != yaml.ScalarNode {
		return s.errorf(n, path, "expected a size in pixels such as 256 or [256, 384]")
	}
	e, err := ParseExtent(text)
	if err != nil {
		return s.errorf(n, path, "%s", err)
	}
	v.Set(reflect.ValueOf(e))
	s.origins[path] = s.at(n)
	return nil
}

func (s *source) list(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind != yaml.SequenceNode {
		return s.errorf(n, path, "expected a list, not a %s", nodeName(n))
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		if err := s.decode(c, out.Index(i), fmt.Sprintf("%s[%d]", path, i), ""); err != nil {
			return err
		}
	}
	v.Set(out)
	s.origins[path] = s.at(n)
	return nil
}

func (s *source) mapping(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind != yaml.MappingNode {
		return s.errorf(n, path, "expected keys and values, not a %s", nodeName(n))
	}
	seen := map[string]*yaml.Node{}
	for i := 0; i < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		key := k.Value
		full := join(path, key)
		if k.Kind != yaml.ScalarNode || k.Tag != "!!str" {
			return s.errorf(k, path, "expected a key, not a %s", nodeName(k))
		}
		if first := seen[key]; first != nil {
			return s.errorf(k, full, "duplicate key, first at line %d", first.Line)
		}
		seen[key] = k
		f, ok := field(v.Type(), key)
		if !ok {
			return s.errorf(k, full, "unknown key%s; allowed: %s", suggestion(key, keys(v.Type())), strings.Join(keys(v.Type()), ", "))
		}
		if err := s.decode(val, v.FieldByIndex(f.Index), full, f.Tag.Get("enum")); err != nil {
			return err
		}
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func field(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func keys(t reflect.Type) []string {
	var ks []string
	for i := range t.NumField() {
		ks = append(ks, t.Field(i).Tag.Get("yaml"))
	}
	return ks
}

// suggestion names the closest allowed key when it is close enough to be a slip.
func suggestion(key string, allowed []string) string {
	best, at := 3, ""
	for _, a := range allowed {
		if d := distance(key, a); d < best {
			best, at = d, a
		}
	}
	if at == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", at)
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diag+cost)
			diag, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func kindName(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Uint64:
		return "a whole number"
	}
	return "a number"
}

func nodeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	case yaml.AliasNode:
		return "alias"
	}
	if n.Tag == "!!null" {
		return "empty value"
	}
	return "single value"
}
