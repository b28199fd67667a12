package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/encode"
	"github.com/ldm-batch/ldm-batch/internal/cpu"
	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/internal/weights/safetensors"
	"github.com/ldm-batch/ldm-batch/io/preprocess"
	"github.com/ldm-batch/ldm-batch/jobs"
	"github.com/ldm-batch/ldm-batch/sample"
)

// oracle makes images without a job, by package sample from numbers in memory. It is held against the reference's own images with the
// reference's inputs, which no file can hold (fractions of 8 bits), and a job is held against it with inputs that files can hold.
type oracle struct {
	*goldencase.Case
	session *engine.Session
	first   *encode.FirstStage
}

func newOracle(t *testing.T, c *goldencase.Case) *oracle {
	t.Helper()
	b, err := cpu.Open(cpu.Options{Threads: 1, ISA: cpu.DefaultOptions().ISA})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	s := engine.New(c.Model(nn.Options{Weights: weights.Auto}), b)
	t.Cleanup(s.Close)
	first, err := encode.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return &oracle{c, s, first}
}

func (o *oracle) generator(t *testing.T, c sample.Config) *sample.Generator {
	t.Helper()
	c.Name, c.Guidance, c.Temperature, c.Spacing = "ddim", 1, 1, "uniform"
	g, err := sample.NewGenerator(o.session, c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// images makes the images of a request, N x 3 x H x W.
func (o *oracle) images(t *testing.T, c sample.Config, r sample.Request) []float32 {
	t.Helper()
	x, err := o.generator(t, c).Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(x)
}

// tape is recorded noise of a reference run.
type tape struct{ start, steps, known []float32 }

func (p tape) Initial(dst []float32) error { copy(dst, p.start); return nil }
func (p tape) Step(k int, dst []float32) error {
	copy(dst, p.steps[k*len(p.start):][:len(p.start)])
	return nil
}
func (p tape) Known(k int, dst []float32) error {
	copy(dst, p.known[k*len(p.start):][:len(p.start)])
	return nil
}

// levels are the 8-bit values of planes N x c x H x W in [-1, 1], and what those values stand for.
func levels(x []float32) ([]uint8, []float32) {
	b, y := make([]uint8, len(x)), make([]float32, len(x))
	for i, v := range x {
		b[i] = uint8(min(max((v+1)*127.5+0.5, 0), 255))
		y[i] = float32(b[i])/127.5 - 1
	}
	return b, y
}

// putPlanes writes planes N x 3 x h x w of 8-bit values as pictures named by number.
func putPlanes(t *testing.T, dir, name string, pix []uint8, h, w int) {
	t.Helper()
	for i := range len(pix) / (3 * h * w) {
		m := image.NewRGBA(image.Rect(0, 0, w, h))
		at := pix[3*h*w*i:]
		for k := range h * w {
			m.SetRGBA(k%w, k/w, color.RGBA{at[k], at[h*w+k], at[2*h*w+k], 255})
		}
		put(t, dir, fmt.Sprintf(name, i), pngOf(t, m))
	}
}

// pixels are the images of a finished job, N x H x W x 3.
func pixels(t *testing.T, dir string) (out []uint8) {
	t.Helper()
	for _, row := range readRows(t, dir) {
		m, _, err := image.Decode(bytes.NewReader(row.Image))
		if err != nil {
			t.Fatal(err)
		}
		for y := range m.Bounds().Dy() {
			for x := range m.Bounds().Dx() {
				c := color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA)
				out = append(out, c.R, c.G, c.B)
			}
		}
	}
	return out
}

// rounded are planes N x 3 x h x w as the reference's scripts write them, N x h x w x 3.
func rounded(t *testing.T, x []float32, n, h, w int) []uint8 {
	t.Helper()
	out := make([]uint8, len(x))
	for i := range n {
		size := 3 * h * w
		if err := preprocess.ToUint8(out[i*size:][:size], x[i*size:][:size], 3, h, w, preprocess.Truncate); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// sameImages compares a job with the oracle: bytes, not levels.
func sameImages(t *testing.T, what string, got, want []uint8) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d samples, want %d", what, len(got), len(want))
	}
	off := 0
	for i := range got {
		if got[i] != want[i] {
			off++
		}
	}
	if off > 0 {
		t.Errorf("%s: %d of %d samples differ from what package sample makes of the same input", what, off, len(want))
	}
}

// TestConditionedImages holds jobs whose rows carry pictures or boxes against the reference.
func TestConditionedImages(t *testing.T) {
	compared := 0
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		o := newOracle(t, c)
		m := o.session.Model
		tasks := map[string]func(*testing.T){}
		switch {
		case sample.CanSuperres(m):
			tasks["superres"] = func(t *testing.T) { o.superres(t, "") }
			if c.Has("nonsquare.x_T") {
				tasks["superres nonsquare"] = func(t *testing.T) { o.superres(t, "nonsquare.") }
			}
		case sample.CanInpaint(m):
			tasks["inpaint"] = o.inpaint
		case sample.CanLayout(m):
			tasks["layout"] = o.layout
		}
		if c.Has("start.x_t") {
			tasks["img2img"] = o.img2img
		}
		if c.Has("mask.x0") {
			tasks["inpaint latent"] = o.latentMask
		}
		if len(tasks) == 0 {
			t.Skip("TestSampledImages compares it")
		}
		for _, name := range sorted(tasks) {
			compared++
			t.Run(name, tasks[name])
		}
	})
	if !t.Failed() && compared == 0 {
		t.Error("no case has conditions of rows")
	}
}

