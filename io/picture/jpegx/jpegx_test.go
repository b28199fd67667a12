package jpegx

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand"
	"testing"
)

// photo is a smooth picture with an edge and noise.
func photo(w, h int) *image.RGBA {
	rng := rand.New(rand.NewSource(3))
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			v := x*150/w + y*80/h + rng.Intn(15)
			if x > y {
				v = 240 - v
			}
			m.SetRGBA(x, y, color.RGBA{uint8(v), uint8(v/2 + 60), uint8(255 - v), 255})
		}
	}
	return m
}

func encode(tb testing.TB, m image.Image, quality int) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: quality}); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// TestIDCT compares with the defining sum in float64: no sample may be off by much more than the half level of rounding.
func TestIDCT(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for trial := range 300 {
		var b [64]int32
		last := rng.Intn(64)
		if trial < 40 {
			last = trial / 4
		}
		for k := range last + 1 {
			b[zigzag[k]] = int32(rng.NormFloat64() * 200 / float64(k+1))
		}
		var got [64]uint8
		idct(&b, last, got[:], 8)
		for y := range 8 {
			for x := range 8 {
				sum := 0.0
				for v := range 8 {
					for u := range 8 {
						c := 0.25
						if u == 0 {
							c *= math.Sqrt2 / 2
						}
						if v == 0 {
							c *= math.Sqrt2 / 2
						}
						sum += c * float64(b[8*v+u]) * math.Cos(float64((2*x+1)*u)*math.Pi/16) * math.Cos(float64((2*y+1)*v)*math.Pi/16)
					}
				}
				want := min(max(sum+128, 0), 255)
				if d := math.Abs(float64(got[8*y+x]) - want); d > 0.6 {
					t.Fatalf("trial %d, last %d: sample %d,%d is %d, exact %.3f", trial, last, x, y, got[8*y+x], want)
				}
			}
		}
	}
}

// TestShortcuts checks that the fast paths for few coefficients give what the full transform gives.
func TestShortcuts(t *testing.T) {
	rng := rand.New(rand.NewSource(2))
	for range 500 {
		var b [64]int32
		last := rng.Intn(10)
		for k := range last + 1 {
			b[zigzag[k]] = int32(rng.Intn(801) - 400)
		}
		var fast, full [64]uint8
		idct(&b, last, fast[:], 8)
		idct(&b, 63, full[:], 8)
		if fast != full {
			t.Fatalf("%d coefficients: %v, in full %v", last+1, fast, full)
		}
	}
}

func TestTriangle(t *testing.T) {
	in, near := []uint8{10, 20, 60, 255}, []uint8{0, 100, 60, 255}
	out := make([]uint8, 8)
	triangleH(out, in)
	if want := []uint8{10, 13, 17, 30, 50, 109, 206, 255}; !bytes.Equal(out, want) {
		t.Errorf("horizontal %v, want %v", out, want)
	}
	triangleHV(out, in, near, make([]uint16, 4))
	// Sums 30 160 240 1020, then (4a+8)>>4, (3a+b+7)>>4, (3b+a+8)>>4, ..., (4d+7)>>4.
	if want := []uint8{8, 16, 32, 45, 55, 109, 206, 255}; !bytes.Equal(out, want) {
		t.Errorf("both %v, want %v", out, want)
	}
}

// TestAgainstStandard compares gray pictures, where no chroma filter differs: only the inverse DCT does.
func TestAgainstStandard(t *testing.T) {
	rgb := photo(67, 45)
	gray := image.NewGray(rgb.Rect)
	for i := range gray.Pix {
		gray.Pix[i] = rgb.Pix[4*i]
	}
	var d Decoder
	for _, q := range []int{30, 75, 95, 100} {
		data := encode(t, gray, q)
		ref, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Decode(data, nil)
		if err != nil {
			t.Fatal(err)
		}
		g := ref.(*image.Gray)
		for i := range 67 * 45 {
			want := int(g.GrayAt(i%67, i/67).Y)
			if diff := int(r.Pix[3*i]) - want; diff < -2 || diff > 2 || r.Pix[3*i] != r.Pix[3*i+1] || r.Pix[3*i] != r.Pix[3*i+2] {
				t.Fatalf("quality %d: pixel %d is %v, standard decoder %d", q, i, r.Pix[3*i:3*i+3], want)
			}
		}
		if r.Mode != "L" || r.Components != 1 {
			t.Errorf("mode %s with %d components", r.Mode, r.Components)
		}
	}
}

// segment finds the payload of the first segment with a marker.
func segment(tb testing.TB, data []byte, marker byte) int {
	tb.Helper()
	i := bytes.Index(data, []byte{0xff, marker})
	if i < 0 {
		tb.Fatalf("no marker %#x", marker)
	}
	return i + 4
}

