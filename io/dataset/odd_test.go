package dataset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/io/picture"
)

// anyOf is a class or a list of classes of which any is fine.
type anyOf []string

func (a *anyOf) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = anyOf{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

type badRow struct {
	Row   int64
	Class anyOf
}

type oddFile struct {
	Path, Note  string
	Rows, Good  int64
	Outcome     anyOf
	ImageColumn string   `json:"image_column"`
	TextColumn  string   `json:"text_column"`
	BadRows     []badRow `json:"bad_rows"`
	BadLabels   []badRow `json:"bad_labels"`
	Content     string
	ChangedRows []int64 `json:"changed_rows"`
	RowGroups   int     `json:"row_groups"`
	GoodIfOK    *int64  `json:"good_if_ok"`
	SHA256Row1  string  `json:"sha256_row_1"`
	BytesRow1   int     `json:"bytes_row_1"`
	WhenAllowed *struct {
		Root    string
		Good    int64
		BadRows []badRow `json:"bad_rows"`
	} `json:"when_paths_allowed"`
	Partitions []struct {
		Split string
		Label *string
		IDs   []string
	}
}

type oddList struct {
	Base20 struct {
		SHA256     []string
		Label      []int64
		ClassNames []string `json:"class_names"`
	}
	Files []oddFile
}

func readOdd(t testing.TB) (dir string, list oddList) {
	t.Helper()
	dir = golden.Data(t, "odd")
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Files) == 0 {
		t.Fatal("the list of expectations is empty")
	}
	return dir, list
}

// TestOddListed checks that every file has an expectation and every expectation a file.
func TestOddListed(t *testing.T) {
	dir, list := readOdd(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, f := range list.Files {
		want[f.Path] = true
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".parquet") && !want[name] {
			t.Errorf("%s has no expectation", name)
		}
		delete(want, e.Name())
	}
	for name := range want {
		t.Errorf("%s is expected and not there", name)
	}
}

// result is what reading a whole data set gave.
type result struct {
	class Class // of the file, "ok" when every row was read
	err   error
	rows  []Row
	ft    Features
	files []FileInfo
	count int64 // NumRows
}

func readAll(spec Spec) result {
	d, err := Open(context.Background(), spec, Limits{})
	if err != nil {
		return result{class: ClassOf(err), err: err}
	}
	r := result{class: "ok", ft: d.Features(), files: d.Files(), count: d.NumRows()}
	for row, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err != nil {
			r.class, r.err = ClassOf(err), err
			break
		}
		r.rows = append(r.rows, row)
	}
	if r.class == "ok" {
		if err := sameNames(d, r.rows, 0); err != nil {
			return result{class: "names", err: err}
		}
	}
	return r
}

// sameNames checks that rows from a row on are named as they are read.
func sameNames(d *Dataset, rows []Row, from int64) error {
	i := 0
	for name, err := range d.Names(context.Background(), from, from+int64(len(rows))) {
		if err != nil {
			return err
		}
		if want := (Name{rows[i].ID, rows[i].Path}); name != want {
			return fmt.Errorf("row %d is called %+v where its name is %+v", from+int64(i), name, want)
		}
		i++
	}
	if i != len(rows) {
		return fmt.Errorf("%d names of %d rows", i, len(rows))
	}
	return nil
}

// rowClass is "ok" or the class of a row, decoding included.
func rowClass(r Row) string {
	if r.Err != nil {
		return string(ClassOf(r.Err))
	}
	_, err := picture.Decode(r.Image, picture.DefaultOptions())
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, picture.ErrTruncated):
		return "row.truncated"
	case errors.Is(err, picture.ErrTooLarge):
		return "row.too_large"
	case errors.Is(err, picture.ErrUnsupported):
		return "row.unsupported"
	}
	return "row.decode"
}

func checkRows(t *testing.T, r result, good int64, bad []badRow, changed []int64) {
	t.Helper()
	want := map[int64]anyOf{}
	for _, b := range bad {
		want[b.Row] = b.Class
		if slices.Contains(b.Class, "row.unsupported") { // need not be decoded, but may be
			want[b.Row] = append(slices.Clone(b.Class), "ok")
		}
	}
	for _, i := range changed {
		want[i] = anyOf{"ok", "row.decode", "row.truncated"}
	}
	var n, free int64
	for i, row := range r.rows {
		got := rowClass(row)
		w, listed := want[int64(i)]
		if !listed {
			w = anyOf{"ok"}
		}
		if !slices.Contains(w, got) {
			t.Errorf("row %d is %s, want %v (%v)", i, got, w, row.Err)
		}
		if got == "ok" {
			n++
		}
		if len(w) > 1 && slices.Contains(w, "ok") {
			free++
		}
		if row.Err == nil && len(row.Image) == 0 || row.Err != nil && row.Image != nil {
			t.Errorf("row %d has %d bytes and the error %v", i, len(row.Image), row.Err)
		}
		if row.Index != int64(i) {
			t.Errorf("row %d has index %d", i, row.Index)
		}
	}
	if n < good-free || n > good+free {
		t.Errorf("%d good rows, want %d", n, good)
	}
}

