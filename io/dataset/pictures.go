package dataset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
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

// pictureRow is a row: a picture, those paired with it, one per further image column, and the files of its columns and its label.
type pictureRow struct {
	member
	further []member
	texts   []member // one per name of naming.texts; without a name where there is none
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
	if s.ID != "" {
		return errorf(SchemaNoColumn, "input: %s holds picture files: their names are their ids, there is no column %q", s.Path, s.ID)
	}
	names := s.naming()
	d.features = Features{Image: cmp.Or(s.Image, "image"), Images: slices.Clone(s.Images)}
	for _, c := range s.Columns {
		d.features.Columns = append(d.features.Columns, Column{Name: c, Kind: KindString, Type: "file"})
	}
	loose := slices.DeleteFunc(slices.Clone(all), func(f found) bool { return f.carrier < carrierPicture })
	further := 0
	archives := 0
	for done := false; len(all) > 0; all = all[1:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, l := all[0], &listing{names: names, limit: d.lim.Memory, imageLimit: d.lim.MaxImageBytes}
		var err error
		switch {
		case f.carrier >= carrierPicture && done: // came with the first of them
			continue
		case f.carrier >= carrierPicture:
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
		further += d.addPictures(f, l)
	}
	if archives > 1 || archives > 0 && len(loose) > 0 {
		for _, f := range d.files {
			if _, ok := f.store.(*looseStore); !ok {
				f.prefix = f.name + "/"
			}
		}
	}
	if n := skipped.hidden + skipped.other + further; n > 0 {
		text := fmt.Sprintf("input: %d files were passed over: %d that are not pictures, %d that are hidden", n, skipped.other, skipped.hidden)
		if further > 0 {
			text += fmt.Sprintf(", %d further pictures of samples, of which the first is the image unless it is named by its extension", further)
		}
		d.warnings = append(d.warnings, text)
	}
	if d.rows == 0 && names.image != "" && further > 0 {
		return errorf(SchemaNoImage, "input: no picture of %s has the extension %q", s.Path, names.image)
	}
	if d.rows == 0 {
		return exitcode.Errorf(exitcode.NoInput, "input: %s holds neither tables nor pictures", s.Path)
	}
	if err := d.pictureColumns(names); err != nil {
		return err
	}
	if s.Limit > 0 {
		d.rows = min(d.rows, s.Limit)
		d.files = slices.DeleteFunc(d.files, func(f *file) bool { return f.first >= d.rows })
	}
	return nil
}

// addPictures appends the rows of a listing, and returns how many pictures are none.
func (d *Dataset) addPictures(f found, l *listing) (further int) {
	rows, further := l.names.pair(l, f.carrier == carrierTar)
	if len(rows) == 0 {
		return further
	}
	n := int64(len(rows))
	out := &file{found: f, sha: l.sum(), first: d.rows, rows: n, groups: []group{{rows: n}}, pictures: rows, store: l.store}
	out.inOrder = true
	end := int64(-1) // of the row before, as far as members are in stored order
	for _, p := range rows {
		need, first, last := min(p.size, d.lim.MaxImageBytes), p.at, p.at
		for _, list := range [][]member{p.further, p.texts} {
			for _, m := range list {
				if need += min(m.size, d.lim.MaxImageBytes); m.name != "" {
					first, last = min(first, m.at), max(last, m.at)
				}
			}
		}
		out.need = max(out.need, need)
		out.inOrder = out.inOrder && first > end
		end = last
	}
	if f.carrier == carrierPicture {
		for _, m := range l.members {
			out.size += m.size
		}
	}
	d.files = append(d.files, out)
	d.rows += n
	return further
}

// pictureColumns checks that every column asked for is there, and finds the labels: files of their own, else the topmost folders.
func (d *Dataset) pictureColumns(names naming) error {
	for k, c := range names.images {
		if !d.anyPicture(func(p *pictureRow) bool { return p.further[k].name != "" }) {
			return errorf(SchemaNoImage, "input: %s has no pictures for column %q: neither NAME_%[2]s.* nor NAME.%[2]s.* beside a picture NAME", d.spec.Path, c)
		}
	}
	for k, c := range names.texts {
		has := func(p *pictureRow) bool { return p.texts[k].name != "" }
		switch label := k == len(d.spec.Columns); {
		case d.anyPicture(has):
			if label {
				d.features.Label = c
				return d.labelType(has, k)
			}
		case !label || d.spec.Label != "":
			return errorf(SchemaNoColumn, "input: %s has no column %q: no file NAME.%[2]s beside a picture NAME", d.spec.Path, c)
		}
	}
	return d.pictureClasses()
}

func (d *Dataset) anyPicture(is func(*pictureRow) bool) bool {
	for _, f := range d.files {
		for i := range f.pictures {
			if is(&f.pictures[i]) {
				return true
			}
		}
	}
	return false
}

// labelType tells by the first label whether labels are text. One that cannot be read says nothing.
func (d *Dataset) labelType(has func(*pictureRow) bool, k int) error {
	for i, f := range d.files {
		row := slices.IndexFunc(f.pictures, func(p pictureRow) bool { return has(&p) })
		if row < 0 {
			continue
		}
		r, err := f.store.open(f, 1)
		if err != nil {
			return at(err, f.name, -1, -1, "")
		}
		defer r.Close()
		c := cursor{d: d, file: i, f: f}
		b, _, err := c.member(r, 0, &f.pictures[row].texts[k], int64(row), d.features.Label)
		if err != nil {
			return err
		}
		_, notNumber := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		d.features.TextLabel = len(b) > 0 && notNumber != nil
		return nil
	}
	return nil
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

// byName compares members by their names.
func byName(a, b member) int { return cmp.Compare(a.name, b.name) }
