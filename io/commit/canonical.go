package commit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Canonical returns doc as JSON with sorted keys, no white space, and numbers and strings as encoding/json writes them.
func Canonical(doc any) ([]byte, error) {
	raw, err := encode(doc)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	v, err := decodeJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return encode(v)
}

// Fingerprint is the identity of a job: "sha256:" and the hex digest of its canonical document.
func Fingerprint(doc any) (string, error) {
	b, err := Canonical(doc)
	if err != nil {
		return "", err
	}
	return fingerprint(b), nil
}

func fingerprint(canonical []byte) string {
	sum := sha256.Sum256(canonical)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// encode is json.Marshal without the escapes for HTML. Maps come out sorted.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// indent is encode for people, with a final newline.
func indent(v any) ([]byte, error) {
	raw, err := encode(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return nil, err
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// decodeJSON keeps numbers as they are spelled and refuses trailing data.
func decodeJSON(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("data after the JSON value")
	}
	return v, nil
}

// Diff lists, in order of paths, where two JSON documents differ: one line per value, "path: THERE there, HERE here".
func Diff(there, here []byte) ([]string, error) {
	a, err := decodeJSON(there)
	if err != nil {
		return nil, err
	}
	b, err := decodeJSON(here)
	if err != nil {
		return nil, err
	}
	var lines []string
	diff("", a, b, &lines)
	return lines, nil
}

// absent marks a key that one side does not have; JSON null is a value.
type absent struct{}

func diff(path string, a, b any, out *[]string) {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			keys := maps.Clone(x)
			maps.Copy(keys, y)
			for _, k := range slices.Sorted(maps.Keys(keys)) {
				diff(join(path, k), get(x, k), get(y, k), out)
			}
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			for i := range max(len(x), len(y)) {
				diff(fmt.Sprintf("%s[%d]", path, i), at(x, i), at(y, i), out)
			}
			return
		}
	}
	if sa, sb := show(a), show(b); sa != sb {
		if path == "" {
			path = "document"
		}
		*out = append(*out, fmt.Sprintf("%s: %s there, %s here", path, shorten(sa), shorten(sb)))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func get(m map[string]any, k string) any {
	if v, ok := m[k]; ok {
		return v
	}
	return absent{}
}

func at(s []any, i int) any {
	if i < len(s) {
		return s[i]
	}
	return absent{}
}

func show(v any) string {
	if _, ok := v.(absent); ok {
		return "absent"
	}
	b, err := encode(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func shorten(s string) string {
	const limit = 100
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
