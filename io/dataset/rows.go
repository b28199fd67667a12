package dataset

import (
	"context"
	"fmt"
	"iter"
	"os"
	"slices"
	"strconv"
)

// Row is one row. All slices belong to the caller.
type Row struct {
	Index      int64  // in the data set
	File       int    // index into Dataset.Files
	RowInFile  int64  //
	RowGroup   int    // within the file
	RowInGroup int64  //
	ID         string // of the id column, else "<file name>#<row in file>"; the name of a picture, "<archive>/<name>" of several archives
	Image      []byte // encoded; nil when Err is set
	Path       string // the path stored beside the bytes, "" when there is none; the id of a picture
	Err        error  // why there is no image, or no id; an *Error with a row class

	Images []Image // of the further image columns

	Label     int64  // class number, -1 when there is none
	LabelName string // name of the class or the text of the label, where known
	HasLabel  bool   // false for -1 ("no label"), for null, and without a label column
	LabelErr  error  // null, or outside the class names; an *Error of class row.label. Only jobs that need labels mind.

	Values []any // of the further columns; nil is null, see Kind for the types
}

// Image is the image of a further column.
type Image struct {
	Bytes []byte // encoded; nil when Err is set
	Path  string
	Err   error
}

// Rows streams rows from (included) to (excluded), in order. A row that cannot be used is delivered with its Err set; an error
// ends the stream and is the last thing delivered, with no row. Row groups and pages before the range are passed over unread.
//
// Every row group read to its end is checked against the footer's row count, so a stream that ends without an error has
// delivered to-from rows.
func (d *Dataset) Rows(ctx context.Context, from, to int64) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if err := d.checkRange(from, to); err != nil {
			yield(Row{}, err)
			return
		}
		var root *os.Root
		if d.spec.AllowPaths != "" {
			var err error
			if root, err = os.OpenRoot(d.spec.AllowPaths); err != nil {
				yield(Row{}, fmt.Errorf("input: root of image paths: %w", err))
				return
			}
			defer root.Close()
		}
		for from < to {
			k := d.Locate(from).File
			f := d.files[k]
			end := min(to, f.first+f.rows)
			c := cursor{d: d, file: k, f: f, root: root}
			read := c.parquet
			switch {
			case f.pictures != nil:
				read = c.readPictures
			case f.arrow != nil:
				read = c.readArrow
			}
			stopped, err := read(ctx, from-f.first, end-f.first, yield)
			if err != nil {
				yield(Row{}, data(at(err, f.name, -1, -1, "")))
			}
			if err != nil || stopped {
				return
			}
			from = end
		}
	}
}

// cursor reads the rows of one file.
type cursor struct {
	d       *Dataset
	file    int
	f       *file
	root    *os.Root
	group   int
	columns []*columnReader
	cells   []cell
	batch   *arrowBatchRows // of an Arrow file
	names   bool            // rows are not built, only named
}

// cell is the value of a scalar slot in the current row. Its bytes are valid until the next row.
type cell struct {
	value scalar
	arrow any // the same of an Arrow file, as delivered
}

// parquet delivers rows from..to of the file.
func (c *cursor) parquet(ctx context.Context, from, to int64, yield func(Row, error) bool) (stopped bool, err error) {
	r, err := c.f.open()
	if err != nil {
		return false, err
	}
	defer r.Close()
	c.cells = make([]cell, len(c.f.slots.leaves))
	c.columns = make([]*columnReader, len(c.f.slots.leaves))
	for c.group = range c.f.groups {
		g := c.f.groups[c.group]
		switch {
		case g.first+g.rows < from || g.first > to:
			continue
		case g.rows == 0:
			if err := c.nothingIn(r, g); err != nil {
				return false, err
			}
			continue
		case g.first+g.rows == from || g.first == to:
			continue
		}
		first, end := max(0, from-g.first), min(to-g.first, g.rows)
		if err := c.start(r, g, first); err != nil {
			return false, err
		}
		for i := first; i < end; i++ {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			row, err := c.row(g.first+i, i)
			if err != nil {
				return false, err
			}
			if !yield(row, nil) {
				return true, nil
			}
		}
		if end < g.rows {
			break
		}
		for k, col := range c.columns {
			if err := guard(col.finish); err != nil {
				return false, c.at(err, -1, k)
			}
		}
	}
	return false, nil
}

func (c *cursor) at(err error, row int64, slot int) error {
	return at(err, c.f.name, c.group, row, c.f.slots.leaves[slot].path)
}

// start opens the columns of a row group at a row.
func (c *cursor) start(r *os.File, g group, skip int64) error {
	for k, s := range c.f.slots.leaves {
		err := guard(func() (err error) {
			if c.columns[k], err = newColumnReader(r, c.f.size, s.typ, g.chunks[k], c.d.lim, c.columns[k]); err != nil {
				return err
			}
			return c.columns[k].skip(skip)
		})
		if err != nil {
			return c.at(err, -1, k)
		}
	}
	return nil
}

// nothingIn checks that a row group of no rows has no pages of values. Its chunks need not have a place in the file.
func (c *cursor) nothingIn(r *os.File, g group) error {
	for k, s := range c.f.slots.leaves {
		if _, _, err := g.chunks[k].span(c.f.size); err != nil {
			continue
		}
		err := guard(func() error {
			col, err := newColumnReader(r, c.f.size, s.typ, g.chunks[k], c.d.lim, nil)
			if err != nil {
				return err
			}
			return col.finish()
		})
		if err != nil {
			return c.at(err, -1, k)
		}
	}
	return nil
}

