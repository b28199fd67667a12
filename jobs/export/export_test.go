package export

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
)

// ids are what rows of hostile data sets are called.
var ids = []string{
	"plain", "../../../etc/passwd", "/etc/passwd", "a/b", "a_b", "A_B", "", ".", "..", "-rf", ".hidden", "con", "CON.txt", "nul", "lpt1", "failed",
	"x\x00y", "line\nbreak", "ünï", strings.Repeat("long", 100), strings.Repeat("long", 100) + "2", "C:\\x", "trail...", "plain",
}

func png(t *testing.T, i int) []byte {
	t.Helper()
	var b bytes.Buffer
	img := &picture.Image{W: 8, H: 4, Pix: bytes.Repeat([]byte{byte(9 * i), 100, byte(255 - i)}, 32)}
	if err := picture.EncodePNG(&b, img, picture.PNGOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// finishedRun writes an output folder with one row for each id; every fifth has failed.
func finishedRun(t *testing.T, finalize bool) (dir string, images map[string][]byte) {
	t.Helper()
	return runOf(t, part.Schema{Image: true, Label: true, LabelNames: []string{"even", "odd"}}, finalize)
}

func runOf(t *testing.T, schema part.Schema, finalize bool) (dir string, images map[string][]byte) {
	t.Helper()
	ctx := context.Background()
	dir, images = filepath.Join(t.TempDir(), "run"), map[string][]byte{}
	parts, err := commit.SplitRows(int64(len(ids)), 7)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := commit.NewPlan(map[string]any{"job": "test"}, parts)
	if err != nil {
		t.Fatal(err)
	}
	f, err := commit.Open(ctx, dir, plan, commit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i, p := range parts {
		_, err := f.WritePart(i, schema, func(w *part.Writer) error {
			for k := p.FirstRow; k < p.FirstRow+p.Rows; k++ {
				r := part.Row{ID: ids[k], Label: k % 2, HasLabel: true, Status: part.OK}
				if r.ID == "" {
					r.ID = "?"
				}
				if k%5 == 4 {
					r.Status, r.Error = part.Failed, fmt.Sprintf("row %d is bad", k)
				} else {
					r.Image, r.ImagePath, r.Width, r.Height = png(t, int(k)), "../evil", 8, 4
					images[fmt.Sprint(k)] = r.Image
				}
				if schema.Files && r.Image != nil {
					file, err := f.WriteFile(fmt.Sprintf("%d/x.png", k), r.Image)
					if err != nil {
						return err
					}
					r.Image, r.ImagePath, r.FileBytes, r.FileSHA256 = nil, file.Path, file.Bytes, file.SHA256
				}
				if err := w.Append(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if finalize {
		if _, err := f.Finalize(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return dir, images
}

// contents reads every file below a folder.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		out[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFromTree exports a run whose images are files: the same comes out as of parts that hold them.
func TestFromTree(t *testing.T) {
	dir, _ := finishedRun(t, true)
	tree, _ := runOf(t, part.Schema{Files: true, Label: true, LabelNames: []string{"even", "odd"}}, true)
	for _, format := range []Format{PNG, Tar} {
		var got []map[string][]byte
		for _, d := range []string{dir, tree} {
			parent := t.TempDir()
			if _, err := Export(context.Background(), d, filepath.Join(parent, "out"), Options{Format: format}); err != nil {
				t.Fatal(err)
			}
			got = append(got, contents(t, parent))
		}
		if len(got[0]) == 0 || !maps.EqualFunc(got[0], got[1], bytes.Equal) {
			t.Errorf("%s: %d files, of the tree %d, or others", format, len(got[0]), len(got[1]))
		}
	}
	if err := os.WriteFile(filepath.Join(tree, "images", "0", "x.png"), []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(context.Background(), tree, filepath.Join(t.TempDir(), "out"), Options{Format: PNG}); exitcode.Of(err) != exitcode.Data {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir, images := finishedRun(t, true)
	for _, format := range []Format{PNG, JPEG} {
		parent := t.TempDir()
		r, err := Export(context.Background(), dir, filepath.Join(parent, "out"), Options{Format: format})
		if err != nil {
			t.Fatal(err)
		}
		if r.Rows != int64(len(ids)) || r.Images != int64(len(images)) || r.Failed != r.Rows-r.Images || len(r.Errors) != int(r.Failed) {
			t.Errorf("%s: %+v", format, r)
		}
		if entries, _ := os.ReadDir(parent); len(entries) != 1 {
			t.Errorf("%s: files beside the output: %v", format, entries)
		}
		files := contents(t, filepath.Join(parent, "out"))
		if len(files) != len(images)+1 {
			t.Errorf("%s: %d files for %d images", format, len(files), len(images))
		}
		if n := bytes.Count(files[failedName], []byte("\n")); n != int(r.Failed) {
			t.Errorf("%s: %d lines in %s, want %d", format, n, failedName, r.Failed)
		}
		lower := map[string]bool{}
		for name, data := range files {
			if lower[strings.ToLower(name)] || strings.ContainsAny(name, "/\\:\n\x00") || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") {
				t.Errorf("%s: file %q", format, name)
			}
			lower[strings.ToLower(name)] = true
			if name == failedName {
				continue
			}
			if h, err := picture.Probe(data, picture.DefaultLimits()); err != nil || h.Format != string(format) || h.W != 8 || h.H != 4 {
				t.Errorf("%s: %s is %+v (%v)", format, name, h, err)
			}
		}
		if format == PNG && !bytes.Equal(files["plain.png"], images["0"]) {
			t.Error("a stored PNG was not copied as it is")
		}
	}
}

func TestTar(t *testing.T) {
	dir, images := finishedRun(t, true)
	var sums [2][32]byte
	for i := range sums {
		out := filepath.Join(t.TempDir(), "out.tar")
		if _, err := Export(context.Background(), dir, out, Options{Format: Tar}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(data)
		var names []string
		for r := tar.NewReader(bytes.NewReader(data)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if !filepath.IsLocal(h.Name) || strings.Contains(h.Name, "/") || h.ModTime.Unix() != 0 || h.Uid != 0 || h.Typeflag != tar.TypeReg {
				t.Errorf("member %+v", h)
			}
			names = append(names, h.Name)
		}
		if len(names) != 2*len(images)+1 || names[len(names)-1] != failedName {
			t.Fatalf("%d members, the last %s", len(names), names[len(names)-1])
		}
		for k := 0; k+1 < len(names); k += 2 { // readers group what stands together
			if strings.TrimSuffix(names[k], ".png") != strings.TrimSuffix(names[k+1], ".json") {
				t.Errorf("%s and %s are not of one row", names[k], names[k+1])
			}
		}
	}
	if sums[0] != sums[1] {
		t.Error("two exports of one run differ")
	}
}

func TestParquet(t *testing.T) {
	dir, images := finishedRun(t, true)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Export(context.Background(), dir, out, Options{Format: Parquet}); err != nil {
		t.Fatal(err)
	}
	if files := contents(t, out); len(files) != 1 || files[filepath.FromSlash("data/train-00000-of-00001.parquet")] == nil {
		t.Fatalf("%d files", len(files))
	}
	d, err := dataset.Open(context.Background(), dataset.Spec{Path: out, ID: "id", Columns: []string{"error"}}, dataset.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(d.Features().ClassNames, []string{"even", "odd"}) || d.NumRows() != int64(len(ids)) {
		t.Errorf("%d rows, %+v", d.NumRows(), d.Features())
	}
	for r, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err != nil {
			t.Fatal(err)
		}
		want := images[fmt.Sprint(r.Index)]
		if (r.Err == nil) != (want != nil) || !bytes.Equal(r.Image, want) || r.Label != r.Index%2 || (r.Values[0] == "") != (want != nil) {
			t.Errorf("row %d: %d bytes, label %d, error column %v, err %v", r.Index, len(r.Image), r.Label, r.Values[0], r.Err)
		}
	}
}

func TestRefusals(t *testing.T) {
	finished, _ := finishedRun(t, true)
	unfinished, _ := finishedRun(t, false)
	damaged, _ := finishedRun(t, true)
	file := filepath.Join(damaged, "data", "part-00002.arrow")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[100] ^= 1
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	taken := t.TempDir()
	cancelled, cancel := context.WithCancelCause(context.Background())
	stop := exitcode.Errorf(exitcode.Terminated, "stopped")
	cancel(stop)
	cases := []struct {
		name string
		ctx  context.Context
		dir  string
		out  string
		o    Options
		want exitcode.Code
	}{
		{"not finished", nil, unfinished, "", Options{Format: PNG}, exitcode.Temporary},
		{"damaged", nil, damaged, "", Options{Format: PNG}, exitcode.Data},
		{"damaged, tar", nil, damaged, "", Options{Format: Tar}, exitcode.Data},
		{"damaged, parquet", nil, damaged, "", Options{Format: Parquet}, exitcode.Data},
		{"missing", nil, filepath.Join(taken, "none"), "", Options{Format: PNG}, exitcode.NoInput},
		{"output exists", nil, finished, taken, Options{Format: PNG}, exitcode.Usage},
		{"format", nil, finished, "", Options{Format: "gif"}, exitcode.Usage},
		{"quality", nil, finished, "", Options{Format: JPEG, Quality: 101}, exitcode.Usage},
		{"stopped", cancelled, finished, "", Options{Format: Parquet}, exitcode.Terminated},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			parent, out := t.TempDir(), c.out
			if out == "" {
				out = filepath.Join(parent, "out")
			}
			ctx := c.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			_, err := Export(ctx, c.dir, out, c.o)
			if exitcode.Of(err) != c.want {
				t.Errorf("class %d, want %d: %v", exitcode.Of(err), c.want, err)
			}
			if entries, _ := os.ReadDir(parent); len(entries) != 0 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

func FuzzSanitise(f *testing.F) {
	for _, id := range ids {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		name := sanitise(id)
		if name == "" || len(name) > maxName+1 || !filepath.IsLocal(name) || strings.ContainsAny(name, "/\\:\x00\n ") || name[0] == '.' || name[0] == '-' || name+".jsonl" == failedName {
			t.Errorf("%q became %q", id, name)
		}
	})
}