// noiseFile writes noise for a job, and gives the setting that names it.
func noiseFile(t *testing.T, x []float32, shape []int, steps []float32, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "noise.safetensors")
	entries := []safetensors.Entry{entry("x_T", x, shape...)}
	if steps != nil {
		entries = append(entries, entry("noise", steps, append([]int{n}, shape...)...))
	}
	writeTensors(t, path, entries...)
	return "sampler.noise_from=" + path
}

// run runs a job of the case's model.
func (o *oracle) run(t *testing.T, settings ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	r := job{kind: "Sample"}.with(onDisk(t, o.Case).settings()...).with("compute.threads=1").with(settings...).to(out).must(t, jobs.RunOptions{})
	if r.Failed > 0 {
		t.Fatalf("%d rows failed: %v", r.Failed, r.Reasons)
	}
	return out
}

// each compares a job with the oracle without the sampler's own noise and, where it is recorded, with it. What a job does to images at
// last, unless nil, is done to the oracle's.
func (o *oracle) each(t *testing.T, x []float32, shape []int, r sample.Request, paste func([]uint8) []uint8, settings ...string) {
	t.Helper()
	for eta, name := range []string{"", "ddim_s10_eta1.noise"} {
		var steps []float32
		if name != "" {
			if !o.Has(name) || len(o.Values(name)) != 10*len(x) {
				continue
			}
			steps = o.Values(name)
		}
		r.Noise = tape{start: x, steps: steps}
		out := o.run(t, append(settings, "sampler.steps=10", fmt.Sprint("sampler.eta=", eta), noiseFile(t, x, shape, steps, 10))...)
		want := rounded(t, o.images(t, sample.Config{Steps: 10, Eta: float64(eta)}, r), r.N, r.H, r.W)
		if paste != nil {
			want = paste(want)
		}
		sameImages(t, fmt.Sprint("eta ", eta), pixels(t, out), want)
	}
}

// superres compares runs from small pictures.
func (o *oracle) superres(t *testing.T, prefix string) {
	x, shape := o.Tensor(prefix + "x_T")
	lr, small := o.Tensor(prefix + "lr_image")
	f := o.first.Factor()
	request := func(lr []float32) sample.Request {
		cond, err := sample.SuperresCondition(o.session, lr, small[0], small[2], small[3])
		if err != nil {
			t.Fatal(err)
		}
		return sample.Request{N: small[0], H: f * small[2], W: f * small[3], Cond: cond}
	}
	o.reference(t, prefix, request(lr))
	bytes, y := levels(lr)
	dir := t.TempDir()
	putPlanes(t, dir, "%d.png", bytes, small[2], small[3])
	o.each(t, x, shape, request(y), nil, "sample.task=superres", "input.path="+dir)
}

