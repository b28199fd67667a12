package picture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/image/tiff"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

// frameOf is a frame with smooth areas and noise.
func frameOf(w, h, channels, depth int) *Frame {
	f := NewFrame(w, h, channels, depth)
	rng := rand.New(rand.NewSource(int64(channels + depth)))
	for i := range w * h * channels {
		v := uint16(i/channels%w*65535/w)/2 + uint16(rng.Intn(5000)) + uint16(i%channels*9000)
		if depth == 16 {
			f.Pix16[i] = v
		} else {
			f.Pix8[i] = uint8(v >> 8)
		}
	}
	return f
}

// profileOf is a profile header of a colour space, with n bytes behind it.
func profileOf(space string, n int) []byte {
	b := make([]byte, 128+n)
	rand.New(rand.NewSource(int64(n))).Read(b[128:])
	copy(b[16:], space)
	copy(b[36:], "acsp")
	return b
}

func encodeFrame(tb testing.TB, f *Frame, o EncodeOptions) []byte {
	tb.Helper()
	return encoded(tb, func(b *bytes.Buffer) error { return Encode(b, f, o) })
}

func TestPNGRoundTrip(t *testing.T) {
	exif := exifWith(tagOrientation, 1)
	for _, size := range [][2]int{{1, 1}, {7, 5}, {300, 200}} {
		for _, depth := range []int{8, 16} {
			for channels := 1; channels <= 4; channels++ {
				for _, level := range []Level{Fast, Small, None} {
					name := fmt.Sprintf("%dx%d, %d channels of %d bits, level %d", size[0], size[1], channels, depth, level)
					f := frameOf(size[0], size[1], channels, depth)
					f.ICC, f.EXIF = profileOf("RGB ", 3000), exif
					data := encodeFrame(t, f, EncodeOptions{Format: PNG, Level: level})
					img, err := Decode(data, Options{Keep16: true})
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if len(img.Notes) > 0 || !bytes.Equal(img.ICC, f.ICC) || !bytes.Equal(img.EXIF, f.EXIF) {
						t.Errorf("%s: notes %v, %d bytes of profile, %d of exif", name, img.Notes, len(img.ICC), len(img.EXIF))
					}
					if got := img.Frame(); got.Channels != channels || !slices.Equal(got.Pix8, f.Pix8) || !slices.Equal(got.Pix16, f.Pix16) {
						t.Errorf("%s: decoded to %d channels of %d bits, or to other pixels", name, got.Channels, got.Depth())
					}
					m, err := png.Decode(bytes.NewReader(data))
					if err != nil {
						t.Fatalf("%s: standard decoder: %v", name, err)
					}
					wantStandard(t, name, m, f)
				}
			}
		}
	}
}

// wantStandard compares a picture of the standard library with a frame.
func wantStandard(t *testing.T, name string, m image.Image, f *Frame) {
	t.Helper()
	sample := func(i, c int) uint16 {
		if f.Pix16 != nil {
			return f.Pix16[i*f.Channels+c]
		}
		return uint16(f.Pix8[i*f.Channels+c]) * 257
	}
	for i := range f.W * f.H {
		want := color.NRGBA64{A: 65535}
		switch f.Channels {
		case 2, 1:
			want.R = sample(i, 0)
			want.G, want.B = want.R, want.R
		default:
			want.R, want.G, want.B = sample(i, 0), sample(i, 1), sample(i, 2)
		}
		if f.HasAlpha() {
			want.A = sample(i, f.Channels-1)
		}
		var got color.NRGBA64
		switch c := m.At(i%f.W, i/f.W).(type) {
		case color.NRGBA: // without the loss of the way through multiplied colours
			got = color.NRGBA64{uint16(c.R) * 257, uint16(c.G) * 257, uint16(c.B) * 257, uint16(c.A) * 257}
		case color.NRGBA64:
			got = c
		default:
			got = color.NRGBA64Model.Convert(c).(color.NRGBA64)
		}
		if got != want {
			t.Errorf("%s: standard decoder: pixel %d is %v, want %v", name, i, got, want)
			return
		}
	}
}

