package picture

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

// reference is one entry of the expected results.
type reference struct {
	Mode, Must string
	Size       [2]int
	RGB        string `json:"rgb_sha256"`
	Native     string `json:"native_sha256"` // of the pixels in the file's own mode
}

// pixels are reference pictures by name.
type pixels map[string]golden.Tensor

func readPixels(t *testing.T, path string) pixels {
	t.Helper()
	out := pixels{}
	for _, e := range golden.Tensors(t, path) {
		e.Uint8s(t) // checks the type
		out[e.Name] = e
	}
	return out
}

// tally sums up one folder's comparison.
type tally struct {
	files, equal, refused, other int
	samples, off1, off2, max     int
}

func (c *tally) add(got, want []uint8) (maxDiff int, beyond1 float64) {
	over := 0
	for i, v := range got {
		d := abs(int(v) - int(want[i]))
		c.samples++
		if d > 0 {
			c.off1++
		}
		if d > 1 {
			c.off2++
			over++
		}
		maxDiff = max(maxDiff, d)
	}
	c.max = max(c.max, maxDiff)
	if maxDiff == 0 {
		c.equal++
	}
	return maxDiff, float64(over) / float64(max(1, len(got)))
}

// TestGolden decodes every reference file. All pixels must be equal, lossy formats too: the arithmetic is the reference's.
// Files marked error must be refused; nothing may allocate much.
func TestGolden(t *testing.T) {
	dir := golden.Dir(t, "images", "decode")
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected struct{ Files map[string]reference }
	if err := json.Unmarshal(b, &expected); err != nil {
		t.Fatal(err)
	}
	want := readPixels(t, filepath.Join(dir, "expected.safetensors"))
	files, err := filepath.Glob(filepath.Join(dir, "files", "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(files), err)
	}
	if len(files) != len(expected.Files) {
		t.Errorf("%d files, %d expected results", len(files), len(expected.Files))
	}
	sums := map[string]*tally{}
	var d Decoder
	for _, path := range files {
		name, _ := filepath.Rel(filepath.Join(dir, "files"), path)
		name = filepath.ToSlash(name)
		ref, ok := expected.Files[name]
		if !ok {
			t.Errorf("%s: no expected result", name)
			continue
		}
		folder := strings.SplitN(name, "/", 2)[0]
		c := sums[folder]
		if c == nil {
			c = &tally{}
			sums[folder] = c
		}
		c.files++
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checkReference(t, &d, c, name, data, ref, want)
	}
	var folders []string
	for f := range sums {
		folders = append(folders, f)
	}
	sort.Strings(folders)
	for _, f := range folders {
		c := sums[f]
		t.Logf("%-8s %3d files: %3d equal, %3d refused, %d decoded without a reference; max diff %d, "+
			"%d of %d samples differ, %d by more than 1", f, c.files, c.equal, c.refused, c.other, c.max, c.off1, c.samples, c.off2)
	}
}

func checkReference(t *testing.T, d *Decoder, c *tally, name string, data []byte, ref reference, want pixels) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	img, err := d.Decode(data, DefaultOptions())
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%s: %d bytes allocated", name, n)
	}
	h, perr := Probe(data, Limits{})
	if err == nil && perr != nil {
		t.Errorf("%s: decoded, but Probe says %v", name, perr)
	}
	if err != nil {
		var e *Error
		if !as(err, &e) || e.Kind == "" || e.Format == "" && e.Kind != KindUnknownFormat && e.Kind != KindEmpty {
			t.Errorf("%s: error without a class or format: %v", name, err)
		}
		if ref.Must == "equal" {
			t.Errorf("%s: %v", name, err)
		}
		c.refused++
		if ref.Must == "error" {
			golden.Line(t, "images/decode "+name+" refused", 0, 0)
		}
		if ref.Must == "either" || testing.Verbose() && strings.HasPrefix(name, "hostile") {
			t.Logf("%s (%s): %v", name, ref.Must, err)
		}
		return
	}
	if ref.Must == "error" {
		t.Errorf("%s: decoded to %dx%d, must be refused", name, img.W, img.H)
		return
	}
	key := name
	for _, k := range []string{name + "#exif", name + "#high_byte"} {
		if _, ok := want[k]; ok {
			key = k
		}
	}
	w, ok := want[key]
	if !ok {
		if ref.Must == "equal" {
			t.Errorf("%s: no reference pixels", name)
		}
		c.other++
		t.Logf("%s (%s): decoded, no reference pixels; notes %v", name, ref.Must, img.Notes)
		return
	}
	if w.Shape[0] != img.H || w.Shape[1] != img.W || w.Shape[2] != 3 {
		t.Errorf("%s: %dx%d, reference %v", name, img.W, img.H, w.Shape)
		return
	}
	diff, beyond := c.add(img.Pix, w.Data)
	golden.Line(t, "images/decode "+name, float64(diff), 0)
	if diff != 0 {
		t.Errorf("%s: differs by up to %d, %.2f %% by more than 1", name, diff, 100*beyond)
	}
	if ref.Must != "equal" {
		return
	}
	if h.Mode != ref.Mode || img.Mode != ref.Mode {
		t.Errorf("%s: mode %s, by header %s, reference %s", name, img.Mode, h.Mode, ref.Mode)
	}
	if h.W != ref.Size[0] || h.H != ref.Size[1] {
		t.Errorf("%s: header says %dx%d, reference %v", name, h.W, h.H, ref.Size)
	}
	if diff == 0 && key == name && ref.RGB != "" {
		if s := sha256.Sum256(img.Pix); hex.EncodeToString(s[:]) != ref.RGB {
			t.Errorf("%s: hash of the pixels differs though they are equal", name)
		}
	}
}

