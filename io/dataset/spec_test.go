package dataset

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/parquet-go/parquet-go/encoding/thrift"
)

func nullOf[T any](v T) thrift.Null[T] { return thrift.New(v) }

func marshalThrift(t testing.TB, v any) []byte {
	t.Helper()
	b, err := thrift.Marshal(new(thrift.CompactProtocol), v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type genPlain struct {
	Image []byte  `parquet:"image"`
	Label *string `parquet:"label,optional"`
	ID    *string `parquet:"id,optional"`
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		ok   bool
	}{
		{Spec{Path: "a"}, true},
		{Spec{Path: "a", Columns: []string{"x", "y"}, Images: []string{"mask"}}, true},
		{Spec{}, false},
		{Spec{Path: " "}, false},
		{Spec{Path: "a\x00b"}, false},
		{Spec{Path: "a", Limit: -1}, false},
		{Spec{Path: "a", Columns: []string{"x", "x"}}, false},
		{Spec{Path: "a", Columns: []string{""}}, false},
		{Spec{Path: "a", Image: "m", Images: []string{"m"}}, false},
	} {
		_, err := Open(context.Background(), c.spec, Limits{})
		if got := exitcode.Of(err) != exitcode.Usage; got != c.ok {
			t.Errorf("%+v: %v", c.spec, err)
		}
	}
}

// touch writes a small data set file of n rows.
func touch(t *testing.T, n int, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	writeGenerated(t, path, slices.Repeat([]genPlain{{Image: []byte(path)}}, n), []int{n})
	return path
}

func TestFindFiles(t *testing.T) {
	dir := t.TempDir()
	touch(t, 1, dir, "b.parquet")
	touch(t, 2, dir, "a.parquet")
	touch(t, 3, dir, "sub", "k=1", "a.parquet")
	touch(t, 3, dir, "x,y.parquet")
	touch(t, 3, dir, "[odd]", "a.parquet")
	touch(t, 3, dir, "_hidden", "c.parquet")
	touch(t, 3, dir, ".d.parquet")
	if err := os.Symlink(filepath.Join(dir, "b.parquet"), filepath.Join(dir, "link.parquet")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p := func(s string) string { return strings.ReplaceAll(s, "$", dir) }
	for _, c := range []struct {
		path string
		want string // names
		code exitcode.Code
	}{
		{"$/a.parquet", "a.parquet", 0},
		{"$/b.parquet, $/a.parquet,", "b.parquet a.parquet", 0},
		{"$/*.parquet", "a.parquet b.parquet link.parquet x,y.parquet", 0},
		{"$", "[odd]/a.parquet a.parquet b.parquet link.parquet sub/k=1/a.parquet x,y.parquet", 0},
		{"$/x,y.parquet", "x,y.parquet", 0},
		{"$/[odd]", "a.parquet", 0},
		{"$/a.parquet,$/*.parquet", "a.parquet b.parquet link.parquet x,y.parquet", 0},
		{"$/a.parquet,$/sub", "a.parquet k=1/a.parquet", 0},
		{"$/a.parquet,$/sub/k=*/a.parquet", "$/a.parquet $/sub/k=1/a.parquet", 0},
		{"$/missing.parquet", "", exitcode.NoInput},
		{"$/missing-*.parquet", "", exitcode.NoInput},
		{"$/a.parquet,$/missing", "", exitcode.NoInput},
		{"$/**/a.parquet", "", exitcode.Usage},
		{"$/[", "", exitcode.Usage},
	} {
		all, _, err := findFiles(p(c.path))
		if exitcode.Of(err) != c.code {
			t.Errorf("%s: %v", c.path, err)
		}
		var names []string
		for _, f := range all {
			names = append(names, f.name)
		}
		if got := strings.Join(names, " "); got != p(c.want) {
			t.Errorf("%s: %s, want %s", c.path, got, p(c.want))
		}
	}
	d, err := Open(context.Background(), Spec{Path: filepath.Join(dir, "*.parquet"), Limit: 2}, Limits{})
	if err != nil || d.NumRows() != 2 || len(d.Files()) != 1 {
		t.Errorf("limit of 2: %v", err)
	}
	if f := d.Files()[0]; f.Rows != 2 || len(f.FooterSHA256) != 64 || f.RowGroups != 1 {
		t.Errorf("file %+v", f)
	}
	for _, r := range [][2]int64{{0, 3}, {-1, 1}, {2, 1}} {
		for _, err := range d.Rows(context.Background(), r[0], r[1]) {
			if err == nil {
				t.Errorf("rows %v of 2 are read", r)
			}
		}
	}
}

func TestNamedColumns(t *testing.T) {
	dir, list := readOdd(t)
	for _, c := range []struct {
		spec  Spec
		class Class
		base  bool
	}{
		{Spec{Path: "two_images.parquet", Image: "b"}, "ok", false},
		{Spec{Path: "two_images.parquet", Image: "a", Images: []string{"b"}}, "ok", true},
		{Spec{Path: "dotted.parquet", Image: "image.bytes"}, "ok", true},
		{Spec{Path: "struct.parquet", Image: "image.bytes"}, "ok", true},
		{Spec{Path: "struct.parquet", Image: "label"}, SchemaUnsupported, false},
		{Spec{Path: "struct.parquet", Image: "none"}, SchemaNoImage, false},
		{Spec{Path: "struct.parquet", Images: []string{"mask"}}, SchemaNoImage, false},
		{Spec{Path: "struct.parquet", ID: "none"}, SchemaNoColumn, false},
		{Spec{Path: "struct.parquet", Label: "none"}, SchemaNoColumn, false},
		{Spec{Path: "struct.parquet", Columns: []string{"none"}}, SchemaNoColumn, false},
		{Spec{Path: "struct.parquet", ID: "image.path"}, "ok", true},
		{Spec{Path: "struct.parquet", Columns: []string{"image.path", "label"}}, "ok", true},
		{Spec{Path: "struct.parquet", ID: "image"}, SchemaUnsupported, false},
		{Spec{Path: "extra_columns.parquet", Columns: []string{"when", "price", "half", "day"}}, "ok", true},
		{Spec{Path: "extra_columns.parquet", Columns: []string{"tags"}}, SchemaUnsupported, false},
		{Spec{Path: "extra_columns.parquet", Columns: []string{"boxes"}}, "ok", true},
		{Spec{Path: "extra_columns.parquet", Columns: []string{"none"}}, SchemaUnsupported, false},
		{Spec{Path: "captions_list.parquet", Columns: []string{"captions"}}, "ok", true},
		{Spec{Path: "label_lists.parquet", Columns: []string{"labels"}}, "ok", true},
		{Spec{Path: "label_lists.parquet", Label: "labels"}, SchemaUnsupported, false},
		{Spec{Path: "label_string.parquet", Label: "label"}, "ok", true},
		{Spec{Path: "unicode.parquet", Image: "图像", Columns: []string{"étiquette"}}, "ok", true},
		{Spec{Path: "binary_not_image.parquet", Image: "embedding"}, "ok", false},
	} {
		t.Run(c.spec.Path+"-"+c.spec.Image, func(t *testing.T) {
			spec := c.spec
			spec.Path = filepath.Join(dir, spec.Path)
			r := readAll(spec)
			if r.class != c.class {
				t.Fatalf("%+v: class %q (%v), want %q", c.spec, r.class, r.err, c.class)
			}
			if c.base {
				checkBase20(t, r, list)
			}
			for _, row := range r.rows {
				if len(row.Values) != len(spec.Columns) || len(row.Images) != len(spec.Images) {
					t.Fatalf("%d values, %d images", len(row.Values), len(row.Images))
				}
			}
		})
	}
}

// TestLabels compares text labels, and ids, of a file written here.
func TestLabels(t *testing.T) {
	s := func(x string) *string { return &x }
	recs := []genPlain{{[]byte("1"), s("cat"), s("a")}, {[]byte("2"), s("bird"), s("b")}, {[]byte("3"), nil, nil}}
	dir := t.TempDir()
	plain, named := filepath.Join(dir, "plain.parquet"), filepath.Join(dir, "named.parquet")
	writeGenerated(t, plain, recs, []int{3})
	writeGenerated(t, named, recs, []int{3}, writeFeatures(map[string]any{"label": map[string]any{"_type": "ClassLabel", "names": []string{"dog", "cat"}}}))
	r := readAll(Spec{Path: plain, ID: "id"})
	if r.err != nil || !r.ft.TextLabel || r.rows[0].LabelName != "cat" || !r.rows[0].HasLabel || r.rows[0].Label != -1 || r.rows[1].ID != "b" {
		t.Errorf("%v %+v", r.err, r.rows)
	}
	if x := r.rows[2]; ClassOf(x.Err) != RowID || x.Image != nil || ClassOf(x.LabelErr) != RowLabel {
		t.Errorf("null id: %v; null label: %v", x.Err, x.LabelErr)
	}
	r = readAll(Spec{Path: named})
	if r.err != nil || r.rows[0].Label != 1 || ClassOf(r.rows[1].LabelErr) != RowLabel || r.rows[0].ID != "named.parquet#0" {
		t.Errorf("%v %+v", r.err, r.rows)
	}
	if r = readAll(Spec{Path: plain + "," + named}); r.class != SchemaMismatch || !strings.Contains(r.err.Error(), "named.parquet") {
		t.Errorf("other class names: %v", r.err)
	}
}

// TestPictures reads a folder of picture files.
func TestPictures(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"dog/b.JPG": "1", "cat/a.png": "2", "cat/deep/c.webp": "3", "cat/notes.txt": "4", "cat/z.gif": ""} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := readAll(Spec{Path: dir})
	if r.err != nil || len(r.rows) != 4 || !slices.Equal(r.ft.ClassNames, []string{"cat", "dog"}) {
		t.Fatalf("%v, %d rows, %v", r.err, len(r.rows), r.ft.ClassNames)
	}
	if x := r.rows[1]; x.ID != "cat/deep/c.webp" || string(x.Image) != "3" || x.LabelName != "cat" {
		t.Errorf("%+v", x)
	}
	if x := r.rows[3]; x.ID != "dog/b.JPG" || x.Label != 1 || x.Index != 3 {
		t.Errorf("%+v", x)
	}
	if ClassOf(r.rows[2].Err) != RowEmpty {
		t.Errorf("empty file: %v", r.rows[2].Err)
	}
	if r := readAll(Spec{Path: filepath.Join(dir, "cat", "deep")}); r.err != nil || len(r.rows) != 1 || r.ft.Label != "" {
		t.Errorf("folder without classes: %v", r.err)
	}
	if r := readAll(Spec{Path: dir, Columns: []string{"caption"}}); r.class != SchemaNoColumn {
		t.Errorf("columns of a folder of pictures: %v", r.err)
	}
	if r := readAll(Spec{Path: t.TempDir()}); exitcode.Of(r.err) != exitcode.NoInput {
		t.Errorf("empty folder: %v", r.err)
	}
}

// TestPathsStayInside checks that links, pipes and large files below the root are not read.
func TestPathsStayInside(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path, content string) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "secret.jpg"), "secret")
	write(filepath.Join(root, "in.jpg"), "inside")
	for from, to := range map[string]string{"out.jpg": "../secret.jpg", "abs.jpg": filepath.Join(dir, "secret.jpg"), "ok.jpg": "in.jpg", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := mkfifo(filepath.Join(root, "pipe.jpg")); err != nil {
		t.Logf("no pipe: %v", err)
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, c := range []struct {
		path  string
		class Class
	}{
		{"in.jpg", ""}, {"ok.jpg", ""}, {"./in.jpg", ""},
		{"out.jpg", RowPathRefused}, {"abs.jpg", RowPathRefused}, {"up/secret.jpg", RowPathRefused}, {"../secret.jpg", RowPathRefused},
		{"", RowPathRefused}, {"in.jpg\x00", RowPathRefused}, {"http://x/in.jpg", RowPathRefused},
		{"none.jpg", RowPathMissing}, {"pipe.jpg", RowPathMissing}, {".", RowPathMissing}, {"in.jpg/x", RowPathMissing},
	} {
		b, err := byPath(r, c.path, 100)
		if ClassOf(err) != c.class || (err == nil) != (string(b) == "inside") {
			t.Errorf("%q: %q, %v; want class %q", c.path, b, err, c.class)
		}
	}
	if _, err := byPath(r, "in.jpg", 3); ClassOf(err) != RowTooLarge {
		t.Errorf("file over the limit: %v", err)
	}
}

func TestChangedFile(t *testing.T) {
	path := touch(t, 3, t.TempDir(), "a.parquet")
	d, err := Open(context.Background(), Spec{Path: path}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(bytes.Clone(b), 0), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err = range d.Rows(context.Background(), 0, 3) {
	}
	if ClassOf(err) != FileChanged || exitcode.Of(err) != exitcode.Data {
		t.Errorf("changed file: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, err = range d.Rows(context.Background(), 0, 3) {
	}
	if !errors.Is(err, fs.ErrNotExist) || exitcode.Of(err) != exitcode.NoInput {
		t.Errorf("removed file: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, Spec{Path: touch(t, 3, t.TempDir(), "a.parquet")}, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled open: %v", err)
	}
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o644) }
