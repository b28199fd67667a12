package dataset

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/parquet-go/parquet-go/format"
)

// Dataset is an opened list of files. It holds no file handle and is safe for concurrent use.
type Dataset struct {
	spec     Spec
	lim      Limits
	features Features
	warnings []string
	files    []*file
	rows     int64
}

// Features says which columns were found.
type Features struct {
	Image      string   // column of the image
	Images     []string // further image columns, as asked for
	ID         string   // "" when ids are made of file name and row
	Label      string   // "" when there is none
	TextLabel  bool     // labels are text; without ClassNames they have no number
	ClassNames []string // names of labels 0, 1, ... where the files tell; never inferred from the rows
	Text       string   // a column that looks like a caption, "" when there is none; it is delivered only when asked for
	Columns    []Column // in the order of Row.Values
}

// FileInfo describes one file of the data set.
type FileInfo struct {
	Name         string // relative to the folder named by the path, or the base name; unique in the data set; with slashes
	Path         string // as opened
	Size         int64  // bytes
	FooterSHA256 string // hex; a changed file of the same size almost surely has another footer
	Rows         int64
	RowGroups    int
	Partitions   []Partition
	Pictures     bool // rows are the pictures of a folder or an archive, and their ids the names of those
}

// Where says where a row of the file lies, for messages: "a.tar: x.png", or "a.parquet row group 0 row 3 (id)".
func (f *FileInfo) Where(r Row) string {
	if f.Pictures {
		return f.Name + ": " + strings.TrimPrefix(r.ID, f.Name+"/")
	}
	at := fmt.Sprintf("%s row group %d row %d", f.Name, r.RowGroup, r.RowInGroup)
	if r.ID != fmt.Sprintf("%s#%d", f.Name, r.RowInFile) { // of a column
		at += " (" + r.ID + ")"
	}
	return at
}

// Location is where a row lies.
type Location struct {
	File       int // index into Files
	RowInFile  int64
	RowGroup   int
	RowInGroup int64
}

// file is a Parquet file, an archive of pictures, or all picture files that are in none.
type file struct {
	found
	sha    string
	first  int64 // data set row of row 0
	rows   int64
	groups []group
	slots  slots
	need   int64 // most memory a reader takes, of what is not Parquet

	arrow    *arrowFile // set for an Arrow file
	pictures []pictureRow
	store    store
	prefix   string // of the names of pictures
	inOrder  bool   // what belongs to a row lies before what belongs to the next
}

type group struct {
	first  int64 // row in file
	rows   int64
	chunks []chunk // one per slot
}

// Open finds the files, reads their footers and decides on columns. No image is read.
//
// Errors of the file system are returned as they are (a missing file has exit code 66), all others carry a [Class] and exit
// code 65, or 64 for an impossible spec.
func Open(ctx context.Context, spec Spec, lim Limits) (*Dataset, error) {
	if err := spec.Validate(); err != nil {
		return nil, exitcode.With(exitcode.Usage, err)
	}
	if spec.AllowPaths != "" {
		root, err := os.OpenRoot(spec.AllowPaths)
		if err != nil {
			return nil, fmt.Errorf("input: root of image paths: %w", err)
		}
		root.Close()
	}
	d := &Dataset{spec: spec, lim: lim.withDefaults()}
	all, skipped, err := findFiles(spec.Path, spec.naming().texts...)
	if err != nil {
		return nil, data(err)
	}
	tables := 0
	for _, f := range all {
		if f.table() {
			tables++
		}
	}
	switch {
	case tables == 0:
		return d, data(d.openPictures(ctx, all, skipped))
	case tables < len(all):
		return nil, data(errorf(SchemaMismatch, "input: %s names both tables and picture files: read them as two data sets", spec.Path))
	}
	for _, f := range all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		add := d.add
		if f.carrier == carrierArrow {
			add = d.addArrow
		}
		if err := add(f); err != nil {
			return nil, data(at(err, f.name, -1, -1, ""))
		}
		if spec.Limit > 0 && d.rows >= spec.Limit {
			d.rows = spec.Limit
			break
		}
	}
	return d, nil
}

// add opens one file and appends it.
func (d *Dataset) add(f found) error {
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	meta, sum, err := readFooter(r, f.size, d.lim)
	if err != nil {
		return err
	}
	out := &file{found: f, sha: hex.EncodeToString(sum[:]), first: d.rows, rows: meta.NumRows}
	err = guard(func() error {
		root, leaves, err := schemaTree(meta.Schema)
		if err != nil {
			return err
		}
		hints := readFeatures(meta)
		if hints.warning != "" {
			d.warnings = append(d.warnings, f.name+": "+hints.warning)
		}
		if len(d.files) == 0 {
			if err := d.detect(root, hints, f); err != nil {
				return err
			}
		}
		if err := d.resolve(out, root, hints); err != nil {
			return err
		}
		return out.addGroups(meta, leaves)
	})
	if err != nil {
		return err
	}
	d.files = append(d.files, out)
	d.rows += out.rows
	return nil
}