func as(err error, target **Error) bool {
	e, ok := err.(*Error)
	*target = e
	return ok
}

// TestGoldenAlpha checks alpha channels by the hash of the reference's own pixels, for modes that hold one.
func TestGoldenAlpha(t *testing.T) {
	dir := golden.Dir(t, "images", "decode")
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected struct{ Files map[string]reference }
	if err := json.Unmarshal(b, &expected); err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for name, ref := range expected.Files {
		channels := map[string]int{"RGBA": 3, "LA": 1}[ref.Mode]
		if channels == 0 || ref.Must != "equal" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, "files", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		img, err := Decode(data, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(img.Alpha) != img.W*img.H {
			t.Errorf("%s: alpha of %d bytes", name, len(img.Alpha))
			continue
		}
		var native []byte
		for i, a := range img.Alpha {
			native = append(append(native, img.Pix[3*i:3*i+channels]...), a)
		}
		if s := sha256.Sum256(native); hex.EncodeToString(s[:]) != ref.Native {
			t.Errorf("%s: alpha differs from the reference", name)
		}
		n[img.Format]++
	}
	if len(n) == 0 {
		t.Fatal("no case with alpha")
	}
	t.Logf("pictures with equal alpha, by format: %v", n)
}

// TestGoldenClip checks Pillow's own conversion of 16-bit gray, which is not the default.
func TestGoldenClip(t *testing.T) {
	dir := golden.Dir(t, "images", "decode")
	want := readPixels(t, filepath.Join(dir, "expected.safetensors"))
	opt := DefaultOptions()
	opt.Gray16 = Clip
	n := 0
	for key := range want {
		name, ok := strings.CutSuffix(key, "#high_byte")
		if !ok {
			continue
		}
		n++
		data, err := os.ReadFile(filepath.Join(dir, "files", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		img, err := Decode(data, opt)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if string(img.Pix) != string(want[name].Data) {
			t.Errorf("%s: clipped pixels differ from the reference", name)
		}
		if !img.Depth16 {
			t.Errorf("%s: not reported as 16 bit", name)
		}
	}
	if n == 0 {
		t.Fatal("no 16-bit case")
	}
}

// TestGoldenUnturned decodes without the EXIF turn.
func TestGoldenUnturned(t *testing.T) {
	dir := golden.Dir(t, "images", "decode")
	want := readPixels(t, filepath.Join(dir, "expected.safetensors"))
	n := 0
	for key := range want {
		name, ok := strings.CutSuffix(key, "#exif")
		if !ok {
			continue
		}
		n++
		data, err := os.ReadFile(filepath.Join(dir, "files", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		img, err := Decode(data, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if w := want[name]; fmt.Sprint(w.Shape) != fmt.Sprint([]int{img.H, img.W, 3}) || string(img.Pix) != string(w.Data) {
			t.Errorf("%s: unturned pixels differ from the reference", name)
		}
		if img.Orientation < 2 {
			t.Errorf("%s: orientation %d", name, img.Orientation)
		}
	}
	if n == 0 {
		t.Fatal("no turned case")
	}
}
