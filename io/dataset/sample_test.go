package dataset

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// webEntries are two shards' worth of samples, with the traps of the layout.
var webEntries = []entry{
	{"0001.cls", "3\n"}, {"0001.jpg", "one"}, {"0001.json", `{"a":1}`}, {"0001.mask.png", "m1"}, {"0001.txt", "\xef\xbb\xbfa cat\r\n"},
	{"0002.cls", "1"}, {"0002.jpg", "two"}, {"0002.mask.png", "m2"}, {"0002.txt", ""},
	{"0003.jpg", "three"}, {"0003.json", "{}"}, {"0003.txt", "bad \xff"}, {"0003.cls", "x"},
}

func sampleLine(r Row) string {
	s := fmt.Sprintf("%s=%s %d %v %s %q", r.ID, r.Image, r.Label, r.HasLabel, ClassOf(r.LabelErr), r.Values)
	for _, m := range r.Images {
		s += fmt.Sprintf(" %s %s", m.Bytes, ClassOf(m.Err))
	}
	return s
}

// sampleCarriers writes entries in every form; the folder and the zip file are in the order of names as the entries are.
func sampleCarriers(t *testing.T, list []entry) map[string]string {
	dir := t.TempDir()
	packed := makeTar(t, list)
	return map[string]string{
		"tar": writeFile(t, packed, dir, "a.tar"), "tgz": writeFile(t, makeGzip(t, packed), dir, "a.tgz"), "zst": writeFile(t, makeZstd(t, packed), dir, "a.tar.zst"),
		"zip": writeFile(t, makeZip(t, list), dir, "a.zip"), "folder": writeTree(t, filepath.Join(dir, "tree"), list),
	}
}

func TestSamples(t *testing.T) {
	want := []string{
		`0001.jpg=one 3 true  ["a cat" "{\"a\":1}"] m1 `,
		`0002.jpg=two 1 true  ["" <nil>] m2 `,
		`0003.jpg=three -1 false row.label ["bad ` + "\uFFFD" + `" "{}"]  row.path_missing`,
	}
	for name, path := range sampleCarriers(t, webEntries) {
		for _, spec := range []Spec{{Image: "jpg", Images: []string{"mask.png"}}, {Image: "JPG", Images: []string{"mask"}, Label: "cls"}, {Images: []string{"mask.png"}}} {
			t.Run(name+spec.Image, func(t *testing.T) {
				spec.Path, spec.Columns = path, []string{"txt", "json"}
				d, err := Open(context.Background(), spec, Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if ft := d.Features(); ft.Label != "cls" || ft.TextLabel || len(ft.Columns) != 2 || ft.Columns[0].Kind != KindString {
					t.Errorf("%+v", ft)
				}
				for from := range d.NumRows() + 1 {
					var got []string
					for row, err := range d.Rows(context.Background(), from, d.NumRows()) {
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, sampleLine(row))
					}
					if !slices.Equal(got, want[from:]) {
						t.Errorf("from %d:\n%s\nwant\n%s", from, strings.Join(got, "\n"), strings.Join(want[from:], "\n"))
					}
				}
			})
		}
		// Without a word about columns: in a tar file the first picture of a sample is its row, elsewhere every picture is one.
		d, err := Open(context.Background(), Spec{Path: path}, Limits{})
		rows, further := int64(5), false
		if name == "tar" || name == "tgz" || name == "zst" {
			rows, further = 3, true
		}
		if err != nil || d.NumRows() != rows || len(d.Warnings()) != 1 || strings.Contains(d.Warnings()[0], "2 further pictures") != further {
			t.Errorf("%s: %d rows, %v, %q", name, d.NumRows(), err, d.Warnings())
		}
		for _, c := range []struct {
			spec  Spec
			class Class
		}{
			{Spec{Image: "webp"}, SchemaNoImage}, {Spec{Images: []string{"depth"}}, SchemaNoImage}, {Spec{Columns: []string{"caption"}}, SchemaNoColumn},
			{Spec{Label: "label"}, SchemaNoColumn}, {Spec{Label: "kind"}, SchemaNoColumn}, {Spec{ID: "txt"}, SchemaNoColumn}, {Spec{Label: "txt"}, "ok"},
		} {
			c.spec.Path = path
			if r := readAll(c.spec); r.class != c.class || c.class == "ok" && (!r.ft.TextLabel || r.rows[0].LabelName != "a cat") {
				t.Errorf("%s: %+v: %v, want %s", name, c.spec, r.err, c.class)
			}
		}
	}
}

