package scoring

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/npz"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// TestBadRows: rows that cannot be used are refused unless the job allows them, and are counted.
func TestBadRows(t *testing.T) {
	folder := t.TempDir()
	for i := range 7 {
		m := &picture.Image{W: 16, H: 12 + i, Pix: bytes.Repeat([]byte{byte(40 * i), byte(7 * i), 99}, 16*(12+i)), Channels: 3}
		var b bytes.Buffer
		if err := picture.EncodePNG(&b, m, picture.PNGOptions{}); err != nil {
			t.Fatal(err)
		}
		data := b.Bytes()
		if i%3 == 1 {
			data = data[:len(data)/2]
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i, ".png")), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ref := filepath.Join(golden.Dir(t, "eval", "files"), "images_b.npz")
	out := filepath.Join(t.TempDir(), "out")
	_, err := run(t, job(t, folder, ref, "fid", out, "eval.extractor.path="), jobs.RunOptions{})
	if exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "limits.max_bad_rows") {
		t.Errorf("bad rows: %v", err)
	}
	var told bytes.Buffer
	progress := jobs.NewLogProgress(slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelDebug})))
	res := must(t, job(t, folder, ref, "fid", out, "eval.extractor.path=", "limits.max_bad_rows=2"), jobs.RunOptions{Progress: progress})
	if text := told.String(); strings.Count(text, "row failed") != 2 || strings.Count(text, "part written") != int(res.PartsDone) || !strings.Contains(text, "1.png") {
		t.Errorf("told was %s", text)
	}
	if res.Failed != 2 || res.OK+res.Failed != res.Rows || !strings.Contains(strings.Join(res.Warnings, " "), "2 rows could not be used") || res.Details[0].GeneratedRows != 5 {
		t.Errorf("%+v", res)
	}
}

// TestInputs scores the same pictures from a folder, an archive, an array, a finished run with its pictures in parts, and one with
// them in files, in each of which a row may have failed.
func TestInputs(t *testing.T) {
	tmp := t.TempDir()
	const n, h, w = 6, 20, 16
	var all []byte
	var rows []part.Row
	folder := filepath.Join(tmp, "folder")
	for i := range n {
		pix := make([]byte, 3*h*w)
		for k := range pix {
			pix[k] = byte(k*(2+i) + i*i)
		}
		all = append(all, pix...)
		name := fmt.Sprint(i, ".png")
		writePNG(t, filepath.Join(folder, name), w, h, pix)
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, part.Row{ID: name, Status: part.OK, Image: b, Width: w, Height: h})
	}
	archive, array, finished, files := filepath.Join(tmp, "z.zip"), filepath.Join(tmp, "a.npz"), filepath.Join(tmp, "run"), filepath.Join(tmp, "tree")
	create(t, archive, func(w io.Writer) error {
		z := zip.NewWriter(w)
		return errors.Join(z.AddFS(os.DirFS(folder)), z.Close())
	})
	writeArray(t, array, n, h, w, all)
	writeRun(t, finished, rows, false)
	writeRun(t, files, rows, true)
	score := func(path string, more ...string) (*Result, error) {
		t.Helper()
		out := filepath.Join(t.TempDir(), "out")
		return run(t, job(t, path, array, "fid", out, append([]string{"eval.extractor.path="}, more...)...), jobs.RunOptions{})
	}
	for _, path := range []string{folder, archive, array, finished, files} {
		res, err := score(path)
		if err != nil || !(res.Scores["fd"] < 1e-9) || res.Details[0].GeneratedRows != n {
			t.Errorf("%s against the array: %v, %+v", filepath.Base(path), err, res)
		}
	}
	// One failed row of a run is refused, and counted where it is allowed.
	rows[2] = part.Row{ID: "2", Status: part.Failed, Error: "no such luck"}
	for _, inFiles := range []bool{false, true} {
		dir := filepath.Join(tmp, fmt.Sprint("failed", inFiles))
		writeRun(t, dir, rows, inFiles)
		if _, err := score(dir); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "no such luck") {
			t.Errorf("a failed row, in files %t: %v", inFiles, err)
		}
		res, err := score(dir, "limits.max_bad_rows=1")
		if err != nil || res.Failed != 1 || res.Details[0].GeneratedRows != n-1 {
			t.Errorf("a failed row, in files %t: %v, %+v", inFiles, err, res)
		}
	}
	// A picture or a part that is not what the manifest says, no manifest, and a run that is not finished.
	flip := func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(path, b, 0o644)
	}
	for _, d := range []struct {
		damage    func(path string) error
		run, file string
		code      exitcode.Code
	}{
		{flip, files, "images/3.png", exitcode.Data},
		{flip, finished, "data/part-00000.arrow", exitcode.Data},
		{os.Remove, finished, "_manifest.json", exitcode.Data},
		{os.Remove, finished, "_SUCCESS", exitcode.Temporary},
	} {
		if err := d.damage(filepath.Join(d.run, d.file)); err != nil {
			t.Fatal(err)
		}
		if _, err := score(d.run); exitcode.Of(err) != d.code {
			t.Errorf("%s: %v", d.file, err)
		}
	}
}

// create writes a file.
func create(t *testing.T, path string, write func(w io.Writer) error) {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(write(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// writeArray writes n pictures of RGB as arr_0 of an .npz.
func writeArray(t *testing.T, path string, n, h, w int, pix []byte) {
	t.Helper()
	create(t, path, func(out io.Writer) error {
		z := npz.NewWriter(out, true)
		a, err := z.Create("arr_0", npz.Uint8, n, h, w, 3)
		if err == nil {
			_, err = a.Write(pix)
		}
		return errors.Join(err, z.Close())
	})
}

// writeRun writes the output folder of a finished job of one part, with the pictures in it or in files.
func writeRun(t *testing.T, dir string, rows []part.Row, inFiles bool) {
	t.Helper()
	p, err := commit.NewPlan(map[string]any{"job": dir}, []commit.PartPlan{{Rows: int64(len(rows))}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	f, err := commit.Open(ctx, dir, p, commit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WritePart(0, part.Schema{Image: !inFiles, Files: inFiles}, func(w *part.Writer) error {
		for _, r := range rows {
			if inFiles && r.Status == part.OK {
				file, err := f.WriteFile(r.ID, r.Image)
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
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		_, err = commit.Finalize(ctx, dir)
	}
	if err != nil {
		t.Fatal(err)
	}
}