// addGroups keeps of the footer what reading needs, and checks counts.
func (f *file) addGroups(meta *format.FileMetaData, leaves []*node) error {
	var first int64
	for i := range meta.RowGroups {
		g := &meta.RowGroups[i]
		if len(g.Columns) != len(leaves) {
			return at(corrupt("row group has %d columns, the schema %d", len(g.Columns), len(leaves)), "", i, -1, "")
		}
		for j, n := range leaves {
			if v := g.Columns[j].MetaData.NumValues; n.maxRep == 0 && v != g.NumRows || v < 0 {
				return at(corrupt("footer says %d values in %d rows", v, g.NumRows), "", i, -1, n.path())
			}
		}
		out := group{first: first, rows: g.NumRows}
		for _, s := range f.slots.leaves {
			c := &g.Columns[s.leaf]
			if c.CryptoMetadata.Value != nil || len(c.EncryptedColumnMetadata) > 0 {
				return at(errorf(FileEncrypted, "encrypted, and there is no key"), "", i, -1, s.path)
			}
			if c.MetaData.Type != s.typ.kind {
				return at(corrupt("chunk of type %s where the schema says %s", c.MetaData.Type, s.typ.kind), "", i, -1, s.path)
			}
			ch := newChunk(c)
			if g.NumRows > 0 {
				if _, _, err := ch.span(f.size); err != nil {
					return at(err, "", i, -1, s.path)
				}
			}
			out.chunks = append(out.chunks, ch)
		}
		f.groups = append(f.groups, out)
		first += g.NumRows
	}
	return nil
}

// NumRows returns the rows of the data set, within [Spec.Limit].
func (d *Dataset) NumRows() int64 { return d.rows }

// Features says which columns are read.
func (d *Dataset) Features() Features { return d.features }

// Warnings lists what was odd and did not matter, for the log.
func (d *Dataset) Warnings() []string { return d.warnings }

// Files describes the files in the order of their rows. With a limit, files behind it are left out.
func (d *Dataset) Files() []FileInfo {
	out := make([]FileInfo, len(d.files))
	for i, f := range d.files {
		out[i] = FileInfo{f.name, f.path, f.size, f.sha, f.rows, len(f.groups), f.partitions, f.pictures != nil}
	}
	return out
}

// Locate returns where row index of the data set lies. It panics on a row that is not there, as slices do.
func (d *Dataset) Locate(index int64) Location {
	if index < 0 || index >= d.rows {
		panic(fmt.Sprintf("dataset: row %d of %d", index, d.rows))
	}
	k := sort.Search(len(d.files), func(i int) bool { return d.files[i].first > index }) - 1
	f := d.files[k]
	row := index - f.first
	g := sort.Search(len(f.groups), func(i int) bool { return f.groups[i].first > row }) - 1
	return Location{k, row, g, row - f.groups[g].first}
}

// MemoryBound is the most one reader can hold at a time, in bytes, as the footers tell: as if each column chunk were one page.
// It costs nothing; [Dataset.MemoryNeed] is exact.
func (d *Dataset) MemoryBound() int64 {
	var most int64
	for _, f := range d.files {
		most = max(most, f.need)
		for _, g := range f.groups {
			var need int64
			for _, c := range g.chunks {
				need += c.size + max(0, c.unpacked)
			}
			most = max(most, need)
		}
	}
	return most
}

// MemoryNeed is the most one reader holds at a time, in bytes: for each selected column the largest page, packed, unpacked and
// indexed, and its dictionary. It reads every page header of the files, one small read each.
func (d *Dataset) MemoryNeed(ctx context.Context) (int64, error) {
	var most int64
	for _, f := range d.files {
		if most = max(most, f.need); f.carrier != carrierParquet {
			continue
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		need, err := d.fileNeed(f)
		if err != nil {
			return 0, data(err)
		}
		most = max(most, need)
	}
	return most, nil
}

func (d *Dataset) fileNeed(f *file) (most int64, err error) {
	r, err := f.open()
	if err != nil {
		return 0, at(err, f.name, -1, -1, "")
	}
	defer r.Close()
	for i, g := range f.groups {
		var need int64
		for k, c := range g.chunks {
			s := f.slots.leaves[k]
			err := guard(func() error {
				n, err := chunkNeed(r, f.size, s.typ, c, d.lim)
				need += n
				return err
			})
			if err != nil {
				return 0, at(err, f.name, i, -1, s.path)
			}
		}
		most = max(most, need)
	}
	return most, nil
}

// chunkNeed walks the page headers of a chunk.
func chunkNeed(r io.ReaderAt, fileSize int64, typ leafType, c chunk, lim Limits) (int64, error) {
	if c.values == 0 {
		return 0, nil
	}
	cr, err := newColumnReader(r, fileSize, typ, c, lim, nil)
	if err != nil {
		return 0, err
	}
	var page, dict int64
	for cr.left > 0 {
		h, n, err := cr.header()
		if err != nil {
			return 0, err
		}
		switch h.Type {
		case format.DictionaryPage:
			dict = max(dict, pageMemory(h, int64(h.DictionaryPageHeader.V.NumValues), c.codec))
		default:
			page = max(page, pageMemory(h, dataCount(h), c.codec))
		}
		cr.left -= dataCount(h)
		cr.pos += int64(n) + int64(h.CompressedPageSize)
	}
	return page + dict, nil
}

// open opens the file again and checks that it is still the one whose footer was read.
func (f *file) open() (*os.File, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	st, err := r.Stat()
	if err == nil && (st.Size() != f.size || !st.ModTime().Equal(f.modTime)) {
		err = errorf(FileChanged, "file has changed since it was opened")
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// detect decides on the columns by the first file.
func (d *Dataset) detect(root *node, hints features, f found) (err error) {
	ft := Features{Image: d.spec.Image, Images: slices.Clone(d.spec.Images), ID: d.spec.ID, Label: d.spec.Label}
	if ft.Image == "" && !d.spec.NoImage {
		if ft.Image, err = detectImage(root, hints); err != nil {
			return err
		}
	}
	if ft.Label == "" {
		var keys []string
		for _, p := range f.partitions {
			keys = append(keys, p.Key)
		}
		ft.Label = detectLabel(root, hints, keys)
	}
	ft.Text = detectText(root)
	d.features = ft
	return nil
}

// rowID is the id of a row without an id column.
func (f *file) rowID(row int64) string { return fmt.Sprintf("%s#%d", filepath.ToSlash(f.name), row) }