// TestPlainTar checks that pictures of a tar file without columns are all rows, whatever dots their names have.
func TestPlainTar(t *testing.T) {
	list := []entry{{"x/frame.001.png", "1"}, {"x/frame.002.png", "2"}, {"x/frame.jpg", "3"}, {"y/a.v1.png", "4"}, {"y/a.v1_mask.png", "5"}, {"y/a.v1.txt", "t"}}
	for name, path := range sampleCarriers(t, list) {
		r := readAll(Spec{Path: path})
		if name == "folder" || name == "zip" {
			r = readAll(Spec{Path: path, Images: []string{"mask"}, Columns: []string{"txt"}})
			if r.err != nil || len(r.rows) != 4 || string(r.rows[3].Images[0].Bytes) != "5" || r.rows[3].Values[0] != "t" {
				t.Errorf("%s: %v %d rows", name, r.err, len(r.rows))
			}
			continue
		}
		// y/a has a file that is no picture: by the layout of samples, a is the key.
		if r.err != nil || len(r.rows) != 4 {
			t.Errorf("%s: %v %d rows", name, r.err, len(r.rows))
		}
		if n := strings.Count(fmt.Sprint(ids(r)), "x/frame"); n != 3 {
			t.Errorf("%s: %v", name, ids(r))
		}
	}
}

func ids(r result) (out []string) {
	for _, row := range r.rows {
		out = append(out, row.ID)
	}
	return out
}

// TestFarPairs reads masks that lie behind all pictures of a tar file.
func TestFarPairs(t *testing.T) {
	var list []entry
	for i := range 9 {
		list = append(list, entry{fmt.Sprintf("%d.png", i), fmt.Sprint("picture ", i)})
	}
	for i := range 9 {
		list = append(list, entry{fmt.Sprintf("%d_mask.png", 8-i), fmt.Sprint("mask ", 8-i)})
	}
	for name, path := range sampleCarriers(t, list) {
		r := readAll(Spec{Path: path, Images: []string{"mask"}})
		if r.err != nil || len(r.rows) != 9 {
			t.Fatalf("%s: %v, %d rows", name, r.err, len(r.rows))
		}
		for i, row := range r.rows {
			if string(row.Image) != fmt.Sprint("picture ", i) || string(row.Images[0].Bytes) != fmt.Sprint("mask ", i) {
				t.Errorf("%s: row %d is %q with %q", name, i, row.Image, row.Images[0].Bytes)
			}
		}
	}
}

// TestParkedTar checks that ranges in order unpack a compressed file once, and that ranges in any order and at a time are right.
func TestParkedTar(t *testing.T) {
	var list []entry
	for i := range 40 {
		list = append(list, entry{fmt.Sprintf("%02d.png", i), strings.Repeat(fmt.Sprint(i), 500)}, entry{fmt.Sprintf("%02d.txt", i), fmt.Sprint(i)})
	}
	path := writeFile(t, makeGzip(t, makeTar(t, list)), t.TempDir(), "a.tar.gz")
	d, err := Open(context.Background(), Spec{Path: path, Columns: []string{"txt"}}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var started int
	store := d.files[0].store.(*tarStore)
	unpack := store.unpack
	store.unpack = func(r io.Reader) (io.ReadCloser, error) { started++; return unpack(r) }
	read := func(from, to int64) {
		for row, err := range d.Rows(context.Background(), from, to) {
			if want := fmt.Sprint(row.Index); err != nil || row.Values[0] != want || string(row.Image) != strings.Repeat(want, 500) {
				t.Errorf("row %d: %v %v", row.Index, err, row.Values)
			}
		}
	}
	for from := int64(0); from < 40; from += 5 {
		read(from, from+5)
	}
	if started != 1 {
		t.Errorf("unpacked %d times for 8 ranges in order", started)
	}
	read(10, 12)
	read(30, 40)
	if started != 2 {
		t.Errorf("unpacked %d times after a step back", started)
	}
	done := make(chan bool)
	store.unpack = unpack
	for k := range int64(4) {
		go func() {
			for from := k; from < 40; from += 4 {
				read(from, from+1)
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
	if err := os.WriteFile(path, []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err = range d.Rows(context.Background(), 0, 1) {
	}
	if ClassOf(err) != FileChanged {
		t.Errorf("changed file: %v", err)
	}
}

// TestLinkedFolder reads a folder through a link to it.
func TestLinkedFolder(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, filepath.Join(dir, "tree"), []entry{{"a.png", "a"}, {"b/c.png", "c"}})
	if err := os.Symlink("tree", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if r := readAll(Spec{Path: filepath.Join(dir, "link")}); r.err != nil || !slices.Equal(ids(r), []string{"a.png", "b/c.png"}) || string(r.rows[1].Image) != "c" {
		t.Errorf("%v %v", r.err, ids(r))
	}
}

// FuzzSamples reads WebDataset shards: keys, captions, labels, partners, from a plain and from a packed file.
func FuzzSamples(f *testing.F) {
	f.Add(makeTar(f, webEntries))
	f.Add(makeTar(f, []entry{{"b.txt", "1"}, {"a.jpg", "x"}, {"b.jpg", "y"}, {"a.cls", "2"}, {"a.txt", ""}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, spec := range []Spec{{Image: "jpg", Images: []string{"mask.png"}, Columns: []string{"txt", "json"}, Label: "cls"}, {Columns: []string{"txt"}}, {}} {
			readSpec(t, "a.tar", b, spec)
		}
	})
}