// row reads the next row of every column.
func (c *cursor) row(inFile, inGroup int64) (Row, error) {
	for k, col := range c.columns {
		if col.typ.maxRep > 0 {
			continue // read with its converter, below
		}
		err := guard(func() error {
			return col.nextRow(func(v scalar, _, _ uint8) error {
				c.cells[k].value = v
				return nil
			})
		})
		if err != nil {
			return Row{}, c.at(err, inFile, k)
		}
	}
	return c.build(inFile, inGroup)
}

// build makes a row of the cells and of the columns of lists.
func (c *cursor) build(inFile, inGroup int64) (Row, error) {
	if c.names {
		return c.name(inFile), nil
	}
	s := &c.f.slots
	row := Row{Index: c.f.first + inFile, File: c.file, RowInFile: inFile, RowGroup: c.group, RowInGroup: inGroup, Label: -1}
	if c.d.features.Image != "" {
		main := c.image(s.image, inFile)
		row.Image, row.Path, row.Err = main.Bytes, main.Path, main.Err
	}
	for _, x := range s.extra {
		row.Images = append(row.Images, c.image(x, inFile))
	}
	c.id(&row)
	c.label(&row)
	for _, v := range s.values {
		x, err := c.value(v, inFile)
		if err != nil {
			return Row{}, err
		}
		row.Values = append(row.Values, x)
	}
	return row, nil
}

func (c *cursor) image(s imageSlots, inFile int64) (m Image) {
	fail := func(err error) {
		m.Bytes, m.Err = nil, at(err, c.f.name, c.group, inFile, s.name)
	}
	hasPath := s.path >= 0 && !c.cells[s.path].value.null
	if hasPath {
		m.Path = string(c.cells[s.path].value.bytes)
	}
	switch {
	case s.bytes >= 0 && !c.cells[s.bytes].value.null:
		b := c.cells[s.bytes].value.bytes
		switch {
		case len(b) == 0:
			fail(errorf(RowEmpty, "image has zero bytes"))
		case int64(len(b)) > c.d.lim.MaxImageBytes:
			fail(errorf(RowTooLarge, "image of %d bytes is over the limit of %d", len(b), c.d.lim.MaxImageBytes))
		default:
			if m.Bytes = b; c.batch == nil { // else it is a copy already
				m.Bytes = slices.Clone(b)
			}
		}
	case hasPath:
		b, err := byPath(c.root, m.Path, c.d.lim.MaxImageBytes)
		if m.Bytes = b; err != nil {
			fail(err)
		} else if len(b) == 0 {
			fail(errorf(RowEmpty, "file %s has zero bytes", shorten(m.Path)))
		}
	default:
		fail(errorf(RowNull, "image is null"))
	}
	return m
}

func (c *cursor) id(row *Row) {
	s := c.f.slots.id
	row.ID = c.f.rowID(row.RowInFile)
	x, given := c.scalar(s)
	switch {
	case !given:
	case x == nil:
		if row.Err == nil {
			row.Image, row.Err = nil, at(errorf(RowID, "id is null"), c.f.name, c.group, row.RowInFile, s.path)
		}
	default:
		row.ID = fmt.Sprint(x)
	}
}

func (c *cursor) label(row *Row) {
	s := c.f.slots.label
	if x, given := c.scalar(s); given {
		c.setLabel(row, x, s.path)
	}
}

func (c *cursor) setLabel(row *Row, x any, column string) {
	names := c.d.features.ClassNames
	fail := func(format string, args ...any) {
		row.LabelErr = at(errorf(RowLabel, format, args...), c.f.name, c.group, row.RowInFile, column)
	}
	switch x := x.(type) {
	case nil:
		fail("label is null")
	case string:
		row.LabelName, row.HasLabel = x, true
		if row.Label = int64(slices.Index(names, x)); row.Label < 0 && len(names) > 0 {
			row.HasLabel = false
			fail("label %s is none of the %d classes", shorten(x), len(names))
		}
	default:
		n, err := strconv.ParseInt(fmt.Sprint(x), 10, 64)
		if b, ok := x.(bool); ok {
			n, err = 0, nil
			if b {
				n = 1
			}
		}
		switch {
		case err == nil && n == -1: // "no label", as test splits have
		case err != nil || n < 0 || len(names) > 0 && n >= int64(len(names)):
			fail("label %v is outside its %d classes", x, len(names))
		default:
			row.Label, row.HasLabel = n, true
			if len(names) > 0 {
				row.LabelName = names[n]
			}
		}
	}
}

// scalar returns the value of a column that is not a list; given is false when there is no such column.
func (c *cursor) scalar(s valueSlot) (x any, given bool) {
	switch {
	case s.isPart && s.partition != nil:
		return *s.partition, true
	case s.isPart:
		return nil, true
	case s.slot < 0:
		return nil, false
	case c.cells[s.slot].value.null:
		return nil, true
	case c.batch != nil:
		return c.cells[s.slot].arrow, true
	}
	return s.conv(c.cells[s.slot].value), true
}

func (c *cursor) value(s valueSlot, inFile int64) (any, error) {
	if len(s.lists) == 0 {
		x, _ := c.scalar(s)
		return x, nil
	}
	if c.batch != nil {
		var list any
		err := guard(func() (err error) { list, err = c.batch.value(c.f.slots.leaves[s.slot].leaf); return err })
		return list, c.at(err, inFile, s.slot)
	}
	n := nest{lists: s.lists}
	err := guard(func() error {
		return c.columns[s.slot].nextRow(func(v scalar, rep, def uint8) error {
			var x any
			if !v.null {
				x = s.conv(v)
			}
			return n.add(x, rep, def)
		})
	})
	if err != nil {
		return nil, c.at(err, inFile, s.slot)
	}
	return n.finish(), nil
}
