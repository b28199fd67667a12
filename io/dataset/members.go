package dataset

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
)

// readPictures delivers rows from..to of a folder tree or an archive.
func (c *cursor) readPictures(ctx context.Context, from, to int64, yield func(Row, error) bool) (stopped bool, err error) {
	images, names := c.d.features.Images, c.d.spec.naming()
	if label := c.d.features.Label; label != names.label {
		names.texts = names.texts[:len(c.d.spec.Columns)]
	}
	streams := 1 + len(images) + len(names.texts)
	r, err := c.f.store.open(c.f, streams)
	if err != nil {
		return false, err
	}
	defer r.Close()
	for i := from; i < to; i++ {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		p := &c.f.pictures[i]
		name := c.f.prefix + p.name
		row := Row{Index: c.f.first + i, File: c.file, RowInFile: i, RowInGroup: i, ID: name, Path: name, Label: -1}
		pieces := make([]piece, 1, streams)
		pieces[0] = piece{member: &p.member, column: c.d.features.Image}
		for k := range images {
			pieces = append(pieces, piece{stream: 1 + k, member: &p.further[k], column: images[k]})
		}
		for k, column := range names.texts {
			pieces = append(pieces, piece{stream: 1 + len(images) + k, member: &p.texts[k], column: column, text: true})
		}
		if err := c.readPieces(r, pieces, i); err != nil {
			return false, err
		}
		row.Image, row.Err = pieces[0].bytes, pieces[0].bad
		for _, x := range pieces[1:][:len(images)] {
			m := Image{Bytes: x.bytes, Err: x.bad}
			if x.member.name != "" {
				m.Path = c.f.prefix + x.member.name
			}
			row.Images = append(row.Images, m)
		}
		texts := pieces[1+len(images):]
		for _, x := range texts[:len(c.d.spec.Columns)] {
			row.Values = append(row.Values, x.value())
			if x.bad != nil && row.Err == nil {
				row.Image, row.Err = nil, x.bad
			}
		}
		if len(texts) > len(c.d.spec.Columns) {
			c.fileLabel(&row, texts[len(texts)-1])
		} else if classes := c.d.features.ClassNames; classes != nil {
			row.LabelName, _, _ = strings.Cut(p.name, "/")
			row.Label, row.HasLabel = int64(slices.Index(classes, row.LabelName)), true
		}
		if !yield(row, nil) {
			return true, nil
		}
	}
	return false, nil
}

// piece is a file that a row is made of.
type piece struct {
	stream int
	member *member
	column string
	text   bool // which may be empty, or not there
	bytes  []byte
	bad    error
}

// readPieces reads the files of a row: in stored order from one stream where that is also the order of the rows, so that a compressed
// tar file is unpacked once; else each column from a stream of its own.
func (c *cursor) readPieces(r memberReader, pieces []piece, row int64) error {
	order := make([]int, len(pieces))
	for i := range order {
		order[i] = i
	}
	if c.f.inOrder {
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(pieces[a].member.at, pieces[b].member.at) })
	}
	for _, i := range order {
		x := &pieces[i]
		if x.text && x.member.name == "" {
			continue
		}
		if c.f.inOrder {
			x.stream = 0
		}
		var err error
		if x.bytes, x.bad, err = c.member(r, x.stream, x.member, row, x.column); err != nil {
			return err
		}
		if x.text && ClassOf(x.bad) == RowEmpty {
			x.bytes, x.bad = []byte{}, nil
		}
	}
	return nil
}

// value is a text: without the mark of UTF-8 at its beginning and the line break at its end, and with U+FFFD in place of what is no
// UTF-8. It is nil where there is no file.
func (x piece) value() any {
	if x.bytes == nil {
		return nil
	}
	b := bytes.TrimPrefix(x.bytes, []byte("\xef\xbb\xbf"))
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// fileLabel is the label in a file.
func (c *cursor) fileLabel(row *Row, x piece) {
	text, _ := x.value().(string)
	text = strings.TrimSpace(text)
	switch {
	case x.bad != nil:
		row.LabelErr = x.bad
	case x.bytes == nil || text == "":
		c.setLabel(row, nil, x.column)
	case c.d.features.TextLabel:
		c.setLabel(row, text, x.column)
	default:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			c.setLabel(row, n, x.column)
		} else {
			row.LabelErr = at(errorf(RowLabel, "label %s is no number, as the first label is", shorten(text)), c.f.name, 0, row.RowInFile, x.column)
		}
	}
}

// member reads a picture; bad is a problem of its row only.
func (c *cursor) member(r memberReader, stream int, m *member, row int64, column string) (b []byte, bad, err error) {
	switch {
	case m.bad != nil:
		bad = m.bad
	case m.size > c.d.lim.MaxImageBytes:
		bad = errorf(RowTooLarge, "file of %d bytes is over the limit of %d", m.size, c.d.lim.MaxImageBytes)
	default:
		err = guard(func() (err error) { b, err = r.read(stream, m); return err })
		switch {
		case strings.HasPrefix(string(ClassOf(err)), "row."):
			bad, err = err, nil
		case err != nil:
			return nil, nil, at(err, c.f.name, -1, row, column)
		case len(b) == 0:
			bad = errorf(RowEmpty, "file %s has zero bytes", shorten(m.name))
		}
	}
	if bad != nil {
		return nil, at(bad, c.f.name, -1, row, column), nil
	}
	return b, nil, nil
}