func TestDamage(t *testing.T) {
	sound := encode(t, photo(48, 48), 80)
	sof, dqt, sos, dht := segment(t, sound, 0xc0), segment(t, sound, 0xdb), segment(t, sound, 0xda), segment(t, sound, 0xc4)
	scan := sos + 10
	set := func(at int, v ...byte) []byte {
		b := bytes.Clone(sound)
		copy(b[at:], v)
		return b
	}
	insert := func(at int, v ...byte) []byte {
		return append(append(bytes.Clone(sound[:at]), v...), sound[at:]...)
	}
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"no start", set(0, 'x'), ErrCorrupt},
		{"12 bit", set(sof, 12), ErrUnsupported},
		{"height 0", set(sof+1, 0, 0), ErrUnsupported},
		{"width 0", set(sof+3, 0, 0), ErrCorrupt},
		{"2 components", set(sof+5, 2), ErrUnsupported},
		{"sampling 5x1", set(sof+7, 0x51), ErrCorrupt},
		{"fractional sampling", set(sof+7, 0x32, 0, 2, 0x21), ErrUnsupported},
		{"quantization table 9", set(sof+8, 9), ErrCorrupt},
		{"shared ids", set(sof+6+3, sound[sof+6]), ErrCorrupt},
		{"table precision 2", set(dqt, 0x20), ErrCorrupt},
		{"huffman class 2", set(dht, 0x20), ErrCorrupt},
		{"huffman overfull", set(dht+1, 3), ErrCorrupt},
		{"arithmetic coding", set(sof-3, 0xc9), ErrUnsupported},
		{"lossless", set(sof-3, 0xc3), ErrUnsupported},
		{"scan of unknown component", set(sos+1, 77), ErrCorrupt},
		{"scan with unset table", set(sos+2, 0x33), ErrCorrupt},
		{"scan of 4 components", set(sos, 4), ErrCorrupt},
		{"end inside the scan", insert(scan+20, 0xff, 0xd9), ErrTruncated},
		{"restart inside the scan", insert(scan+20, 0xff, 0xd3), ErrTruncated},
		{"only ones", set(scan, bytes.Repeat([]byte{0xff, 0}, 40)...), ErrCorrupt},
		{"restart interval without restarts", insert(sof-4, 0xff, 0xdd, 0, 4, 0, 2), ErrCorrupt},
		{"no end", sound[:len(sound)-2], ErrTruncated},
		{"size beyond the data", set(sof+1, 0x30, 0, 0x30, 0), ErrTruncated},
		{"headers only", append(bytes.Clone(sound[:sos-4]), 0xff, 0xd9), ErrTruncated},
	} {
		var d Decoder
		_, err := d.Decode(c.data, nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	d := Decoder{MaxBytes: 48 * 48 * 3}
	if _, err := d.Decode(sound, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("byte bound: %v", err)
	}
}

// TestReuse decodes pictures of several sizes with one decoder, with errors between; each must be as from a fresh one.
func TestReuse(t *testing.T) {
	var d Decoder
	var pix []uint8
	for _, size := range [][2]int{{64, 64}, {9, 50}, {130, 17}, {1, 1}, {64, 64}} {
		data := encode(t, photo(size[0], size[1]), 85)
		if _, err := d.Decode(data[:len(data)*3/4], pix); err == nil {
			t.Fatal("cut file decodes")
		}
		got, err := d.Decode(data, pix)
		if err != nil {
			t.Fatal(err)
		}
		var fresh Decoder
		want, err := fresh.Decode(data, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("%v: reused decoder gives other pixels", size)
		}
		pix = got.Pix
	}
	data := encode(t, photo(64, 64), 85)
	pix = make([]uint8, 3*64*64)
	if n := testing.AllocsPerRun(20, func() {
		if _, err := d.Decode(data, pix); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%.0f allocations a picture", n)
	}
}

func TestProfile(t *testing.T) {
	sound := encode(t, photo(16, 16), 80)
	part := func(i, n byte, body string) []byte {
		return append([]byte{0xff, 0xe2, 0, byte(16 + len(body)), 'I', 'C', 'C', '_', 'P', 'R', 'O', 'F', 'I', 'L', 'E', 0, i, n}, body...)
	}
	for _, c := range []struct {
		name  string
		parts [][]byte
		want  string
	}{
		{"none", nil, ""},
		{"out of order", [][]byte{part(2, 2, "world"), part(1, 2, "hello ")}, "hello world"},
		{"missing part", [][]byte{part(1, 2, "hello ")}, ""},
		{"same part twice", [][]byte{part(1, 2, "a"), part(1, 2, "b")}, ""},
	} {
		data := append(bytes.Clone(sound[:2]), bytes.Join(c.parts, nil)...)
		var d Decoder
		i, err := d.Probe(append(data, sound[2:]...))
		if err != nil || string(i.ICC) != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, i.ICC, err, c.want)
		}
	}
}

// FuzzDecode checks that no input panics and that a decoded picture is whole.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, photo(20, 9), 80))
	f.Add(encode(f, image.NewGray(image.Rect(0, 0, 9, 9)), 50))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := Decoder{MaxBytes: 8 << 20}
		r, err := d.Decode(data, nil)
		if err != nil {
			for _, class := range []error{ErrTruncated, ErrCorrupt, ErrUnsupported, ErrTooLarge} {
				if errors.Is(err, class) {
					return
				}
			}
			t.Fatalf("error without a class: %v", err)
		}
		if len(r.Pix) != 3*r.W*r.H || r.W == 0 || r.H == 0 {
			t.Fatalf("%dx%d with %d bytes", r.W, r.H, len(r.Pix))
		}
	})
}