// reference holds the oracle against the images, or at the least the latents, that the reference made of a request.
func (o *oracle) reference(t *testing.T, prefix string, r sample.Request) {
	t.Helper()
	r.Noise = tape{start: o.Values(prefix + "x_T")}
	if o.Has(prefix + "decoded_ddim_s10_eta0") {
		goldencase.Near(t, "image", o.images(t, sample.Config{Steps: 10}, r), o.Values(prefix+"decoded_ddim_s10_eta0"), 1e-5)
		return
	}
	z, err := o.generator(t, sample.Config{Steps: 10}).GenerateLatents(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	goldencase.Near(t, "latents", z, o.Values(prefix+"ddim_s10_eta0"), 1e-5)
}

// inpaint compares runs of a model that takes the masked picture. In the job's result the known pixels are the picture's own.
func (o *oracle) inpaint(t *testing.T) {
	x, shape := o.Tensor("x_T")
	pictures, size := o.Tensor("image")
	for i := range pictures { // recorded in [0, 1]
		pictures[i] = pictures[i]*2 - 1
	}
	holes, _ := o.Tensor("mask")
	n, h, w := size[0], size[2], size[3]
	request := func(pictures []float32) sample.Request {
		cond, err := sample.InpaintCondition(o.session, pictures, holes, n, h, w, nil)
		if err != nil {
			t.Fatal(err)
		}
		return sample.Request{N: n, H: h, W: w, Cond: cond}
	}
	o.reference(t, "", request(pictures))
	bytes, y := levels(pictures)
	dir := t.TempDir()
	putPlanes(t, dir, "%d.png", bytes, h, w)
	o.putMasks(t, dir, holes, n, h, w)
	paste := func(images []uint8) []uint8 { return pasted(images, bytes, holes, h*w) }
	o.each(t, x, shape, request(y), paste, "sample.task=inpaint", "input.path="+dir, "input.mask=mask")
}

// putMasks writes masks N x 1 x h x w beside the pictures.
func (o *oracle) putMasks(t *testing.T, dir string, holes []float32, n, h, w int) {
	t.Helper()
	white := 0
	for i := range n {
		at := holes[i*h*w:]
		put(t, dir, fmt.Sprintf("%d_mask.png", i), maskOf(t, w, h, func(x, y int) bool {
			if at[y*w+x] >= 0.5 {
				white++
			}
			return at[y*w+x] >= 0.5
		}))
	}
	if white == 0 || white == n*h*w {
		t.Fatal("the masks have no edge")
	}
}

// pasted puts the known samples of planes N x 3 x hw over images N x hw x 3.
func pasted(images, planes []uint8, holes []float32, hw int) []uint8 {
	for i, v := range holes {
		for c := range 3 {
			if v < 0.5 {
				images[3*i+c] = planes[i/hw*3*hw+c*hw+i%hw]
			}
		}
	}
	return images
}

// layout compares runs from tokens, recorded ones and those of boxes.
func (o *oracle) layout(t *testing.T) {
	x, shape := o.Tensor("x_T")
	recorded, size := o.Tensor("tokens")
	n, f := shape[0], o.first.Factor()
	request := func(tokens [][]int) sample.Request {
		cond, err := sample.LayoutCondition(o.session, tokens)
		if err != nil {
			t.Fatal(err)
		}
		return sample.Request{N: n, H: f * shape[2], W: f * shape[3], Cond: cond}
	}
	rows := make([][]int, n)
	for i, v := range recorded {
		rows[i/size[1]] = append(rows[i/size[1]], int(v))
	}
	o.reference(t, "", request(rows))
	// A vocabulary of 1100 tokens has a grid of 33 x 33 corners; here boxes end on its lines.
	side := 0
	for (side+1)*(side+1) <= o.Config.Conditioner.VocabSize {
		side++
	}
	none := o.Config.Conditioner.VocabSize - 1
	path := descriptions(t, t.TempDir(), func(i int, r *described) {
		r.Boxes, r.Categories = nil, nil
		if i >= n {
			return
		}
		rows[i] = nil
		for k := range 3 + i {
			left, top, right, bottom := k, 2*k+i, 10+3*k, side-1-k
			grid := float64(side - 1)
			r.Boxes = append(r.Boxes, []float64{float64(left) / grid, float64(top) / grid, float64(right-left) / grid, float64(bottom-top) / grid})
			r.Categories = append(r.Categories, int64(7*k+i))
			rows[i] = append(rows[i], 7*k+i, top*side+left, bottom*side+right)
		}
		for len(rows[i]) < size[1]/3*3 {
			rows[i] = append(rows[i], none)
		}
		if size[1]%3 == 2 { // the crop, which is all of the picture
			rows[i] = append(rows[i], 0, side*side-1)
		}
	})
	o.each(t, x, shape, request(rows), nil, "sample.task=layout", "input.path="+path, fmt.Sprint("input.limit=", n), "input.boxes=boxes", "input.categories=categories")
}

// encoded are the scaled latents of pictures in planes, with each row's own noise of the posterior.
func (o *oracle) encoded(t *testing.T, planes []float32, n, h, w int, noise sample.RowNoise) []float32 {
	t.Helper()
	opts := encode.Options{Scale: true}
	if f := o.first.Factor(); o.first.Stochastic() {
		opts.Noise = make([]float32, n*o.first.Channels()*(h/f)*(w/f))
		noise.Fill(sample.StreamPosterior, opts.Noise)
	}
	z, err := o.first.Encode(planes, n, h, w, opts)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(z)
}

// drawn are n pictures of a size, in a folder, as bytes and as numbers.
func drawn(t *testing.T, n, h, w int) (dir string, pix []uint8, planes []float32) {
	t.Helper()
	for i := range n {
		m, _, err := image.Decode(bytes.NewReader(scene(t, uint64(40+i), w, h)))
		if err != nil {
			t.Fatal(err)
		}
		for c := range 3 {
			for k := range h * w {
				v := color.RGBAModel.Convert(m.At(k%w, k/w)).(color.RGBA)
				pix = append(pix, []uint8{v.R, v.G, v.B}[c])
			}
		}
	}
	dir = t.TempDir()
	putPlanes(t, dir, "%d.png", pix, h, w)
	planes = make([]float32, len(pix))
	for i, v := range pix {
		planes[i] = float32(v)/127.5 - 1
	}
	return dir, pix, planes
}

// img2img compares walks from a noised latent: the last six of ten steps.
func (o *oracle) img2img(t *testing.T) {
	noise, shape := o.Tensor("start.noise")
	f := o.first.Factor()
	n, h, w := shape[0], f*shape[2], f*shape[3]
	r := sample.Request{N: n, H: h, W: w, Init: o.Values("mask.x0"), Last: 6, Noise: tape{start: noise}}
	z, err := o.generator(t, sample.Config{Steps: 10}).GenerateLatents(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	goldencase.Near(t, "latents", z, o.Values("start.ddim_s10_last6"), 1e-5)
	dir, _, planes := drawn(t, n, h, w)
	r.Init = o.encoded(t, planes, n, h, w, rowNoise(n))
	o.each(t, noise, shape, r, nil, "sample.task=img2img", "sample.strength=0.6", "input.path="+dir, fmt.Sprint("compute.seed=", rowNoise(n).Seed))
}

// rowNoise is that of pictures named by number.
func rowNoise(n int) sample.RowNoise {
	r := sample.RowNoise{Seed: 5}
	for i := range n {
		r.Rows = append(r.Rows, fmt.Sprintf("%d.png", i))
	}
	return r
}

// latentMask compares walks that keep a known region of the latent.
func (o *oracle) latentMask(t *testing.T) {
	x, shape := o.Tensor("x_T")
	f := o.first.Factor()
	n, h, w := shape[0], f*shape[2], f*shape[3]
	r := sample.Request{N: n, H: h, W: w, Known: o.Values("mask.x0"), Mask: o.Values("mask.mask")}
	r.Noise = tape{start: x, known: o.Values("mask.ddim_s5_eta0.q_noise")}
	z, err := o.generator(t, sample.Config{Steps: 5}).GenerateLatents(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	goldencase.Near(t, "latents", z, o.Values("mask.ddim_s5_eta0"), 1e-5)
	dir, pix, planes := drawn(t, n, h, w)
	holes := make([]float32, n*h*w)
	for i := range holes {
		if y, x := i%(h*w)/w, i%w; x >= w/2 && y >= h/4 {
			holes[i] = 1
		}
	}
	o.putMasks(t, dir, holes, n, h, w)
	r.Noise = rowNoise(n)
	r.Known, r.Mask = o.encoded(t, planes, n, h, w, rowNoise(n)), make([]float32, n*shape[2]*shape[3])
	for i := range r.Mask { // cells without a pixel of a hole
		if y, x := i%(shape[2]*shape[3])/shape[3], i%shape[3]; x*f+f <= w/2 || y*f+f <= h/4 {
			r.Mask[i] = 1
		}
	}
	out := o.run(t, "sample.task=inpaint", "sample.inpaint=latent", "input.path="+dir, "input.mask=mask", "sampler.steps=5", "sampler.eta=1", fmt.Sprint("compute.seed=", rowNoise(n).Seed))
	want := rounded(t, o.images(t, sample.Config{Steps: 5, Eta: 1}, r), n, h, w)
	sameImages(t, "eta 1", pixels(t, out), pasted(want, pix, holes, h*w))
}
