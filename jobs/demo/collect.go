package demo

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ldm-batch/ldm-batch/eval/report"
	"github.com/ldm-batch/ldm-batch/internal/demodata"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/page"
	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/resize"
	"github.com/ldm-batch/ldm-batch/jobs/scoring"
)

// contents are what index.html is made of.
type contents struct {
	Data        string   // the folder of the data set
	Files       []string // of the jobs, as the page names them
	Classes     []class
	Upscaled    []series
	Filled      []series
	Autoencoded []series
	Scores      []Score
}

// class are the pictures that were generated of one class.
type class struct {
	Name     string
	Pictures []shot
}

// series are pictures that belong together, such as before and after.
type series []shot

// shot is one picture: a data URL, what it shows, and whether its pixels are to be seen.
type shot struct {
	URL   template.URL
	Alt   string
	Blown bool // enlarged, without smoothing
}

// The page shows so many pictures of a job with pairs.
const shown = 12

// collect reads the outputs below dir.
func collect(ctx context.Context, dir string, files []string) (*contents, error) {
	p := &contents{Data: filepath.ToSlash(filepath.Join(dir, "data"))}
	for _, f := range files {
		p.Files = append(p.Files, filepath.ToSlash(f))
	}
	set, err := demodata.New(demodata.Options{Size: size, Seed: seed, Split: split, Objects: 1})
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		func() error { return p.generated(filepath.Join(dir, "class")) },
		func() error { return p.upscaled(filepath.Join(dir, "superres"), set) },
		func() error { return p.filled(filepath.Join(dir, "inpaint"), set) },
		func() error { return p.scored("generated pictures", filepath.Join(dir, "score-class")) },
		func() error { return p.scored("first stage", filepath.Join(dir, "score-first-stage")) },
	} {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := step(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// rowsOf calls f with every row of a finished folder.
func rowsOf(dir string, f func(s part.Schema, r part.Row) error) error {
	files, err := filepath.Glob(filepath.Join(dir, "data", "*.arrow"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return exitcode.Errorf(exitcode.Data, "%s: holds no parts", dir)
	}
	for _, file := range files {
		if err := rowsOfPart(file, f); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func rowsOfPart(file string, f func(s part.Schema, r part.Row) error) error {
	r, err := part.OpenTrusted(file)
	if err != nil {
		return err
	}
	defer r.Close()
	schema := r.Schema()
	for row, err := range r.Rows() {
		if err == nil && row.Status != part.OK {
			err = exitcode.Errorf(exitcode.Data, "row %s: %s", row.ID, row.Error)
		}
		if err == nil {
			err = f(schema, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *contents) generated(dir string) error {
	return rowsOf(dir, func(_ part.Schema, r part.Row) error {
		if r.Label < 0 || r.Label >= int64(len(demodata.Classes)) {
			return exitcode.Errorf(exitcode.Data, "row %s: label %d is none of the demonstration's classes", r.ID, r.Label)
		}
		name := demodata.Classes[r.Label]
		if n := len(p.Classes); n == 0 || p.Classes[n-1].Name != name {
			p.Classes = append(p.Classes, class{Name: name})
		}
		c := &p.Classes[len(p.Classes)-1]
		c.Pictures = append(c.Pictures, shot{URL: page.PNG(r.Image), Alt: "generated: " + name})
		return nil
	})
}

// original is the picture that a row was made from.
func original(set *demodata.Set, r part.Row) (*demodata.Picture, error) {
	i, err := strconv.ParseInt(strings.TrimPrefix(r.ID, split+"-"), 10, 64)
	if err != nil {
		return nil, exitcode.Errorf(exitcode.Data, "row %s is none of the demonstration's pictures", r.ID)
	}
	return set.Row(i), nil
}

func (p *contents) upscaled(dir string, set *demodata.Set) error {
	const factor = 4
	shrink, err := resize.New("pil-bicubic")
	if err != nil {
		return err
	}
	var psnr, ssim mean
	err = rowsOf(dir, func(s part.Schema, r part.Row) error {
		for i, c := range s.Extra {
			if v, ok := r.Extra[i].(float64); ok && c.Name == "psnr" {
				psnr.add(v)
			} else if ok && c.Name == "ssim" {
				ssim.add(v)
			}
		}
		if len(p.Upscaled) == shown {
			return nil
		}
		o, err := original(set, r)
		if err != nil {
			return err
		}
		small := picture.NewFrame(size/factor, size/factor, 3, 8)
		if err := shrink.Uint8(small.Pix8, o.RGB, resize.Shape{SrcH: size, SrcW: size, DstH: small.H, DstW: small.W, Channels: 3}); err != nil {
			return err
		}
		before, err := encode(small)
		if err != nil {
			return err
		}
		truth, err := encode(frame(o.RGB))
		if err != nil {
			return err
		}
		p.Upscaled = append(p.Upscaled, series{
			{URL: before, Alt: "16x16 pixels: " + o.Caption, Blown: true},
			{URL: page.PNG(r.Image), Alt: "upscaled to 64x64"},
			{URL: truth, Alt: "original"},
		})
		return nil
	})
	p.add("super-resolution", "PSNR", "dB", psnr)
	p.add("super-resolution", "SSIM", "", ssim)
	return err
}

func (p *contents) filled(dir string, set *demodata.Set) error {
	var psnr mean
	err := rowsOf(dir, func(_ part.Schema, r part.Row) error {
		o, err := original(set, r)
		if err != nil {
			return err
		}
		if err := psnr.within(o, r.Image); err != nil {
			return fmt.Errorf("row %s: %w", r.ID, err)
		}
		if len(p.Filled) == shown {
			return nil
		}
		truth, err := encode(frame(o.RGB))
		if err != nil {
			return err
		}
		holed := bytes.Clone(o.RGB)
		for i, m := range o.Mask {
			if m != 0 {
				copy(holed[3*i:], []uint8{128, 128, 128})
			}
		}
		before, err := encode(frame(holed))
		if err != nil {
			return err
		}
		p.Filled = append(p.Filled, series{
			{URL: before, Alt: "with a hole: " + o.Caption},
			{URL: page.PNG(r.Image), Alt: "filled"},
			{URL: truth, Alt: "original"},
		})
		return nil
	})
	p.add("inpainting", "PSNR within the holes", "dB", psnr)
	return err
}

// within adds the PSNR of a filled picture in the hole, where there is one.
func (m *mean) within(o *demodata.Picture, file []byte) error {
	filled, err := picture.Decode(file, picture.Options{})
	if err != nil {
		return err
	}
	if len(filled.Pix) != len(o.RGB) {
		return exitcode.Errorf(exitcode.Data, "a picture of %dx%d pixels is none of the demonstration", filled.W, filled.H)
	}
	sum, n := 0.0, 0
	for i, hole := range o.Mask {
		if hole == 0 {
			continue
		}
		for c := range 3 {
			d := float64(filled.Pix[3*i+c]) - float64(o.RGB[3*i+c])
			sum, n = sum+d*d, n+1
		}
	}
	if n > 0 {
		m.add(10 * math.Log10(255*255/(sum/float64(n))))
	}
	return nil
}

// scored reads what an evaluation found.
func (p *contents) scored(of, dir string) error {
	file := filepath.Join(dir, scoring.ReportName)
	f, err := os.Open(file)
	if err != nil {
		return exitcode.With(exitcode.IO, err)
	}
	defer f.Close()
	r, err := report.Read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, s := range r.Scores {
		score := Score{Of: of, Name: s.Label, Value: float64(s.Value), Rows: s.GeneratedRows}
		switch s.Metric {
		case "psnr":
			score.Unit = "dB"
		case "accuracy", "precision", "recall":
			score.Unit = "%"
		}
		p.Scores = append(p.Scores, score)
	}
	for _, pair := range r.Pairs {
		if len(p.Autoencoded) == shown {
			break
		}
		p.Autoencoded = append(p.Autoencoded, series{
			{URL: page.PNG(pair.Reference.PNG), Alt: "original"},
			{URL: page.PNG(pair.Generated.PNG), Alt: "decoded from its latent"},
		})
	}
	return nil
}

// mean is a running mean.
type mean struct {
	sum float64
	n   int64
}

func (m *mean) add(v float64) {
	if !math.IsInf(v, 0) {
		m.sum, m.n = m.sum+v, m.n+1
	}
}

// add puts a mean among the scores, if it is one of anything.
func (p *contents) add(of, name, unit string, m mean) {
	if m.n > 0 {
		p.Scores = append(p.Scores, Score{of, name, m.sum / float64(m.n), unit, m.n})
	}
}

func frame(rgb []uint8) *picture.Frame {
	return &picture.Frame{W: size, H: size, Channels: 3, Pix8: rgb}
}

func encode(f *picture.Frame) (template.URL, error) {
	var b bytes.Buffer
	err := picture.Encode(&b, f, picture.EncodeOptions{Format: picture.PNG, Level: picture.Small})
	return page.PNG(b.Bytes()), err
}
