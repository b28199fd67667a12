package inspect

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// Part describes an Arrow part.
type Part struct {
	Checked  bool          `json:"checked"` // its size and sha256 are those of the journal
	Rows     int64         `json:"rows"`
	OK       int64         `json:"ok"`
	Skipped  int64         `json:"skipped"`
	Failed   int64         `json:"failed"`
	Batches  int           `json:"batches"`
	Latent   *part.Latent  `json:"latent,omitempty"`
	Image    bool          `json:"image,omitempty"`
	Files    bool          `json:"files,omitempty"` // the images are files, named by the rows
	Label    bool          `json:"label,omitempty"`
	Names    []string      `json:"label_names,omitempty"`
	Extra    []string      `json:"extra_columns,omitempty"`
	Metadata [][2]string   `json:"metadata"`
	Errors   []FailedRow   `json:"errors,omitempty"` // the first few
	Reasons  []part.Reason `json:"reasons,omitempty"`
}

// FailedRow is a row without payload.
type FailedRow struct {
	ID    string `json:"id"`
	Error string `json:"error"`
}

const shownErrors = 10

// openPart opens a part that a journal entry vouches for, or, without one, a part that is trusted.
func openPart(path string, entry *commit.Entry) (*Part, error) {
	var r *part.Reader
	var err error
	if entry != nil {
		r, err = part.Open(path, part.Expect{Size: entry.Bytes, SHA256: entry.SHA256})
	} else {
		r, err = part.OpenTrusted(path)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := r.Schema()
	p := &Part{
		Checked: entry != nil, Batches: r.Batches(), Latent: s.Latent, Image: s.Image, Files: s.Files, Label: s.Label, Names: s.LabelNames,
		Metadata: r.Metadata(),
	}
	if entry != nil {
		p.Reasons = entry.Reasons
	}
	for _, c := range s.Extra {
		p.Extra = append(p.Extra, fmt.Sprintf("%s %s", c.Name, c.Type))
	}
	for row, err := range r.Rows() {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		p.Rows++
		switch row.Status {
		case part.OK:
			p.OK++
		case part.Skipped:
			p.Skipped++
		default:
			p.Failed++
		}
		if row.Status != part.OK && len(p.Errors) < shownErrors {
			p.Errors = append(p.Errors, FailedRow{row.ID, row.Error})
		}
	}
	return p, nil
}

// journalEntry reads what the journal of the output folder around a part says of it.
func journalEntry(path string) (*commit.Entry, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	var i int
	if _, err := fmt.Sscanf(filepath.Base(abs), "part-%d.arrow", &i); err != nil {
		return nil, fs.ErrNotExist
	}
	journal := filepath.Join(filepath.Dir(filepath.Dir(abs)), ".ldm-batch", "journal", fmt.Sprintf("%05d.json", i))
	b, err := os.ReadFile(journal)
	if err != nil {
		return nil, err
	}
	var e commit.Entry
	if err := json.Unmarshal(b, &e); err != nil || e.Part != i || e.SHA256 == "" {
		return nil, exitcode.Errorf(exitcode.Data, "%s: not a journal entry of part %d", journal, i)
	}
	return &e, nil
}

func (p *Part) write(b *strings.Builder) {
	fmt.Fprintf(b, "%d rows in %d batches: %d ok, %d skipped, %d failed\n", p.Rows, p.Batches, p.OK, p.Skipped, p.Failed)
	if p.Checked {
		b.WriteString("size and sha256 are those of the journal\n")
	} else {
		b.WriteString("not compared with a journal\n")
	}
	if l := p.Latent; l != nil {
		fmt.Fprintf(b, "latents %d x %d x %d, %s, layout %s\n", l.C, l.H, l.W, l.DType, l.Layout)
	}
	if p.Image {
		b.WriteString("images\n")
	}
	if p.Files {
		b.WriteString("names of image files\n")
	}
	if p.Label {
		fmt.Fprintf(b, "labels, %d class names\n", len(p.Names))
	}
	for _, c := range p.Extra {
		fmt.Fprintf(b, "column %s\n", c)
	}
	for _, m := range p.Metadata {
		fmt.Fprintf(b, "metadata %s: %s\n", m[0], m[1])
	}
	for _, r := range p.Reasons {
		fmt.Fprintf(b, "%d rows: %s\n", r.Count, r.Reason)
	}
	for _, e := range p.Errors {
		fmt.Fprintf(b, "row %s: %s\n", e.ID, e.Error)
	}
}