// TestPNGSame wants the same bytes whatever was encoded before, and on many goroutines.
func TestPNGSame(t *testing.T) {
	flat := NewFrame(200, 100, 3, 8)
	frames := []*Frame{flat, frameOf(300, 200, 3, 8), frameOf(64, 64, 1, 16), frameOf(301, 7, 4, 8)}
	var want [][]byte
	for _, f := range frames {
		want = append(want, encodeFrame(t, f, EncodeOptions{Format: PNG}))
	}
	if n := len(want[0]); n > 1000 {
		t.Errorf("a flat picture takes %d bytes", n)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20 {
				k := (g*7 + i*3) % len(frames)
				var b bytes.Buffer
				if err := Encode(&b, frames[k], EncodeOptions{Format: PNG}); err != nil || !bytes.Equal(b.Bytes(), want[k]) {
					t.Errorf("frame %d: other bytes, %v", k, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestJPEGMetadata(t *testing.T) {
	exif := exifWith(0x10f, 7)
	for _, channels := range []int{1, 3} {
		for _, n := range []int{0, 500, iccChunk - 128, iccChunk - 127, 200000} {
			name := fmt.Sprintf("%d channels, profile of %d bytes", channels, n)
			f := frameOf(33, 17, channels, 8)
			plain := encodeFrame(t, f, EncodeOptions{Format: JPEG, Quality: 90})
			f.EXIF = exif
			if n > 0 {
				f.ICC = profileOf("RGB ", n)
			}
			data := encodeFrame(t, f, EncodeOptions{Format: JPEG, Quality: 90})
			if !bytes.HasPrefix(data, []byte(jfif)) {
				t.Errorf("%s: starts with % x", name, data[:20])
			}
			img, err := Decode(data, DefaultOptions())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(img.ICC, f.ICC) || !bytes.Equal(img.EXIF, exif) || img.Channels != channels {
				t.Errorf("%s: %d bytes of profile, %d of exif, %d channels", name, len(img.ICC), len(img.EXIF), img.Channels)
			}
			bare, err := Decode(plain, DefaultOptions())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(img.Pix, bare.Pix) {
				t.Errorf("%s: metadata change the pixels", name)
			}
			m, err := jpeg.Decode(bytes.NewReader(data))
			if err != nil {
				t.Fatalf("%s: standard decoder: %v", name, err)
			}
			if _, gray := m.(*image.Gray); gray != (channels == 1) {
				t.Errorf("%s: the standard decoder gives a %T", name, m)
			}
			off := 0
			for i, v := range img.Frame().Pix8 {
				off = max(off, abs(int(v)-int(f.Pix8[i])))
			}
			if off > 100 {
				t.Errorf("%s: off by %d", name, off)
			}
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	with := func(f *Frame, change func(*Frame)) *Frame { change(f); return f }
	for _, c := range []struct {
		name string
		f    *Frame
		o    EncodeOptions
		want string
	}{
		{"alpha in a jpeg", frameOf(2, 2, 4, 8), EncodeOptions{Format: JPEG, Quality: 90}, "matted"},
		{"gray alpha in a jpeg", frameOf(2, 2, 2, 8), EncodeOptions{Format: JPEG, Quality: 90}, "matted"},
		{"16 bits in a jpeg", frameOf(2, 2, 3, 16), EncodeOptions{Format: JPEG, Quality: 90}, "narrowed"},
		{"quality 0", frameOf(2, 2, 3, 8), EncodeOptions{Format: JPEG}, "quality 0"},
		{"webp", frameOf(2, 2, 3, 8), EncodeOptions{Format: WebP}, `not "webp"`},
		{"wide jpeg", frameOf(70000, 1, 1, 8), EncodeOptions{Format: JPEG, Quality: 90}, "65535"},
		{"exif", with(frameOf(2, 2, 3, 8), func(f *Frame) { f.EXIF = make([]byte, maxJPEGEXIF+1) }), EncodeOptions{Format: JPEG, Quality: 90}, "exif"},
		{"profile", with(frameOf(2, 2, 3, 8), func(f *Frame) { f.ICC = make([]byte, maxJPEGICC+1) }), EncodeOptions{Format: JPEG, Quality: 90}, "icc"},
		{"level", frameOf(2, 2, 3, 8), EncodeOptions{Format: PNG, Level: 3}, "level 3"},
		{"5 channels", &Frame{W: 1, H: 1, Channels: 5, Pix8: make([]uint8, 5)}, EncodeOptions{Format: PNG}, "5 channels"},
		{"both depths", with(frameOf(2, 2, 3, 8), func(f *Frame) { f.Pix16 = []uint16{} }), EncodeOptions{Format: PNG}, "of 16"},
		{"short", with(frameOf(2, 2, 3, 8), func(f *Frame) { f.Pix8 = f.Pix8[1:] }), EncodeOptions{Format: PNG}, "11 samples"},
	} {
		var b bytes.Buffer
		if err := Encode(&b, c.f, c.o); err == nil || !strings.Contains(err.Error(), c.want) || b.Len() > 0 {
			t.Errorf("%s: error %v after %d bytes, want %q", c.name, err, b.Len(), c.want)
		}
	}
	f := frameOf(2, 2, 3, 8)
	f.EXIF, f.ICC = make([]byte, maxJPEGEXIF), make([]byte, maxJPEGICC)
	if err := Encode(&bytes.Buffer{}, f, EncodeOptions{Format: JPEG, Quality: 1}); err != nil {
		t.Errorf("the largest metadata: %v", err)
	}
}

// wide16 lists files with 16 bits and the frames that they hold.
func wide16(t *testing.T) map[string]struct {
	data []byte
	want *Frame
} {
	t.Helper()
	files := map[string]struct {
		data []byte
		want *Frame
	}{}
	add := func(name string, data []byte, want *Frame) {
		files[name] = struct {
			data []byte
			want *Frame
		}{data, want}
	}
	for channels := 1; channels <= 4; channels++ {
		f := frameOf(9, 6, channels, 16)
		add(fmt.Sprintf("png %d", channels), encodeFrame(t, f, EncodeOptions{Format: PNG}), f)
	}
	rect := image.Rect(0, 0, 9, 6)
	gray, rgba := image.NewGray16(rect), image.NewNRGBA64(rect)
	g, c := frameOf(9, 6, 1, 16), frameOf(9, 6, 4, 16)
	for i, v := range g.Pix16 {
		binary.BigEndian.PutUint16(gray.Pix[2*i:], v)
	}
	for i, v := range c.Pix16 {
		binary.BigEndian.PutUint16(rgba.Pix[2*i:], v)
	}
	for _, comp := range []tiff.CompressionType{tiff.Uncompressed, tiff.Deflate} {
		o := &tiff.Options{Compression: comp, Predictor: comp == tiff.Deflate}
		add(fmt.Sprintf("tiff gray %v", comp), encoded(t, func(b *bytes.Buffer) error { return tiff.Encode(b, gray, o) }), g)
		add(fmt.Sprintf("tiff rgba %v", comp), encoded(t, func(b *bytes.Buffer) error { return tiff.Encode(b, rgba, o) }), c)
	}
	rgb := frameOf(9, 6, 3, 16)
	pnm := func(kind string, f *Frame) []byte {
		b := []byte(kind + "\n9 6\n65535\n")
		for _, v := range f.Pix16 {
			b = binary.BigEndian.AppendUint16(b, v)
		}
		return b
	}
	add("pgm", pnm("P5", g), g)
	add("ppm", pnm("P6", rgb), rgb)
	add("pgm of 10 bits", []byte("P2 2 1 1023 0 1023"), &Frame{W: 2, H: 1, Channels: 1, Pix16: []uint16{0, 65535}})

	// One colour of an RGB picture is transparent.
	keyed := frameOf(9, 6, 4, 16)
	key := slices.Clone(rgb.Pix16[30:33])
	for i := range 54 {
		copy(keyed.Pix16[4*i:], rgb.Pix16[3*i:3*i+3])
		if keyed.Pix16[4*i+3] = 65535; slices.Equal(rgb.Pix16[3*i:3*i+3], key) {
			keyed.Pix16[4*i+3] = 0
		}
	}
	var b bytes.Buffer
	p := &pngWriter{w: &b}
	p.chunk("tRNS", []byte{byte(key[0] >> 8), byte(key[0]), byte(key[1] >> 8), byte(key[1]), byte(key[2] >> 8), byte(key[2])})
	plain := encodeFrame(t, rgb, EncodeOptions{Format: PNG})
	add("png with a transparent colour", slices.Concat(plain[:33], b.Bytes(), plain[33:]), keyed)
	return files
}

func TestKeep16(t *testing.T) {
	for name, c := range wide16(t) {
		img, err := Decode(c.data, Options{Keep16: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := img.Frame(); got.Channels != c.want.Channels || !slices.Equal(got.Pix16, c.want.Pix16) || got.W != c.want.W {
			t.Errorf("%s: %d channels %v\nwant %d channels %v", name, got.Channels, got.Pix16, c.want.Channels, c.want.Pix16)
		}
		plain, err := Decode(c.data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if plain.Pix16 != nil || plain.Alpha16 != nil || !bytes.Equal(plain.Pix, img.Pix) || !bytes.Equal(plain.Alpha, img.Alpha) {
			t.Errorf("%s: keeping 16 bits changes the 8", name)
		}
		small := Limits{MaxBytes: int64(4*img.W*img.H + img.W*img.H)}
		if _, err := Decode(c.data, Options{Keep16: true, Limits: small}); err == nil {
			t.Errorf("%s: 16 bits kept over the limit of %d bytes", name, small.MaxBytes)
		}
	}
}

// TestKeep16Golden decodes the reference files with and without Keep16: high bytes are those of Pix where that is not
// rounded, and Channels says what the mode does.
func TestKeep16Golden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden.Dir(t, "images", "decode"), "files", "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	wide, gray := 0, 0
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o := DefaultOptions()
		plain, err := Decode(data, o)
		if err != nil {
			continue
		}
		o.Keep16 = true
		img, err := Decode(data, o)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if !bytes.Equal(img.Pix, plain.Pix) || !bytes.Equal(img.Alpha, plain.Alpha) {
			t.Errorf("%s: keeping 16 bits changes the 8", path)
		}
		if img.Channels == 1 {
			gray++
			for i := 0; i < len(img.Pix); i += 3 {
				if img.Pix[i] != img.Pix[i+1] || img.Pix[i] != img.Pix[i+2] {
					t.Fatalf("%s: said to be gray, pixel %d is %v", path, i/3, img.Pix[i:i+3])
				}
			}
		}
		if img.Pix16 == nil {
			continue
		}
		wide++
		for i, v := range img.Pix16 {
			k := i
			if img.Channels == 1 {
				k = 3 * i
			}
			if want := img.Pix[k]; uint8(v>>8) != want && (img.Format != PNM || abs(int(v>>8)-int(want)) > 1) {
				t.Errorf("%s: sample %d is %d, in 8 bits %d", path, i, v, want)
				break
			}
		}
	}
	t.Logf("%d files: %d gray, %d with 16 bits", len(files), gray, wide)
	if wide == 0 || gray == 0 {
		t.Error("nothing was compared")
	}
}

// TestOrient16 turns a picture of 16 bits with alpha as its 8-bit twin is turned.
func TestOrient16(t *testing.T) {
	for o := 1; o <= 8; o++ {
		f := frameOf(5, 3, 4, 16)
		for i := range f.Pix16 {
			f.Pix16[i] = f.Pix16[i]&0xff00 | f.Pix16[i]>>8
		}
		f.EXIF = exifWith(tagOrientation, uint16(o))
		img, err := Decode(encodeFrame(t, f, EncodeOptions{Format: PNG}), Options{Keep16: true, ApplyOrientation: true})
		if err != nil {
			t.Fatal(err)
		}
		wide := img.Frame()
		wide.Narrow()
		img.Pix16, img.Alpha16 = nil, nil
		if got := img.Frame(); !bytes.Equal(got.Pix8, wide.Pix8) || got.W != wide.W {
			t.Errorf("orientation %d: 16 bits are turned in another way", o)
		}
	}
}

func TestMatte(t *testing.T) {
	f := &Frame{W: 4, H: 1, Channels: 4, Pix8: []uint8{10, 20, 30, 255, 10, 20, 30, 0, 100, 100, 100, 128, 0, 255, 7, 1}}
	f.Matte([3]uint8{200, 100, 0})
	if want := []uint8{10, 20, 30, 200, 100, 0, 150, 100, 50, 199, 101, 0}; f.Channels != 3 || !bytes.Equal(f.Pix8, want) {
		t.Errorf("RGBA: %v, want %v", f.Pix8, want)
	}
	f = &Frame{W: 3, H: 1, Channels: 2, Pix16: []uint16{1000, 65535, 1000, 0, 65535, 32768}}
	f.Matte([3]uint8{255, 255, 255})
	if want := []uint16{1000, 65535, 65535}; f.Channels != 1 || !slices.Equal(f.Pix16, want) {
		t.Errorf("gray of 16 bits: %v, want %v", f.Pix16, want)
	}
	for _, depth := range []int{8, 16} {
		for _, channels := range []int{2, 4} {
			f := frameOf(11, 7, channels, depth)
			img, err := Decode(encodeFrame(t, f, EncodeOptions{Format: PNG}), Options{Keep16: true})
			if err != nil {
				t.Fatal(err)
			}
			img.Matte([3]uint8{9, 99, 199})
			f.Matte([3]uint8{9, 99, 199})
			if got := img.Frame(); got.HasAlpha() || got.Channels != channels-1 || !slices.Equal(got.Pix8, f.Pix8) || !slices.Equal(got.Pix16, f.Pix16) {
				t.Errorf("%d channels of %d bits: image and frame are matted in different ways", channels, depth)
			}
		}
	}
	g := frameOf(3, 3, 3, 8)
	want := slices.Clone(g.Pix8)
	if g.Matte([3]uint8{}); !bytes.Equal(g.Pix8, want) {
		t.Error("an opaque frame is changed")
	}
}

func TestAddAlphaNarrow(t *testing.T) {
	for _, depth := range []int{8, 16} {
		for _, channels := range []int{1, 3} {
			f, a := frameOf(4, 3, channels, depth), frameOf(4, 3, 1, depth)
			if err := f.AddAlpha(a); err != nil || f.Channels != channels+1 {
				t.Errorf("%d channels, %v", f.Channels, err)
			}
			f.Narrow()
			a.Narrow()
			for i, v := range a.Pix8 {
				if f.Pix8[(channels+1)*i+channels] != v {
					t.Errorf("alpha %d is %d, want %d", i, f.Pix8[(channels+1)*i+channels], v)
				}
			}
			if err := f.AddAlpha(a); err == nil {
				t.Error("a second alpha")
			}
		}
	}
	if err := frameOf(4, 3, 3, 8).AddAlpha(frameOf(4, 3, 1, 16)); err == nil {
		t.Error("alpha of another depth")
	}
	f := &Frame{W: 4, H: 1, Channels: 1, Pix16: []uint16{0, 128, 129, 65535}}
	if f.Narrow(); !bytes.Equal(f.Pix8, []uint8{0, 0, 1, 255}) {
		t.Errorf("narrowed to %v", f.Pix8)
	}
}

func TestCarry(t *testing.T) {
	exif := exifWith(tagOrientation, 6)
	for _, c := range []struct {
		name      string
		channels  int
		src       Image
		format    string
		icc, exif bool
		notes     string
	}{
		{"nothing", 3, Image{}, PNG, false, false, ""},
		{"both", 3, Image{ICC: profileOf("RGB ", 9), EXIF: exif}, JPEG, true, true, ""},
		{"gray", 1, Image{ICC: profileOf("GRAY", 9), EXIF: exif}, PNG, true, true, ""},
		{"cmyk", 3, Image{ICC: profileOf("CMYK", 9), EXIF: exif}, PNG, false, true, `it is for "CMYK"`},
		{"gray for colours", 3, Image{ICC: profileOf("GRAY", 9)}, PNG, false, false, `it is for "GRAY"`},
		{"no profile", 3, Image{ICC: []byte("hello")}, PNG, false, false, "broken"},
		{"large profile", 3, Image{ICC: profileOf("RGB ", maxJPEGICC)}, JPEG, false, false, "at most"},
		{"large profile in png", 3, Image{ICC: profileOf("RGB ", maxJPEGICC)}, PNG, true, false, ""},
		{"broken exif", 3, Image{EXIF: []byte("MM\x00*\xff\xff\xff\xff")}, PNG, false, false, "exif dropped"},
		{"large exif", 3, Image{EXIF: append(slices.Clone(exif), make([]byte, 66000)...)}, JPEG, false, false, "at most"},
	} {
		f := NewFrame(1, 1, c.channels, 8)
		notes := strings.Join(f.Carry(&c.src, c.format), "; ")
		if (f.ICC != nil) != c.icc || (f.EXIF != nil) != c.exif || (notes == "") != (c.notes == "") || !strings.Contains(notes, c.notes) {
			t.Errorf("%s: profile %t, exif %t, notes %q", c.name, f.ICC != nil, f.EXIF != nil, notes)
		}
		if v, ok := exifOrientation(f.EXIF); ok && v != 1 {
			t.Errorf("%s: orientation %d", c.name, v)
		}
	}
}
