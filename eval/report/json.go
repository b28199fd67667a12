package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// JSON writes the result as one document that ends with a line feed.
func (r Result) JSON(w io.Writer) error {
	r.Schema = Schema
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Read reads what JSON wrote. Documents of another schema, unknown keys and results that [Result.Validate] refuses are errors
// of class data.
func Read(r io.Reader) (*Result, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, exitcode.With(exitcode.IO, err)
	}
	// The schema first: of a document of another version there is more that is unknown.
	var head struct {
		Schema *string `json:"schema"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, malformed(err)
	}
	switch {
	case head.Schema == nil:
		return nil, exitcode.Errorf(exitcode.Data, "schema: missing; this is no report of an evaluation")
	case *head.Schema != Schema:
		return nil, exitcode.Errorf(exitcode.Data, "schema: %.60q is of another version of the program; this one reads %q", *head.Schema, Schema)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var out Result
	if err := d.Decode(&out); err != nil {
		return nil, malformed(err)
	}
	if err := out.Validate(); err != nil {
		return nil, err
	}
	return &out, nil
}

// malformed says in which field or at which byte a document is wrong.
func malformed(err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind):
		err = fmt.Errorf("%s: %s is out of place", cmp.Or(kind.Field, "document"), kind.Value)
	case errors.As(err, &syntax):
		err = fmt.Errorf("byte %d: %w", syntax.Offset, err)
	}
	return exitcode.With(exitcode.Data, err)
}

// Validate checks what pages rely on. Its errors are of class data and name the field.
func (r *Result) Validate() error {
	for i, run := range r.History {
		for k, s := range run.Scores {
			if s.Metric == "" || s.Label == "" {
				return exitcode.Errorf(exitcode.Data, "history[%d].scores[%d]: metric %q with label %q", i, k, s.Metric, s.Label)
			}
		}
	}
	for i, s := range r.Scores {
		if s.Metric == "" || s.Label == "" {
			return exitcode.Errorf(exitcode.Data, "scores[%d]: metric %q with label %q", i, s.Metric, s.Label)
		}
	}
	if p := r.Projection; p != nil {
		for name, q := range map[string]Points{"generated": p.Generated, "reference": p.Reference} {
			if len(q.X) != len(q.Y) || q.Class != nil && len(q.Class) != len(q.X) {
				return exitcode.Errorf(exitcode.Data, "projection.%s: %d x, %d y, %d classes", name, len(q.X), len(q.Y), len(q.Class))
			}
		}
	}
	for _, t := range r.thumbs() {
		if !bytes.HasPrefix(t.PNG, []byte("\x89PNG\r\n\x1a\n")) || t.Width < 1 || t.Height < 1 {
			return exitcode.Errorf(exitcode.Data, "picture of row %.60q: %d bytes for %dx%d pixels are no PNG file", t.ID, len(t.PNG), t.Width, t.Height)
		}
	}
	return nil
}

// thumbs are all pictures of the result.
func (r *Result) thumbs() []*Thumb {
	var out []*Thumb
	for i := range r.Classes {
		if s := r.Classes[i].Sample; s != nil {
			out = append(out, s)
		}
	}
	for _, list := range [][]Thumb{r.Samples, r.References} {
		for i := range list {
			out = append(out, &list[i])
		}
	}
	for i := range r.Pairs {
		out = append(out, &r.Pairs[i].Generated, &r.Pairs[i].Reference)
	}
	for i := range r.Neighbours {
		out = append(out, &r.Neighbours[i].Generated, &r.Neighbours[i].Reference)
	}
	return out
}