func TestOdd(t *testing.T) {
	dir, list := readOdd(t)
	for _, f := range list.Files {
		t.Run(f.Path, func(t *testing.T) {
			t.Parallel()
			r := readAll(Spec{Path: filepath.Join(dir, f.Path)})
			if !slices.Contains(f.Outcome, string(r.class)) {
				t.Fatalf("outcome %s (%v), want %v", r.class, r.err, f.Outcome)
			}
			if r.err != nil {
				t.Log(r.err)
				if !strings.Contains(r.err.Error(), f.Path) {
					t.Errorf("error does not name the file: %v", r.err)
				}
				if exitcode.Of(r.err) != exitcode.Data {
					t.Errorf("exit code %d, want %d", exitcode.Of(r.err), exitcode.Data)
				}
				return
			}
			if r.count != f.Rows || int64(len(r.rows)) != f.Rows {
				t.Errorf("%d rows, %d delivered, want %d", r.count, len(r.rows), f.Rows)
			}
			if f.ImageColumn != "" && r.ft.Image != f.ImageColumn {
				t.Errorf("image column %q, want %q", r.ft.Image, f.ImageColumn)
			}
			if f.TextColumn != "" && r.ft.Text != f.TextColumn {
				t.Errorf("text column %q, want %q", r.ft.Text, f.TextColumn)
			}
			if f.RowGroups != 0 && r.files[0].RowGroups != f.RowGroups {
				t.Errorf("%d row groups, want %d", r.files[0].RowGroups, f.RowGroups)
			}
			good := f.Good
			if f.GoodIfOK != nil {
				good = *f.GoodIfOK
			}
			checkRows(t, r, good, f.BadRows, f.ChangedRows)
			if f.Content == "base20" {
				checkBase20(t, r, list)
			}
			checkLabels(t, r, f, list)
			if f.SHA256Row1 != "" && (sha256Of(r.rows[1].Image) != f.SHA256Row1 || len(r.rows[1].Image) != f.BytesRow1) {
				t.Errorf("row 1 is %d bytes of %s", len(r.rows[1].Image), sha256Of(r.rows[1].Image))
			}
			if len(f.Partitions) > 0 {
				return // TestHive
			}
			if f.WhenAllowed != nil {
				a := readAll(Spec{Path: filepath.Join(dir, f.Path), AllowPaths: filepath.Join(dir, f.WhenAllowed.Root)})
				if a.err != nil {
					t.Fatal(a.err)
				}
				checkRows(t, a, f.WhenAllowed.Good, f.WhenAllowed.BadRows, nil)
				if f.WhenAllowed.Good == f.Rows {
					checkBase20(t, a, list)
				}
			}
		})
	}
}

func checkBase20(t *testing.T, r result, list oddList) {
	t.Helper()
	if len(r.rows) != len(list.Base20.SHA256) {
		t.Fatalf("%d rows, want %d", len(r.rows), len(list.Base20.SHA256))
	}
	for i, row := range r.rows {
		if got := sha256Of(row.Image); got != list.Base20.SHA256[i] {
			t.Errorf("row %d has other content (%d bytes)", i, len(row.Image))
		}
	}
}

// checkLabels compares labels where the file tells class names and the list does not mark the row.
func checkLabels(t *testing.T, r result, f oddFile, list oddList) {
	t.Helper()
	bad := map[int]bool{}
	for _, b := range f.BadLabels {
		bad[int(b.Row)] = true
		if got := ClassOf(r.rows[b.Row].LabelErr); !slices.Contains(b.Class, string(got)) {
			t.Errorf("label of row %d is %q, want %v", b.Row, got, b.Class)
		}
	}
	if f.Content != "base20" || !slices.Equal(r.ft.ClassNames, list.Base20.ClassNames) {
		return
	}
	for i, row := range r.rows {
		switch want := list.Base20.Label[i]; {
		case bad[i]:
		case row.LabelErr != nil:
			t.Errorf("row %d: %v", i, row.LabelErr)
		case !row.HasLabel && row.Label == -1 && strings.HasPrefix(f.Note, "-1 is no label"):
		case row.Label != want || row.LabelName != list.Base20.ClassNames[want] || !row.HasLabel:
			t.Errorf("row %d has label %d %q, want %d", i, row.Label, row.LabelName, want)
		}
	}
}

func sha256Of(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// TestHive checks columns that come from folder names.
func TestHive(t *testing.T) {
	dir, list := readOdd(t)
	var want []string
	for _, f := range list.Files {
		for _, p := range f.Partitions {
			label := "null"
			if p.Label != nil {
				label = *p.Label
			}
			for _, id := range p.IDs {
				want = append(want, fmt.Sprint(id, " ", p.Split, " ", label))
			}
		}
	}
	r := readAll(Spec{Path: filepath.Join(dir, "hive"), ID: "id", Columns: []string{"split", "label"}})
	if r.err != nil {
		t.Fatal(r.err)
	}
	if r.ft.Label != "label" || !r.ft.Columns[0].Partition {
		t.Errorf("features %+v", r.ft)
	}
	var got []string
	for _, row := range r.rows {
		label := row.Values[1]
		if label == nil {
			label = "null"
			if ClassOf(row.LabelErr) != RowLabel {
				t.Errorf("row %d: label error %v", row.Index, row.LabelErr)
			}
		} else if row.LabelName != label || !row.HasLabel {
			t.Errorf("row %d: label %q, want %q", row.Index, row.LabelName, label)
		}
		got = append(got, fmt.Sprint(row.ID, " ", row.Values[0], " ", label))
		var n int
		if _, err := fmt.Sscan(row.ID, &n); err != nil || sha256Of(row.Image) != list.Base20.SHA256[n] {
			t.Errorf("row %s has other content", row.ID)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
