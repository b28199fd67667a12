package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/ldm-batch/ldm-batch/io/atomicfile"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/io/table"
)

// shape says whether a pixel is in front, from its coordinates in units of the shorter side, the origin in
// the middle, and a size in 0.2..0.4.
type shape func(x, y, size float64) bool

// shapes are the classes.
var shapes = []struct {
	name string
	in   shape
}{
	{"checks", func(x, y, s float64) bool { return math.Mod(math.Floor(x/s)+math.Floor(y/s)+64, 2) == 1 }},
	{"disc", func(x, y, s float64) bool { return math.Hypot(x, y) < s }},
	{"ring", func(x, y, s float64) bool { r := math.Hypot(x, y); return r < s && r > 0.6*s }},
	{"stripes", func(x, y, s float64) bool { return math.Mod(x+y+8, s) < s/2 }},
}

const perClass = 16

// writeDataset draws the pictures and writes them, classes in turn, as two Parquet files.
func writeDataset(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	const files = 2
	w := atomicfile.Writer{TempDir: dir}
	for f := range files {
		name := fmt.Sprintf("train-%05d-of-%05d.parquet", f, files)
		if err := w.Replace(filepath.Join(dir, name), func(out io.Writer) error {
			return writeRows(out, f*perClass/files, (f+1)*perClass/files)
		}, nil); err != nil {
			return err
		}
	}
	return nil
}

// writeRows writes pictures from..to of every class as one file.
func writeRows(out io.Writer, from, to int) error {
	var o table.Options
	for _, s := range shapes {
		o.LabelNames = append(o.LabelNames, s.name)
	}
	w, err := table.NewWriter(out, o)
	if err != nil {
		return err
	}
	for i := from; i < to; i++ {
		for class, s := range shapes {
			m := draw(s.in, rand.New(rand.NewPCG(uint64(class), uint64(i))))
			var file bytes.Buffer
			if err := picture.EncodePNG(&file, m, picture.PNGOptions{}); err != nil {
				return err
			}
			label, id := int64(class), fmt.Sprintf("%s-%03d", s.name, i)
			row := table.Row{ID: id, Image: file.Bytes(), Path: id + ".png", Label: &label, Width: m.W, Height: m.H, Status: "ok"}
			if err := w.Append(row); err != nil {
				return err
			}
		}
	}
	return w.Close()
}

// draw makes one picture: a shape of random place, size and colour on a shaded background.
func draw(in shape, r *rand.Rand) *picture.Image {
	w, h := 72+r.IntN(57), 72+r.IntN(57)
	m := &picture.Image{W: w, H: h, Pix: make([]uint8, 3*w*h)}
	size, cx, cy := 0.2+0.2*r.Float64(), 0.2*r.Float64()-0.1, 0.2*r.Float64()-0.1
	var front, back [3]float64
	for c := range 3 {
		front[c], back[c] = 128+127*r.Float64(), 127*r.Float64()
	}
	for y := range h {
		for x := range w {
			u := (float64(x)-float64(w)/2)/float64(min(w, h)) - cx
			v := (float64(y)-float64(h)/2)/float64(min(w, h)) - cy
			colour, shade := back, 0.5+0.5*float64(y)/float64(h)
			if in(u, v, size) {
				colour, shade = front, 1
			}
			for c := range 3 {
				m.Pix[3*(y*w+x)+c] = uint8(colour[c] * shade)
			}
		}
	}
	return m
}
