package part

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// pngOf is a small picture that depends on i.
func pngOf(t testing.TB, i int) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 16, 12))
	for y := range 12 {
		for x := range 16 {
			m.Set(x, y, color.RGBA{uint8(x * 16), uint8(y * 16), uint8(i), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var extras = []Column{{Name: "caption", Type: String}, {Name: "class", Type: Int64, Names: []string{"a", "b"}},
	{Name: "weight", Type: Float64}, {Name: "keep", Type: Bool}, {Name: "blob", Type: Binary}}

// rowsOf makes n rows for s; every seventh failed, every eleventh skipped.
func rowsOf(t testing.TB, s Schema, n int) []Row {
	t.Helper()
	rows := make([]Row, n)
	for i := range rows {
		r := Row{ID: fmt.Sprintf("in#%d", i), Status: OK, Extra: make([]any, len(s.Extra)), Label: int64(i%3 - 1), HasLabel: s.Label && i%5 != 4}
		if !r.HasLabel {
			r.Label = 0
		}
		for k, c := range s.Extra {
			switch v := i % 4; {
			case v == 3:
			case c.Type == String:
				r.Extra[k] = fmt.Sprintf("caption %d", i)
			case c.Type == Int64:
				r.Extra[k] = int64(i % 2)
			case c.Type == Float64:
				r.Extra[k] = float64(i) / 8
			case c.Type == Bool:
				r.Extra[k] = i%2 == 0
			case c.Type == Binary:
				r.Extra[k] = []byte{byte(i), 0, 255}
			}
		}
		if s.Sampling {
			r.Seed, r.Steps, r.Guidance = math.MaxUint64-uint64(i), 50, 7.5
		}
		switch {
		case i%7 == 6:
			r.Status, r.Error, r.Reason = Failed, fmt.Sprintf("truncated: after %d bytes", i), "truncated"
		case i%11 == 10:
			r.Status, r.Error = Skipped, "too small: 3 x 3"
		default:
			r.Width, r.Height, r.SourceSHA256 = 16, 12, strings.Repeat("0f", 32)
			if l := s.Latent; l != nil {
				r.LatentShape = [3]int{l.C, l.H, l.W}
				if l.Layout == Ragged {
					r.LatentShape = [3]int{l.C, 1 + i%3, 2 + i%2}
				}
				r.Latent = make([]float32, r.LatentShape[0]*r.LatentShape[1]*r.LatentShape[2])
				for k := range r.Latent {
					r.Latent[k] = float32(i%16) + float32(k%64)/64 // exact in float16
				}
			}
			if s.Image {
				r.Image, r.ImagePath = pngOf(t, i), fmt.Sprintf("%05d.png", i)
			}
			if s.Files {
				r.ImagePath, r.FileBytes, r.FileSHA256 = fmt.Sprintf("images/d/%05d.png", i), int64(1000+i), fmt.Sprintf("%064x", i)
			}
		}
		rows[i] = r
	}
	return rows
}

func writePart(w io.Writer, s Schema, rows []Row) (Stats, error) {
	pw, err := NewWriter(w, s)
	if err != nil {
		return Stats{}, err
	}
	for _, r := range rows {
		if err := pw.Append(r); err != nil {
			return Stats{}, err
		}
	}
	return pw.Finish()
}

func writeFile(t testing.TB, s Schema, rows []Row) (string, Stats) {
	t.Helper()
	var b bytes.Buffer
	st, err := writePart(&b, s, rows)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "part.arrow")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path, st
}

func schemas() map[string]Schema {
	m := map[string]Schema{
		"images":      {Image: true, Sampling: true, LabelNames: []string{"cat", "dog"}},
		"both":        {Image: true, Latent: &Latent{C: 4, H: 3, W: 2}, Extra: extras},
		"files":       {Files: true, Sampling: true, Label: true},
		"files, both": {Files: true, Latent: &Latent{C: 4, H: 3, W: 2}, Extra: extras},
		"taken names": {Image: true, Extra: []Column{{Name: "path", Type: String}, {Name: "file_bytes", Type: Int64}, {Name: "reason", Type: String}}},
		"one element": {Latent: &Latent{C: 1, H: 1, W: 1}},
	}
	for _, l := range []Layout{List, Tensor, Ragged} {
		for _, d := range []DType{Float32, Float16} {
			lat := &Latent{C: 4, H: 3, W: 2, Layout: l, DType: d}
			if l == Ragged {
				lat.H, lat.W = 0, 0
			}
			m[fmt.Sprintf("%s %s", l, d)] = Schema{Latent: lat, Label: true, Extra: extras, Meta: Meta{
				JobFingerprint: "sha256:00", ModelSHA256: "abc", ScaleFactor: 0.18215, Part: 3, Parts: 40}}
		}
	}
	return m
}

func TestRoundTrip(t *testing.T) {
	for name, s := range schemas() {
		for _, c := range []Compression{NoCompression, Zstd, LZ4} {
			t.Run(name+" "+string(c), func(t *testing.T) {
				s.Compression = c
				rows := rowsOf(t, s, 100)
				path, st := writeFile(t, s, rows)
				if st.Rows != 100 || st.OK != 78 || st.Failed != 14 || st.Skipped != 8 {
					t.Errorf("stats %+v", st)
				}
				if want := []Reason{{"truncated", 14}, {"too small", 8}}; !reflect.DeepEqual(st.Reasons, want) {
					t.Errorf("reasons %v, want %v", st.Reasons, want)
				}
				r, err := Open(path, Expect{st.Bytes, st.SHA256})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				want := s.withDefaults()
				want.Compression = ""
				if got := r.Schema(); !reflect.DeepEqual(got, want) {
					t.Errorf("schema\n%+v, want\n%+v", got, want)
				}
				if n, err := r.CountRows(); n != 100 || err != nil {
					t.Errorf("CountRows = %d, %v", n, err)
				}
				i := 0
				for got, err := range r.Rows() {
					if err != nil {
						t.Fatal(err)
					}
					want := rows[i]
					if want.Reason = ""; s.Files && want.Status != OK { // else not stored
						want.Reason, _, _ = strings.Cut(want.Error, ":")
					}
					if !reflect.DeepEqual(got, want) {
						t.Fatalf("row %d\n%+v, want\n%+v", i, got, want)
					}
					i++
				}
				if i != 100 {
					t.Errorf("%d rows", i)
				}
			})
		}
	}
}

func TestEmptyPart(t *testing.T) {
	path, st := writeFile(t, Schema{Image: true}, nil)
	r, err := Open(path, Expect{st.Bytes, st.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range r.Rows() {
		t.Error("a row in an empty part")
	}
}

// TestDeterministic wants the same bytes whatever the number of processors, and the sha256 of the stats to be theirs.
func TestDeterministic(t *testing.T) {
	for name, s := range schemas() {
		for _, c := range []Compression{NoCompression, Zstd, LZ4} {
			s.Compression = c
			rows := rowsOf(t, s, 60)
			var first []byte
			for _, procs := range []int{1, 2, 8} {
				old := runtime.GOMAXPROCS(procs)
				var b bytes.Buffer
				st, err := writePart(&b, s, rows)
				runtime.GOMAXPROCS(old)
				if err != nil {
					t.Fatal(err)
				}
				sum := sha256.Sum256(b.Bytes())
				if st.SHA256 != hex.EncodeToString(sum[:]) || st.Bytes != int64(b.Len()) {
					t.Errorf("%s %s: stats are not of the bytes written", name, c)
				}
				if first == nil {
					first = b.Bytes()
				} else if !bytes.Equal(first, b.Bytes()) {
					t.Errorf("%s %s: other bytes with %d processors", name, c, procs)
				}
			}
		}
	}
}

func TestBatchLimits(t *testing.T) {
	cases := []struct {
		name    string
		schema  Schema
		rows    int
		batches int
	}{
		{"by rows", Schema{Latent: &Latent{C: 1, H: 1, W: 1}}, 2500, 3},
		{"exactly one batch", Schema{Latent: &Latent{C: 1, H: 1, W: 1}}, 1024, 1},
		{"by bytes, null rows too", Schema{Latent: &Latent{C: 4, H: 512, W: 1024}}, 15, 3}, // 8 MiB a row, 7 rows fit
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path, st := writeFile(t, c.schema, rowsOf(t, c.schema, c.rows))
			r, err := Open(path, Expect{st.Bytes, st.SHA256})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if r.Batches() != c.batches {
				t.Errorf("%d record batches, want %d", r.Batches(), c.batches)
			}
			if n, err := r.CountRows(); n != int64(c.rows) || err != nil {
				t.Errorf("CountRows = %d, %v", n, err)
			}
		})
	}
}

// flaky fails at its k-th write: with an error after half of the bytes, or quietly short.
type flaky struct {
	bytes.Buffer
	n, k  int
	quiet bool
}

func (f *flaky) Write(p []byte) (int, error) {
	f.n++
	if f.n != f.k {
		return f.Buffer.Write(p)
	}
	n, _ := f.Buffer.Write(p[:len(p)/2])
	if f.quiet {
		return n, nil
	}
	return n, syscall.ENOSPC
}

// TestWriteFaults fails every single write. The Arrow writer alone lets several of them pass and leaves a file that
// parses with rows missing.
func TestWriteFaults(t *testing.T) {
	s := Schema{Latent: &Latent{C: 4, H: 3, W: 2}, Extra: extras}
	rows := rowsOf(t, s, 1500)
	for _, quiet := range []bool{false, true} {
		for k := 1; ; k++ {
			f := &flaky{k: k, quiet: quiet}
			pw, err := NewWriter(f, s)
			for i := 0; err == nil && i < len(rows); i++ {
				err = pw.Append(rows[i])
			}
			var st Stats
			if pw != nil { // finish in spite of an error, as careless callers do
				var e error
				if st, e = pw.Finish(); err != nil && e == nil {
					t.Fatalf("write %d: Finish forgot %v", k, err)
				} else if err == nil {
					err = e
				}
			}
			if f.n < k {
				if err != nil || st.Rows != 1500 {
					t.Errorf("no fault, but %v, %+v", err, st)
				}
				if k < 20 {
					t.Errorf("only %d writes", k)
				}
				break
			}
			if err == nil {
				t.Errorf("write %d failed unnoticed", k)
			}
			if !quiet && !errors.Is(err, syscall.ENOSPC) || quiet && !errors.Is(err, io.ErrShortWrite) {
				t.Errorf("write %d: the error lost its cause: %v", k, err)
			}
			if f.n > k {
				t.Errorf("write %d failed, %d writes followed", k, f.n-k)
			}
		}
	}
}

func TestCheckBeforeParse(t *testing.T) {
	path, st := writeFile(t, Schema{Image: true}, rowsOf(t, Schema{Image: true}, 5))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for k := 0; k < len(good); k += 97 {
		bad := bytes.Clone(good)
		bad[k] ^= 1
		if err := os.WriteFile(path, bad, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Expect{st.Bytes, st.SHA256}); exitcode.Of(err) != exitcode.Data {
			t.Fatalf("flipped bit in byte %d: %v", k, err)
		}
	}
	for _, n := range []int{0, 1, len(good) - 1} {
		if err := os.WriteFile(path, good[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, Expect{st.Bytes, st.SHA256}); err == nil || !strings.Contains(err.Error(), "as recorded") {
			t.Errorf("truncated to %d: %v", n, err)
		}
		if _, err := OpenTrusted(path); err == nil {
			t.Errorf("truncated to %d: opened without a check", n)
		}
	}
	if _, err := Open(path+"x", Expect{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestAppendRules(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	lat := Schema{Latent: &Latent{C: 1, H: 1, W: 2}}
	half := Schema{Latent: &Latent{C: 1, H: 1, W: 2, DType: Float16}}
	ragged := Schema{Latent: &Latent{C: 1, Layout: Ragged}}
	img := Schema{Image: true, LabelNames: []string{"a", "b"}, Extra: []Column{{Name: "n", Type: Int64}}}
	ok, sum := []float32{1, 2}, strings.Repeat("0f", 32)
	cases := []struct {
		name   string
		schema Schema
		row    Row
		code   exitcode.Code // OK: accepted
	}{
		{"good", lat, Row{Status: OK, Latent: ok}, exitcode.OK},
		{"NaN", lat, Row{Status: OK, Latent: []float32{1, nan}}, exitcode.Internal},
		{"infinite", lat, Row{Status: OK, Latent: []float32{inf, 1}}, exitcode.Internal},
		{"float16 in range", half, Row{Status: OK, Latent: []float32{65519, -65519}}, exitcode.OK},
		{"float16 out of range", half, Row{Status: OK, Latent: []float32{65520, 1}}, exitcode.Internal},
		{"short latent", lat, Row{Status: OK, Latent: ok[:1]}, exitcode.Internal},
		{"no latent", lat, Row{Status: OK}, exitcode.Internal},
		{"other shape", lat, Row{Status: OK, Latent: ok, LatentShape: [3]int{1, 2, 1}}, exitcode.Internal},
		{"ragged", ragged, Row{Status: OK, Latent: ok, LatentShape: [3]int{1, 2, 1}}, exitcode.OK},
		{"ragged without shape", ragged, Row{Status: OK, Latent: ok}, exitcode.Internal},
		{"unknown status", lat, Row{Status: "done", Latent: ok}, exitcode.Internal},
		{"no status", lat, Row{Latent: ok}, exitcode.Internal},
		{"failed", lat, Row{Status: Failed, Error: "x"}, exitcode.OK},
		{"failed, empty latent", lat, Row{Status: Failed, Error: "x", Latent: []float32{}}, exitcode.OK},
		{"failed with payload", lat, Row{Status: Failed, Error: "x", Latent: ok}, exitcode.Internal},
		{"failed without error", lat, Row{Status: Failed}, exitcode.Internal},
		{"ok with error", lat, Row{Status: OK, Latent: ok, Error: "x"}, exitcode.Internal},
		{"image beside latent", lat, Row{Status: OK, Latent: ok, Image: []byte{1}}, exitcode.Internal},
		{"label without column", lat, Row{Status: OK, Latent: ok, HasLabel: true}, exitcode.Internal},
		{"bad sha256", lat, Row{Status: OK, Latent: ok, SourceSHA256: "AB"}, exitcode.Internal},
		{"file", Schema{Files: true}, Row{Status: OK, ImagePath: "images/a.png", FileBytes: 1, FileSHA256: sum}, exitcode.OK},
		{"failed, files", Schema{Files: true}, Row{Status: Failed, Error: "x"}, exitcode.OK},
		{"file without path", Schema{Files: true}, Row{Status: OK, FileBytes: 1, FileSHA256: sum}, exitcode.Internal},
		{"file outside", Schema{Files: true}, Row{Status: OK, ImagePath: "../a", FileBytes: 1, FileSHA256: sum}, exitcode.Internal},
		{"empty file", Schema{Files: true}, Row{Status: OK, ImagePath: "a", FileSHA256: sum}, exitcode.Internal},
		{"file without sha256", Schema{Files: true}, Row{Status: OK, ImagePath: "a", FileBytes: 1}, exitcode.Internal},
		{"failed with a file", Schema{Files: true}, Row{Status: Failed, Error: "x", FileBytes: 1, FileSHA256: sum}, exitcode.Internal},
		{"file without column", img, Row{Status: OK, Image: []byte{1}, FileBytes: 1, FileSHA256: sum, Extra: []any{nil}}, exitcode.Internal},
		{"image", img, Row{Status: OK, Image: []byte{1}, HasLabel: true, Label: -1, Extra: []any{int64(1)}}, exitcode.OK},
		{"label outside names", img, Row{Status: OK, Image: []byte{1}, HasLabel: true, Label: 2, Extra: []any{nil}}, exitcode.Data},
		{"extra missing", img, Row{Status: OK, Image: []byte{1}}, exitcode.Internal},
		{"extra of other type", img, Row{Status: OK, Image: []byte{1}, Extra: []any{"1"}}, exitcode.Internal},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w, err := NewWriter(io.Discard, c.schema)
			if err != nil {
				t.Fatal(err)
			}
			err = w.Append(c.row)
			if exitcode.Of(err) != c.code {
				t.Errorf("Append: %v, code %d, want %d", err, exitcode.Of(err), c.code)
			}
			if _, ferr := w.Finish(); (ferr == nil) != (err == nil) {
				t.Errorf("Finish: %v after %v", ferr, err)
			}
		})
	}
}

func TestSchemaValidate(t *testing.T) {
	cases := []struct {
		name string
		s    Schema
		want string // "" means valid
	}{
		{"latents", Schema{Latent: &Latent{C: 4, H: 32, W: 32}}, ""},
		{"nothing", Schema{}, "neither latents nor images"},
		{"negative", Schema{Latent: &Latent{C: 4, H: -1, W: 32}}, "4 x -1 x 32"},
		{"product overflows", Schema{Latent: &Latent{C: 1 << 40, H: 1 << 40, W: 4}}, "1099511627776 x 1099511627776 x 4"},
		{"ragged with size", Schema{Latent: &Latent{C: 4, H: 1, Layout: Ragged}}, "H = W = 0"},
		{"dtype", Schema{Latent: &Latent{C: 1, H: 1, W: 1, DType: "bf16"}}, "float32 or float16"},
		{"layout", Schema{Latent: &Latent{C: 1, H: 1, W: 1, Layout: "x"}}, "list, tensor or ragged"},
		{"compression", Schema{Image: true, Compression: "gzip"}, "none, zstd or lz4"},
		{"images twice", Schema{Image: true, Files: true}, "both in the part and in files"},
		{"reserved beside files", Schema{Files: true, Extra: []Column{{Name: "path", Type: String}}}, "taken by the format"},
		{"reserved column", Schema{Image: true, Extra: []Column{{Name: "status", Type: String}}}, "taken by the format"},
		{"column twice", Schema{Image: true, Extra: []Column{{Name: "a", Type: String}, {Name: "a", Type: Bool}}}, "listed twice"},
		{"column type", Schema{Image: true, Extra: []Column{{Name: "a", Type: "date"}}}, `type "date"`},
		{"names on strings", Schema{Image: true, Extra: []Column{{Name: "a", Type: String, Names: []string{"x"}}}}, "class names"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := c.s.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("Validate: %v, want %q", err, c.want)
			}
			if err != nil && exitcode.Of(err) != exitcode.Usage {
				t.Errorf("code %d", exitcode.Of(err))
			}
		})
	}
}

func TestReasons(t *testing.T) {
	var ta tally
	for i := range 3000 {
		ta.add(&Row{Status: Failed, Error: fmt.Sprintf("kind %d: detail", i%1500)})
	}
	ta.add(&Row{Status: Skipped, Error: "kind 7"})
	s := ta.stats()
	var sum int64
	for _, r := range s.Reasons {
		sum += r.Count
	}
	if len(s.Reasons) != maxReasons+1 || s.Reasons[0] != (Reason{"kind 7", 3}) || s.Reasons[maxReasons].Reason != "other" || sum != 3001 {
		t.Errorf("reasons %v, %d in all", s.Reasons, sum)
	}
}

func TestValidUTF8(t *testing.T) {
	for in, want := range map[string]string{"é\xff\xfez": `é\xff\xfez`, "plain": "plain", "\xc3": `\xc3`, "�": "�"} {
		if got := validUTF8(in); got != want {
			t.Errorf("validUTF8(%q) = %q, want %q", in, got, want)
		}
	}
}
