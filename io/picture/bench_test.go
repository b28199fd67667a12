package picture

import (
	"bytes"
	"image"
	"image/draw"
	_ "image/jpeg"
	"image/png"
	"math/rand"
	"testing"
)

// scene is a picture with smooth areas, edges and noise, in about a photo's proportions.
func scene(w, h int) *Image {
	rng := rand.New(rand.NewSource(1))
	m := &Image{W: w, H: h, Pix: make([]uint8, 3*w*h)}
	for y := range h {
		for x := range w {
			p := m.Pix[3*(y*w+x):]
			base := (x*200/w + y*50/h)
			if (x-w/2)*(x-w/2)+(y-h/2)*(y-h/2) < w*h/9 {
				base = 230 - base/2
			}
			n := rng.Intn(12)
			p[0], p[1], p[2] = clampByte(base+n), clampByte(base/2+60+n), clampByte(200-base+n)
			if x/16%4 == 0 && y > h/2 {
				p[0], p[1], p[2] = p[2], p[0], p[1]
			}
		}
	}
	return m
}

func clampByte(v int) uint8 { return uint8(min(max(v, 0), 255)) }

func encoded(tb testing.TB, encode func(*bytes.Buffer) error) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := encode(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func benchDecode(b *testing.B, data []byte) {
	b.Run("own", func(b *testing.B) {
		var d Decoder
		var img Image
		b.ReportAllocs()
		for b.Loop() {
			if err := d.DecodeInto(&img, data, DefaultOptions()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
	})
	std := func(name string, decode func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := decode(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
	plain := func() (image.Image, error) {
		m, _, err := image.Decode(bytes.NewReader(data))
		return m, err
	}
	std("std", func() error { _, err := plain(); return err })
	std("std+rgba", func() error {
		m, err := plain()
		if err == nil {
			draw.Draw(image.NewRGBA(m.Bounds()), m.Bounds(), m, image.Point{}, draw.Src)
		}
		return err
	})
}

func BenchmarkDecodeJPEG256(b *testing.B) {
	benchDecode(b, encoded(b, func(w *bytes.Buffer) error { return EncodeJPEG(w, scene(256, 256), 90) }))
}

func BenchmarkDecodePNG256(b *testing.B) {
	benchDecode(b, encoded(b, func(w *bytes.Buffer) error { return EncodePNG(w, scene(256, 256), PNGOptions{}) }))
}

func BenchmarkEncode256(b *testing.B) {
	m := scene(256, 256)
	var buf bytes.Buffer
	std := png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: new(pngPool)}
	for _, c := range []struct {
		name   string
		encode func() error
	}{
		{"png", func() error { return EncodePNG(&buf, m, PNGOptions{}) }},
		{"jpeg", func() error { return EncodeJPEG(&buf, m, 90) }},
		{"std png", func() error {
			out := image.NewRGBA(image.Rect(0, 0, m.W, m.H))
			pad(out.Pix, m.Pix)
			return std.Encode(&buf, out)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf.Reset()
				if err := c.encode(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(buf.Len()), "bytes")
		})
	}
}

// pngPool gives the standard encoder its buffers back.
type pngPool struct{ e *png.EncoderBuffer }

func (p *pngPool) Get() *png.EncoderBuffer  { return p.e }
func (p *pngPool) Put(e *png.EncoderBuffer) { p.e = e }
