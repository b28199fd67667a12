package export

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/table"
)

// fileBytes is the size of a file that Hugging Face datasets aims at.
const fileBytes = 500 << 20

// parquetSink writes data/train-00000-of-0000N.parquet. Rows are spread evenly over the files.
type parquetSink struct {
	root    *os.Root
	options table.Options
	files   int64
	perFile int64

	index int64 // of the next file
	rows  int64 // in the open file
	w     *table.Writer
	close func() error // of the open file
}

func newParquetSink(path string, m commit.Manifest, s part.Schema) (sink, func() error, error) {
	if err := os.Mkdir(path, 0o777); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, nil, err
	}
	if err := root.Mkdir("data", 0o777); err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	p := &parquetSink{root: root, options: table.Options{Label: s.Label, LabelNames: s.LabelNames}}
	p.files = max((m.Totals.Bytes+m.Totals.FileBytes+fileBytes-1)/fileBytes, 1)
	p.perFile = max((m.Totals.Rows+p.files-1)/p.files, 1)
	p.files = max((m.Totals.Rows+p.perFile-1)/p.perFile, 1)
	if err := p.open(); err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	return p, func() error { return errors.Join(p.next(), root.Close()) }, nil
}

func (p *parquetSink) open() error {
	name := fmt.Sprintf("data/train-%05d-of-%05d.parquet", p.index, p.files)
	f, err := p.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	w, err := table.NewWriter(buf, p.options)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	p.index, p.rows, p.w = p.index+1, 0, w
	p.close = func() error { return errors.Join(w.Close(), buf.Flush(), f.Sync(), f.Close()) }
	return nil
}

// next completes the open file, if there is one.
func (p *parquetSink) next() error {
	if p.close == nil {
		return nil
	}
	err := p.close()
	p.close = nil
	return err
}

func (p *parquetSink) add(r record) error {
	if p.rows == p.perFile {
		if err := p.next(); err != nil {
			return err
		}
		if err := p.open(); err != nil {
			return err
		}
	}
	p.rows++
	row := table.Row{ID: r.row.ID, Width: r.row.Width, Height: r.row.Height, Status: string(r.row.Status), Error: r.row.Error}
	if r.row.Image != nil {
		h, err := picture.Probe(r.row.Image, picture.DefaultLimits())
		if err != nil {
			return fmt.Errorf("row %s: %w", r.row.ID, err)
		}
		row.Image, row.Path = r.row.Image, r.name+extension(h.Format)
	}
	if r.row.HasLabel {
		row.Label = &r.row.Label
	}
	return p.w.Append(row)
}

func (p *parquetSink) finish([]FailedRow) error { return nil } // failed rows are in their places
