package dataset

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// entry is a file of an archive; content is made of nothing but it.
type entry struct{ name, content string }

var sampleEntries = []entry{
	{"cat/b.png", "b"}, {"cat/b_mask.png", "mask of b"}, {"README.txt", "no picture"}, {"cat/a.JPG", strings.Repeat("a", 3000)},
	{"./cat/deep/c.webp", "c"}, {"cat/.hidden.png", "h"}, {"__MACOSX/._a.png", "h"}, {"dog/e.gif", ""}, {"dog/e_mask.jpg", "mask of e"},
	{"dog/d.png", "d"}, {"dog/halloween_mask.png", "a row"}, {"cat/a_mask.gif", "mask of a"}, {"dog/d_mask.png", "1"}, {"dog/d_mask.bmp", "2"},
}

func makeZip(t testing.TB, list []entry) []byte {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i, e := range list {
		f, err := w.CreateHeader(&zip.FileHeader{Name: e.name, Method: []uint16{zip.Store, zip.Deflate}[i%2]})
		if err == nil {
			_, err = f.Write([]byte(e.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func makeTar(t testing.TB, list []entry) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range list {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.content)), Mode: 0o644})
		if err == nil {
			_, err = w.Write([]byte(e.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func makeGzip(t testing.TB, b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func makeZstd(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func writeFile(t testing.TB, b []byte, elem ...string) string {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeTree(t testing.TB, dir string, list []entry) string {
	for _, e := range list {
		writeFile(t, []byte(e.content), dir, e.name)
	}
	return dir
}

// carriers writes the sample in every form.
func carriers(t testing.TB) map[string]string {
	dir := t.TempDir()
	packed := makeTar(t, sampleEntries)
	return map[string]string{
		"folder": writeTree(t, filepath.Join(dir, "tree"), sampleEntries),
		"zip":    writeFile(t, makeZip(t, sampleEntries), dir, "a.zip"),
		"tar":    writeFile(t, packed, dir, "a.tar"),
		"tgz":    writeFile(t, makeGzip(t, packed), dir, "a.tgz"),
		"tar.gz": writeFile(t, makeGzip(t, packed), dir, "a.tar.gz"),
		"zst":    writeFile(t, makeZstd(t, packed), dir, "a.tar.zst"),
	}
}

// line spells what matters of a row.
func line(r Row) string {
	s := fmt.Sprintf("%s %q %s %d", r.ID, r.Image[:min(3, len(r.Image))], ClassOf(r.Err), r.Label)
	for _, m := range r.Images {
		s += fmt.Sprintf(" %q %s", m.Bytes, ClassOf(m.Err))
	}
	return s
}

func lines(t *testing.T, d *Dataset, from, to int64) (out []string) {
	t.Helper()
	var rows []Row
	for row, err := range d.Rows(context.Background(), from, to) {
		if err != nil {
			t.Fatal(err)
		}
		if row.Index != from+int64(len(out)) || row.Path != row.ID || (row.Image == nil) != (row.Err != nil) {
			t.Fatalf("row %+v", row)
		}
		if l := d.Locate(row.Index); l.File != row.File || l.RowInFile != row.RowInFile || l.RowInGroup != row.RowInGroup {
			t.Errorf("row %d lies at %+v", row.Index, l)
		}
		out, rows = append(out, line(row)), append(rows, row)
	}
	if err := sameNames(d, rows, from); err != nil {
		t.Error(err)
	}
	return out
}

func TestCarriers(t *testing.T) {
	sorted := []string{
		`cat/a.JPG "aaa"  0 "mask of a" `, `cat/b.png "b"  0 "mask of b" `, `cat/deep/c.webp "c"  0 "" row.path_missing`,
		`dog/d.png "d"  1 "" row.ambiguous`, `dog/e.gif "" row.empty 1 "mask of e" `, `dog/halloween_mask.png "a r"  1 "" row.path_missing`,
	}
	stored := []string{sorted[1], sorted[0], sorted[2], sorted[4], sorted[3], sorted[5]}
	for name, path := range carriers(t) {
		t.Run(name, func(t *testing.T) {
			want := stored
			if name == "folder" || name == "zip" {
				want = sorted
			}
			d, err := Open(context.Background(), Spec{Path: path, Images: []string{"mask"}}, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			n := d.NumRows()
			for from := range n + 1 {
				if got := lines(t, d, from, n); !slices.Equal(got, want[from:]) {
					t.Errorf("from %d:\n%s\nwant\n%s", from, strings.Join(got, "\n"), strings.Join(want[from:], "\n"))
				}
			}
			if ft := d.Features(); !slices.Equal(ft.ClassNames, []string{"cat", "dog"}) || ft.Label != "label" {
				t.Errorf("%+v", ft)
			}
			if w := d.Warnings(); len(w) != 1 || !strings.Contains(w[0], "3 files") || !strings.Contains(w[0], "1 that are not pictures, 2 that are hidden") {
				t.Errorf("warnings %q", w)
			}
			need, err := d.MemoryNeed(context.Background())
			if b := d.MemoryBound(); err != nil || b != need || b != 3009 {
				t.Errorf("memory %d, %d, %v", b, need, err)
			}
			f := d.Files()[0]
			if len(d.Files()) != 1 || f.Name != filepath.Base(path) || f.Rows != n || f.RowGroups != 1 || len(f.FooterSHA256) != 64 || f.Size <= 3000 && name == "tar" {
				t.Errorf("file %+v", f)
			}
			d, err = Open(context.Background(), Spec{Path: path, Limit: 2}, Limits{MaxImageBytes: 100})
			if err != nil || d.NumRows() != 2 {
				t.Fatalf("limit: %v", err)
			}
			large := 0
			for row, err := range d.Rows(context.Background(), 0, 2) {
				if err != nil || len(row.Images) != 0 {
					t.Fatal(err)
				}
				if ClassOf(row.Err) == RowTooLarge {
					large++
				}
			}
			if large != 1 && (name == "folder" || name == "zip") {
				t.Errorf("%d pictures over the limit", large)
			}
			again, err := Open(context.Background(), Spec{Path: path}, Limits{})
			if err != nil || again.NumRows() != 11 {
				t.Errorf("without the column, masks are rows: %d, %v", again.NumRows(), err)
			}
		})
	}
}

// TestIdentity changes a picture by a byte, in every carrier.
func TestIdentity(t *testing.T) {
	sum := func(path string) string {
		d, err := Open(context.Background(), Spec{Path: path}, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		f := d.Files()[0]
		return fmt.Sprint(f.Size, f.FooterSHA256)
	}
	dir := t.TempDir()
	one, two := []entry{{"a.png", "1"}, {"b.png", "12"}}, []entry{{"a.png", "12"}, {"b.png", "1"}}
	for name, pack := range map[string]func([]entry) []byte{
		"a.zip":    func(l []entry) []byte { return makeZip(t, l) },
		"a.tar":    func(l []entry) []byte { return makeTar(t, l) },
		"a.tar.gz": func(l []entry) []byte { return makeGzip(t, makeTar(t, l)) },
	} {
		path := writeFile(t, pack(one), dir, name)
		before := sum(path)
		writeFile(t, pack(one), dir, name)
		if sum(path) != before {
			t.Errorf("%s: the same content has another identity", name)
		}
		writeFile(t, pack(two), dir, name)
		if sum(path) == before {
			t.Errorf("%s: other content has the same identity", name)
		}
	}
	// The central directory of a zip file holds checksums, so there it takes no change of sizes.
	path := writeFile(t, makeZip(t, []entry{{"a.png", "1"}}), dir, "c.zip")
	before := sum(path)
	writeFile(t, makeZip(t, []entry{{"a.png", "2"}}), dir, "c.zip")
	if sum(path) == before {
		t.Error("zip: another byte has the same identity")
	}
}

func TestDamagedArchives(t *testing.T) {
	list := []entry{{"a.png", strings.Repeat("a", 700)}, {"b.png", strings.Repeat("b", 700)}}
	z, p := makeZip(t, list), makeTar(t, list)
	twice := append(slices.Clone(list), list[0])
	crc := bytes.Clone(z)
	crc[bytes.Index(crc, []byte("aaaa"))]++
	hostile := []entry{{"../up.png", "1"}, {"/abs.png", "2"}, {"a\\b.png", "3"}, {"ok.png", "4"}}
	for _, c := range []struct {
		name  string
		b     []byte
		class Class
		rows  string // classes
	}{
		{"whole.zip", z, "ok", " "},
		{"cut.zip", z[:len(z)-30], FileTruncated, ""},
		{"cut2.zip", z[:300], FileTruncated, ""},
		{"text.zip", []byte("a,b\n1,2\n"), FileNotArchive, ""},
		{"empty.zip", nil, FileEmpty, ""},
		{"twice.zip", makeZip(t, twice), FileDuplicate, ""},
		{"crc.zip", crc, "ok", "row.unreadable "},
		{"hostile.zip", makeZip(t, hostile), "ok", "row.path_refused row.path_refused row.path_refused "},
		{"whole.tar", p, "ok", " "},
		{"cut.tar", p[:len(p)-1024], FileTruncated, ""},
		{"cut2.tar", p[:600], FileTruncated, ""},
		{"cut3.tar", p[:512+1024], FileTruncated, ""},
		{"text.tar", bytes.Repeat([]byte("a,b\n1,2\n"), 100), FileNotArchive, ""},
		{"empty.tar", nil, FileEmpty, ""},
		{"twice.tar", makeTar(t, twice), FileDuplicate, ""},
		{"hostile.tar", makeTar(t, hostile), "ok", "row.path_refused row.path_refused row.path_refused "},
		{"whole.tar.gz", makeGzip(t, p), "ok", " "},
		{"cut.tar.gz", makeGzip(t, p)[:40], FileTruncated, ""},
		{"cut2.tar.gz", makeGzip(t, p[:1200]), FileTruncated, ""},
		{"plain.tar.gz", p, FileNotArchive, ""},
		{"packed.tar", makeGzip(t, p), FileNotArchive, ""},
		{"cut.tar.zst", makeZstd(t, p)[:20], FileTruncated, ""},
		{"plain.tar.zst", p, FileNotArchive, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := readAll(Spec{Path: writeFile(t, c.b, t.TempDir(), c.name)})
			if r.class != c.class {
				t.Fatalf("class %q (%v), want %q", r.class, r.err, c.class)
			}
			if r.err != nil {
				if exitcode.Of(r.err) != exitcode.Data || !strings.Contains(r.err.Error(), c.name) {
					t.Errorf("exit code %d: %v", exitcode.Of(r.err), r.err)
				}
				return
			}
			var classes []string
			for _, row := range r.rows {
				classes = append(classes, string(ClassOf(row.Err)))
			}
			if got := strings.Join(classes, " "); got != c.rows {
				t.Errorf("rows are %q, want %q", got, c.rows)
			}
		})
	}
}

// TestLinksOfTrees checks that nothing outside of a tree is read, and that what cannot be read is a row.
func TestLinksOfTrees(t *testing.T) {
	dir := t.TempDir()
	tree := writeTree(t, filepath.Join(dir, "tree"), []entry{{"in/a.png", "a"}, {"a.b/c.png", "c"}, {"a.png", "b"}})
	writeFile(t, []byte("secret"), dir, "secret.png")
	for from, to := range map[string]string{"out.png": "../secret.png", "abs.png": filepath.Join(dir, "secret.png"), "ok.png": "in/a.png",
		"none.png": "nowhere.png", "folder.png": "in", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(tree, from)); err != nil {
			t.Fatal(err)
		}
	}
	if err := mkfifo(filepath.Join(tree, "pipe.png")); err != nil {
		t.Logf("no pipe: %v", err)
	}
	r := readAll(Spec{Path: tree})
	var got []string
	for _, row := range r.rows {
		got = append(got, fmt.Sprintf("%s %s %s", row.ID, row.Image, ClassOf(row.Err)))
	}
	want := []string{"a.b/c.png c ", "a.png b ", "abs.png  row.path_refused", "in/a.png a ", "none.png  row.path_missing", "ok.png a ", "out.png  row.path_refused"}
	if r.err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%q, want\n%q", r.err, got, want)
	}
	d, err := Open(context.Background(), Spec{Path: tree}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(tree, "a.png")); err != nil {
		t.Fatal(err)
	}
	for row, err := range d.Rows(context.Background(), 1, 2) {
		if err != nil || ClassOf(row.Err) != RowPathMissing {
			t.Errorf("removed picture: %v, %v", row.Err, err)
		}
	}
}

// TestMixed reads lists of archives, folders and files.
func TestMixed(t *testing.T) {
	dir := t.TempDir()
	a := writeFile(t, makeZip(t, []entry{{"1.png", "a"}}), dir, "a.zip")
	b := writeFile(t, makeTar(t, []entry{{"1.png", "b"}}), dir, "sub", "b.tar")
	tree := writeTree(t, filepath.Join(dir, "tree"), []entry{{"1.png", "c"}, {"2.png", "d"}})
	table := touch(t, 1, dir, "t", "a.parquet")
	writeFile(t, []byte("x"), dir, "t", "x.png")
	for _, c := range []struct{ path, want string }{
		{a + "," + b, "a.zip/1.png=a b.tar/1.png=b"},
		{dir + "/sub", "1.png=b"},
		{a + "," + tree + "," + b, "a.zip/1.png=a 1.png=c 2.png=d b.tar/1.png=b"},
		{tree + "/2.png," + tree + "/1.png", "2.png=d 1.png=c"},
		{tree + "/*.png", "1.png=c 2.png=d"},
		{filepath.Dir(table), "a.parquet#0=" + table},
		{a + "," + table, "schema.mismatch"},
	} {
		r := readAll(Spec{Path: c.path})
		var got []string
		for _, row := range r.rows {
			got = append(got, row.ID+"="+string(row.Image))
		}
		if r.err != nil {
			got = append(got, string(r.class))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s (%v), want %s", c.path, s, r.err, c.want)
		}
	}
}

// readArchive reads all of an archive given as bytes; nothing may panic, and counts must agree.
func readArchive(t *testing.T, name string, b []byte) {
	readSpec(t, name, b, Spec{Images: []string{"mask"}})
}

func readSpec(t *testing.T, name string, b []byte, spec Spec) {
	spec.Path = writeFile(t, b, t.TempDir(), name)
	d, err := Open(context.Background(), spec, Limits{Memory: 1 << 20, MaxImageBytes: 1 << 16})
	if err != nil {
		if ClassOf(err) == "" && exitcode.Of(err) != exitcode.NoInput {
			t.Fatalf("error without class: %v", err)
		}
		if strings.Contains(err.Error(), "decoder panic") {
			t.Fatal(err)
		}
		return
	}
	n := int64(0)
	ids := map[string]bool{}
	for row, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err == nil {
			err = row.Err
			n++
			if ids[row.ID] {
				t.Fatalf("id %q comes twice", row.ID)
			}
			ids[row.ID] = true
		} else {
			n = d.NumRows()
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || strings.Contains(err.Error(), "decoder panic")) {
			t.Fatal(err)
		}
	}
	if n != d.NumRows() {
		t.Fatalf("%d rows of %d", n, d.NumRows())
	}
}

// TestArchiveMutations damages archives by bits and cuts.
func TestArchiveMutations(t *testing.T) {
	packed := makeTar(t, fuzzEntries)
	for name, src := range map[string][]byte{"a.zip": makeZip(t, fuzzEntries), "a.tar": packed, "a.tgz": makeGzip(t, packed), "a.tar.zst": makeZstd(t, packed)} {
		rnd := rand.New(rand.NewPCG(5, uint64(len(name))))
		for i := range 200 {
			b := bytes.Clone(src)
			for range 1 + rnd.IntN(3) {
				b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			}
			if i%8 == 7 {
				b = b[:rnd.IntN(len(b))]
			}
			readArchive(t, name, b)
		}
	}
}

var fuzzEntries = []entry{{"a/b.png", "b"}, {"a/b_mask.png", "m"}, {"c.jpg", ""}}

func FuzzZip(f *testing.F) {
	f.Add(makeZip(f, fuzzEntries))
	f.Fuzz(func(t *testing.T, b []byte) { readArchive(t, "a.zip", b) })
}

func FuzzTar(f *testing.F) {
	f.Add(makeTar(f, fuzzEntries))
	f.Fuzz(func(t *testing.T, b []byte) { readArchive(t, "a.tar", b) })
}

func FuzzTarGzip(f *testing.F) {
	f.Add(makeGzip(f, makeTar(f, fuzzEntries)))
	f.Fuzz(func(t *testing.T, b []byte) { readArchive(t, "a.tgz", b) })
}
