package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// pictureExts are the names of picture files. What a file really is, its decoder tells.
var pictureExts = []string{".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".pnm", ".pbm", ".pgm", ".ppm"}

func isPicture(name string) bool {
	return slices.Contains(pictureExts, strings.ToLower(path.Ext(name)))
}

// member is a picture file in a folder tree or an archive.
type member struct {
	name string // in its folder or archive, with slashes
	size int64  // bytes, unpacked, as declared
	at   int64  // where its bytes begin: in the zip file, in the unpacked tar file, or index into the loose files
	zip  zipEntry
	bad  error // why it cannot be read
}

// pictureRow is a row: a picture, and those paired with it, one per further image column.
type pictureRow struct {
	member
	further []member
}

// store reads the members of a folder tree or an archive.
type store interface {
	// open prepares reading. Each of n streams is read in the order of the rows, or nearly so.
	open(f *file, n int) (memberReader, error)
}

// memberReader reads members. Errors with a row class concern the member, others end the stream.
type memberReader interface {
	read(stream int, m *member) ([]byte, error)
	Close() error
}

// openPictures opens folder trees and archives of pictures as a data set: a row per picture, its name as id and path, and, when
// every picture lies in a folder of its tree or archive, the topmost folders as classes in the order of their names.
func (d *Dataset) openPictures(ctx context.Context, all []found, skipped listing) error {
	s := d.spec
	if s.Image != "" && s.Image != "image" || s.ID != "" || s.Label != "" && s.Label != "label" || len(s.Columns) > 0 {
		return errorf(SchemaNoColumn, "input: %s holds picture files: its only columns are image and label, and further images", s.Path)
	}
	d.features = Features{Image: "image", Images: slices.Clone(s.Images)}
	loose := slices.DeleteFunc(slices.Clone(all), func(f found) bool { return f.carrier != carrierPicture })
	archives := 0
	for done := false; len(all) > 0; all = all[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, l := all[0], &listing{limit: d.lim.Memory, imageLimit: d.lim.MaxImageBytes}
		var err error
		switch {
		case f.carrier == carrierPicture && done: // came with the first of them
			continue
		case f.carrier == carrierPicture:
			done = true
			f = found{carrier: carrierPicture, path: s.Path, name: filepath.ToSlash(filepath.Base(s.Path))}
			err = l.loose(loose)
		case f.carrier == carrierZip:
			archives++
			err = l.zip(f)
		default:
			archives++
			err = l.tar(ctx, f)
		}
		if err != nil {
			return at(err, f.name, -1, -1, "")
		}
		skipped.hidden += l.hidden
		skipped.other += l.other
		d.addPictures(f, l)
	}
	if archives > 1 || archives > 0 && len(loose) > 0 {
		for _, f := range d.files {
			if _, ok := f.store.(*looseStore); !ok {
				f.prefix = f.name + "/"
			}
		}
	}
	if n := skipped.hidden + skipped.other; n > 0 {
		d.warnings = append(d.warnings, fmt.Sprintf("input: %d files were passed over: %d that are not pictures, %d that are hidden", n, skipped.other, skipped.hidden))
	}
	if d.rows == 0 {
		return exitcode.Errorf(exitcode.NoInput, "input: %s holds neither tables nor pictures", s.Path)
	}
	if err := d.pictureClasses(); err != nil {
		return err
	}
	if s.Limit > 0 {
		d.rows = min(d.rows, s.Limit)
		d.files = slices.DeleteFunc(d.files, func(f *file) bool { return f.first >= d.rows })
	}
	return nil
}

func (d *Dataset) addPictures(f found, l *listing) {
	rows := pair(l.members, d.spec.Images)
	if len(rows) == 0 {
		return
	}
	n := int64(len(rows))
	out := &file{found: f, sha: l.sum(), first: d.rows, rows: n, groups: []group{{rows: n}}, pictures: rows, store: l.store}
	for _, p := range rows {
		need := min(p.size, d.lim.MaxImageBytes)
		for _, m := range p.further {
			need += min(m.size, d.lim.MaxImageBytes)
		}
		out.need = max(out.need, need)
	}
	if f.carrier == carrierPicture {
		for _, m := range l.members {
			out.size += m.size
		}
	}
	d.files = append(d.files, out)
	d.rows += n
}

// pictureClasses makes classes of the topmost folders.
func (d *Dataset) pictureClasses() error {
	classes := map[string]bool{}
	for _, f := range d.files {
		for _, p := range f.pictures {
			class, _, inFolder := strings.Cut(p.name, "/")
			if !inFolder || filepath.IsAbs(p.name) || errors.Is(p.bad, errName) {
				if d.spec.Label != "" {
					return errorf(SchemaNoColumn, "input: %s has pictures outside of folders, so it has no labels", d.spec.Path)
				}
				return nil
			}
			classes[class] = true
		}
	}
	for c := range classes {
		d.features.ClassNames = append(d.features.ClassNames, c)
	}
	slices.Sort(d.features.ClassNames)
	d.features.Label = "label"
	return nil
}

// pair joins pictures with those of further columns: for column "mask", a/b.png goes with a/b_mask.* in the same folder. A
// picture that goes with another is no row.
func pair(all []member, columns []string) []pictureRow {
	stem := func(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }
	stems := map[string]bool{}
	if len(columns) > 0 {
		for _, m := range all {
			stems[stem(m.name)] = true
		}
	}
	partners := make([]map[string]member, len(columns))
	for k := range partners {
		partners[k] = map[string]member{}
	}
	partner := func(m member) bool {
		for k, c := range columns {
			base, ok := strings.CutSuffix(stem(m.name), "_"+c)
			if !ok || !stems[base] {
				continue
			}
			if have, twice := partners[k][base]; twice {
				m = member{name: have.name, bad: errorf(RowAmbiguous, "both %s and %s belong to the picture", shorten(have.name), shorten(m.name))}
			}
			partners[k][base] = m
			return true
		}
		return false
	}
	var rows []pictureRow
	for _, m := range all {
		if !partner(m) {
			rows = append(rows, pictureRow{member: m})
		}
	}
	for i := range rows {
		base := stem(rows[i].name)
		for k, c := range columns {
			m, ok := partners[k][base]
			if !ok {
				m.bad = errorf(RowPathMissing, "no picture %s", shorten(base+"_"+c+".*"))
			}
			rows[i].further = append(rows[i].further, m)
		}
	}
	return rows
}

// readPictures delivers rows from..to of a folder tree or an archive.
func (c *cursor) readPictures(ctx context.Context, from, to int64, yield func(Row, error) bool) (stopped bool, err error) {
	r, err := c.f.store.open(c.f, 1+len(c.d.features.Images))
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
		if names := c.d.features.ClassNames; names != nil {
			row.LabelName, _, _ = strings.Cut(p.name, "/")
			row.Label, row.HasLabel = int64(slices.Index(names, row.LabelName)), true
		}
		if row.Image, row.Err, err = c.member(r, 0, &p.member, i, "image"); err != nil {
			return false, err
		}
		for k := range p.further {
			m := &p.further[k]
			var x Image
			if m.name != "" {
				x.Path = c.f.prefix + m.name
			}
			if x.Bytes, x.Err, err = c.member(r, 1+k, m, i, c.d.features.Images[k]); err != nil {
				return false, err
			}
			row.Images = append(row.Images, x)
		}
		if !yield(row, nil) {
			return true, nil
		}
	}
	return false, nil
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

// byName compares members by their names.
func byName(a, b member) int { return cmp.Compare(a.name, b.name) }
