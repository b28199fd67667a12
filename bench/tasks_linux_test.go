package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
	"github.com/ldm-batch/ldm-batch/sample"
)

// reference is the reference model that can do a task: its checkpoint, weights by formula written first, and its configuration.
func reference(t testing.TB, can func(*nn.Model) bool) (checkpoint, config string) {
	t.Helper()
	for _, dir := range golden.Cases(t, "ldm") {
		c := goldencase.Open(t, dir)
		if !can(c.Model(nn.Options{})) {
			continue
		}
		checkpoint, config = filepath.Join(dir, "model.ckpt"), filepath.Join(dir, "config.yaml")
		if _, err := os.Stat(checkpoint); err == nil {
			return checkpoint, config
		}
		var b bytes.Buffer
		if err := weights.Convert(c.Weights, &b, weights.ConvertOptions{}); err != nil {
			t.Fatal(err)
		}
		checkpoint = filepath.Join(t.TempDir(), "model.safetensors")
		if err := os.WriteFile(checkpoint, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		return checkpoint, config
	}
	t.Fatal("no reference model does the task")
	return "", ""
}

// TestTasks runs the program on real pictures, with LDM_TASKS=1: those of Kodak at half size enlarged, and the inpainting examples
// filled, each into parts and into an image tree. Images of both are the same bytes. Results stay in out/tasks, with a picture of some of
// them; time and memory are logged.
func TestTasks(t *testing.T) {
	if os.Getenv("LDM_TASKS") == "" {
		t.Skip("LDM_TASKS is not set")
	}
	dir, err := filepath.Abs(filepath.Join("out", "tasks"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "ldm-batch")
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/ldm-batch").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := program{t, bin}
	for _, c := range []struct {
		name, input string
		can         func(*nn.Model) bool
		flags       []string
		pixels      func(w, h int) (int, int) // size of a result
	}{
		{"superres", filepath.Join(golden.Data(t, "kodak"), "half-*.parquet"), sample.CanSuperres, []string{"--tile", "64"}, func(w, h int) (int, int) { return 4 * w, 4 * h }},
		{"inpaint", filepath.Join(golden.Data(t, "inpainting"), "*.parquet"), sample.CanInpaint, []string{"--mask", "mask"}, func(w, h int) (int, int) { return w, h }},
	} {
		checkpoint, config := reference(t, c.can)
		parts, tree, files := filepath.Join(dir, c.name), filepath.Join(dir, c.name+"-tree"), filepath.Join(dir, c.name+"-files")
		flags := append([]string{"sample", "--json", "--task", c.name, "--model", checkpoint, "--config", config, "--input", c.input, "--id", "id", "--steps", "4", "--threads", "1"}, c.flags...)
		run.do(append(flags, "--output", parts)...)
		run.do(append(flags, "--layout", "tree", "--output", tree)...)
		run.do("verify", parts)
		run.do("verify", tree)
		run.do("export", "--format", "png", parts, files)
		sameFiles(t, filepath.Join(tree, "images"), files)
		contactSheet(t, filepath.Join(tree, "images"), filepath.Join(dir, c.name+".png"))
	}
}

// program is the command line, measured.
type program struct {
	t   *testing.T
	bin string
}

func (p program) do(args ...string) {
	p.t.Helper()
	cmd := exec.Command(p.bin, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	wall := time.Since(start)
	p.t.Logf("ldm-batch %s", strings.Join(args, " "))
	if err != nil {
		p.t.Fatalf("%v: %s", err, stderr.String())
	}
	if args[0] != "sample" {
		p.t.Logf("%.1f s: %s", wall.Seconds(), strings.TrimSpace(stdout.String()))
		return
	}
	var r jobs.Result
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		p.t.Fatal(err)
	}
	if r.State != "finished" || r.OK != r.Rows {
		p.t.Errorf("%s: %d of %d rows are fine: %v", r.State, r.OK, r.Rows, r.Reasons)
	}
	p.t.Logf("%d of %d rows, %.1f s on the clock, %.1f s of processors, peak %d MiB; by stage %v", r.OK, r.Rows, wall.Seconds(),
		(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10, r.Stages)
}

// sameFiles compares two folders, file by file.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	n, size := 0, 0
	for _, name := range names(t, a) {
		x, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(filepath.Join(b, name))
		if err != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs: %v", name, err)
		}
		n, size = n+1, size+len(x)
	}
	if others := len(names(t, b)); others != n || n == 0 {
		t.Errorf("%d files and %d", n, others)
	}
	t.Logf("%d files, %.1f MB, are the same in the tree and as exported", n, float64(size)/1e6)
}

// names are the pictures below a folder, by name.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".png" {
			rel, _ := filepath.Rel(dir, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// contactSheet draws the first pictures of a folder beside each other, reduced.
func contactSheet(t *testing.T, dir, to string) {
	t.Helper()
	const side, gap, most = 320, 8, 4
	sheet := image.NewRGBA(image.Rect(0, 0, gap+most*(side+gap), side+2*gap))
	draw.Draw(sheet, sheet.Rect, image.White, image.Point{}, draw.Src)
	for i, name := range names(t, dir)[:most] {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := image.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		step := float64(max(m.Bounds().Dx(), m.Bounds().Dy())) / side
		for y := range int(float64(m.Bounds().Dy()) / step) {
			for x := range int(float64(m.Bounds().Dx()) / step) {
				sheet.Set(gap+i*(side+gap)+x, gap+y, m.At(int(float64(x)*step), int(float64(y)*step)))
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, sheet); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkSuperresRows is a whole job: 1,000 small pictures read, enlarged by the reference model in ten steps, encoded as PNG and written.
// %kernels is the share of the clock, from opening the model to the last byte, that networks ran.
func BenchmarkSuperresRows(b *testing.B) {
	const rows = 1000
	checkpoint, config := reference(b, sample.CanSuperres)
	dir := b.TempDir()
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o777); err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range rows {
		f := picture.NewFrame(16, 16, 3, 8)
		for k := range f.Pix8 {
			f.Pix8[k] = uint8(k/3 + r.IntN(64))
		}
		var file bytes.Buffer
		if err := picture.Encode(&file, f, picture.EncodeOptions{Format: picture.PNG}); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(in, fmt.Sprintf("%04d.png", i)), file.Bytes(), 0o666); err != nil {
			b.Fatal(err)
		}
	}
	threads(b, func(b *testing.B, threads int) {
		kernels, n := 0.0, 0
		for b.Loop() {
			n++
			result := superresJob(b, map[string]string{
				"model.checkpoint": checkpoint, "model.config": config, "input.path": in, "output.path": filepath.Join(dir, fmt.Sprint("out", threads, "-", n)),
				"sample.task": "superres", "sampler.steps": "10", "compute.threads": fmt.Sprint(threads),
			})
			if result.OK != rows {
				b.Fatalf("%d rows are fine: %v", result.OK, result.Reasons)
			}
			kernels += result.Stages["compute.unet"] + result.Stages["compute.decoder"]
		}
		b.ReportMetric(100*kernels/b.Elapsed().Seconds(), "%kernels")
		b.ReportMetric(rows*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}

// superresJob runs a job of kind Sample.
func superresJob(b *testing.B, set map[string]string) *jobs.Result {
	b.Helper()
	settings := []spec.Setting{{Key: "kind", Value: "Sample", Origin: "benchmark"}}
	for k, v := range set {
		settings = append(settings, spec.Setting{Key: k, Value: v, Origin: "benchmark"})
	}
	r, err := spec.Load("", nil, "", nil, settings)
	if err != nil {
		b.Fatal(err)
	}
	p, err := jobs.Prepare(b.Context(), r, jobs.PrepareOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	result, err := p.Run(b.Context(), jobs.RunOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return result
}
