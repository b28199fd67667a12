package commit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

const planSchema = "ldm-batch/plan/v1"

// PartPlan is the share of one part: Rows input rows from FirstRow on, counted over the whole input.
type PartPlan struct {
	FirstRow int64 `json:"first_row"`
	Rows     int64 `json:"rows"`
}

// Plan ties a folder to a job. It is immutable once written.
type Plan struct {
	Schema      string          `json:"schema"`
	Fingerprint string          `json:"fingerprint"`
	Rows        int64           `json:"rows"`
	Document    json.RawMessage `json:"document"` // what the fingerprint covers
	Parts       []PartPlan      `json:"parts"`
}

// NewPlan makes the plan of a job from everything that decides its output (resolved job spec, identities of model and
// inputs), and its parts, which must cover the rows from 0 without a gap.
func NewPlan(document any, parts []PartPlan) (Plan, error) {
	doc, err := Canonical(document)
	if err != nil {
		return Plan{}, err
	}
	if !bytes.HasPrefix(doc, []byte("{")) {
		return Plan{}, fmt.Errorf("plan: document is not a JSON object")
	}
	p := Plan{Schema: planSchema, Fingerprint: fingerprint(doc), Document: doc, Parts: append([]PartPlan{}, parts...)}
	for i, x := range parts {
		if x.FirstRow != p.Rows || x.Rows < 0 {
			return Plan{}, fmt.Errorf("plan: part %d has rows %d+%d, want first row %d", i, x.FirstRow, x.Rows, p.Rows)
		}
		p.Rows += x.Rows
	}
	return p, nil
}

// SplitRows cuts rows into parts of at most perPart rows.
func SplitRows(rows, perPart int64) ([]PartPlan, error) {
	if rows < 0 || perPart <= 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "plan: %d rows in parts of %d", rows, perPart)
	}
	var ps []PartPlan
	for first := int64(0); first < rows; first += perPart {
		ps = append(ps, PartPlan{first, min(perPart, rows-first)})
	}
	return ps, nil
}

// parsePlan reads plan.json and checks that it is whole.
func parsePlan(path string, b []byte) (Plan, error) {
	bad := func(format string, args ...any) (Plan, error) {
		return Plan{}, exitcode.Errorf(exitcode.Data, "%s: %w", path, fmt.Errorf(format, args...))
	}
	var p Plan
	if err := json.Unmarshal(b, &p); err != nil {
		return bad("%w", err)
	}
	if p.Schema != planSchema {
		return bad("schema %q, want %q", p.Schema, planSchema)
	}
	q, err := NewPlan(p.Document, p.Parts)
	if err != nil {
		return bad("%w", err)
	}
	if q.Fingerprint != p.Fingerprint || q.Rows != p.Rows {
		return bad("fingerprint or rows do not match the content: the file was changed")
	}
	return q, nil
}

// conflict compares the plan of a folder with that of a job; nil means that they are one.
func conflict(dir string, there, here Plan) error {
	whole := func(p Plan) ([]byte, error) { return encode(map[string]any{"document": p.Document, "parts": p.Parts}) }
	a, err := whole(there)
	if err != nil {
		return err
	}
	b, err := whole(here)
	if err != nil {
		return err
	}
	lines, err := Diff(a, b)
	if err != nil {
		return err
	}
	if len(lines) == 0 {
		return nil
	}
	for i, l := range lines { // the document needs no name, parts do
		lines[i] = string(bytes.TrimPrefix([]byte(l), []byte("document.")))
	}
	return exitcode.With(exitcode.Conflict, &ConflictError{Dir: dir, There: there.Fingerprint, Here: here.Fingerprint, Diff: lines})
}
