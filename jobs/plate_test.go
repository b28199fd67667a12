package jobs

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// gradient is a PNG of w x h pixels of a kind, with alpha that falls from left to right where the kind has one.
func gradient(t *testing.T, kind string, w, h int) []byte {
	t.Helper()
	r := image.Rect(0, 0, w, h)
	var m interface {
		image.Image
		Set(x, y int, c color.Color)
	}
	switch kind {
	case "gray":
		m = image.NewGray(r)
	case "gray16":
		m = image.NewGray16(r)
	case "rgb16":
		m = image.NewRGBA64(r)
	case "rgba":
		m = image.NewNRGBA(r)
	case "rgba16":
		m = image.NewNRGBA64(r)
	}
	for y := range h {
		for x := range w {
			c := color.NRGBA64{uint16(257*x + 40), uint16(999 * y), uint16(77 * (x + y)), 0xffff}
			if strings.HasPrefix(kind, "rgba") {
				c.A = uint16(0xffff - 1111*x)
			}
			m.Set(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// finished sends a picture through kitchen and plate; between, set says what the task made of it.
func finished(t *testing.T, job *spec.Spec, data []byte, tl *tally, set func(it *item)) *picture.Image {
	t.Helper()
	k, err := newKitchen(job, tl)
	if err != nil {
		t.Fatal(err)
	}
	it := &item{where: "here", raw: data}
	m, err := k.decode(it)
	if err != nil {
		t.Fatal(err)
	}
	it.given.source, it.given.outH, it.given.outW, it.h, it.w = m, m.H, m.W, m.H, m.W
	set(it)
	it.out = make([]float32, 3*it.h*it.w)
	(&plate{job: job, scores: &scores{}}).finish(it)
	if it.failed() {
		t.Fatal(it.row.Error)
	}
	out, err := picture.Decode(it.row.Image, picture.Options{Keep16: true})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAlpha puts alpha back in the results of every kind of task.
func TestAlpha(t *testing.T) {
	const w, h = 12, 8
	for _, kind := range []string{"rgba", "rgba16"} {
		data := gradient(t, kind, w, h)
		src, err := picture.Decode(data, picture.Options{Keep16: true})
		if err != nil {
			t.Fatal(err)
		}
		// at is the alpha of a picture with the precision of its file.
		at := func(m *picture.Image, y, x int) int {
			if m.Alpha16 != nil {
				return int(m.Alpha16[y*m.W+x])
			}
			return int(m.Alpha[y*m.W+x])
		}
		opaque := map[string]int{"rgba": 255, "rgba16": 65535}[kind]
		job := spec.Default().Spec
		for _, c := range []struct {
			name string
			set  func(it *item)
			want func(y, x int) int
		}{
			{"same size", func(*item) {}, func(y, x int) int { return at(src, y, x) }},
			{"cut", func(it *item) { it.given.outH, it.given.outW = h-3, w-1 }, func(y, x int) int { return at(src, y, x) }},
			{"outpainted", func(it *item) {
				g := &it.given
				g.top, g.left, g.outH, g.outW, it.h, it.w = 2, 3, h+2, w+4, h+8, w+4
				g.holes = make([]float32, it.h*it.w)
				for i := range g.holes {
					if y, x := i/it.w-2, i%it.w-3; y < 0 || x < 0 || y >= h || x >= w {
						g.holes[i] = 1
					}
				}
			}, func(y, x int) int {
				if y -= 2; y < 0 || y >= h || x < 3 || x-3 >= w {
					return opaque
				}
				return at(src, y, x-3)
			}},
			{"filled", func(it *item) {
				it.given.holes = make([]float32, h*w)
				it.given.holes[2*w+5] = 1
			}, func(y, x int) int {
				if y == 2 && x == 5 {
					return opaque
				}
				return at(src, y, x)
			}},
		} {
			m := finished(t, &job, data, &tally{}, c.set)
			if m.Alpha == nil || (m.Alpha16 != nil) != (kind == "rgba16") {
				t.Errorf("%s %s: mode %s", kind, c.name, m.Mode)
				continue
			}
			for i := range m.H * m.W {
				if y, x := i/m.W, i%m.W; at(m, y, x) != c.want(y, x) {
					t.Errorf("%s %s: alpha %d at (%d, %d), want %d", kind, c.name, at(m, y, x), y, x, c.want(y, x))
					break
				}
			}
		}
		large := finished(t, &job, data, &tally{}, func(it *item) {
			it.given.scale, it.given.outH, it.given.outW, it.h, it.w = 4, 4*h, 4*w, 4*h, 4*w
		})
		// Enlarged, a ramp stays one: pixel 4x+1.5 lies where pixel x did.
		for x := 3; x < w-3; x++ {
			got, want := (at(large, 16, 4*x+1)+at(large, 16, 4*x+2))/2, at(src, 4, x)
			if d := got - want; d > opaque/200 || d < -opaque/200 {
				t.Errorf("%s: enlarged alpha is %d at column %d, want %d", kind, got, x, want)
			}
		}
	}
}

// TestAlphaJPEG asks to keep alpha in a format that has none: it is laid on the matte, with one warning.
func TestAlphaJPEG(t *testing.T) {
	job := spec.Default().Spec
	job.Output.Format, job.Output.Matte = picture.JPEG, "#ff0000"
	var warnings []string
	tl := &tally{warn: func(s string) { warnings = append(warnings, s) }}
	for range 3 {
		finished(t, &job, gradient(t, "rgba", 12, 8), tl, func(it *item) {
			if m := it.given.source; m.Alpha != nil || m.Pix[3*11] != 56 { // 0.81 of 11 and 0.19 of 255
				t.Errorf("the network sees %v", m.Pix[3*11:3*12])
			}
		})
	}
	finished(t, &job, gradient(t, "gray", 12, 8), tl, func(*item) {})
	if len(warnings) != 1 || !strings.Contains(warnings[0], "here: jpeg has no alpha: transparent pixels are laid on output.matte") || tl.counts()["alpha_matted"] != 3 {
		t.Errorf("warnings %q, counts %v", warnings, tl.counts())
	}
}

// TestPlanes16 reads pictures of 16 bits with all of them.
func TestPlanes16(t *testing.T) {
	job := spec.Default().Spec
	for _, kind := range []string{"gray16", "rgb16", "rgba16"} {
		k, err := newKitchen(&job, &tally{})
		if err != nil {
			t.Fatal(err)
		}
		m, err := k.decode(&item{raw: gradient(t, kind, 12, 8)})
		if err != nil {
			t.Fatal(err)
		}
		x := planes(m, 16, 16)
		for i, v := range x {
			c, y, col := min(i/256, m.Channels-1), mirror(i/16%16, 8), mirror(i%16, 12)
			if want := float32(m.Pix16[m.Channels*(y*12+col)+c])/32767.5 - 1; v != want {
				t.Fatalf("%s: number %d is %g, want %g", kind, i, v, want)
			}
		}
		low := slices.ContainsFunc(m.Pix16, func(v uint16) bool { return v%257 != 0 })
		if !low {
			t.Errorf("%s: the picture has no more than 8 bits", kind)
		}
	}
}
