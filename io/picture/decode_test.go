package picture

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"math/rand"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// samples encodes small pictures in the formats that have an encoder here, plus hand-written files; all are sound.
func samples(tb testing.TB) map[string][]byte {
	tb.Helper()
	m := scene(21, 13)
	rgba := image.NewRGBA(image.Rect(0, 0, m.W, m.H))
	pad(rgba.Pix, m.Pix)
	nrgba := image.NewNRGBA(rgba.Rect)
	gray16 := image.NewGray16(rgba.Rect)
	pal := image.NewPaletted(rgba.Rect, color.Palette{color.RGBA{1, 2, 3, 255}, color.RGBA{200, 10, 30, 255}, color.RGBA{7, 250, 90, 255}, color.RGBA{9, 9, 200, 255}})
	for i := range rgba.Pix {
		nrgba.Pix[i] = rgba.Pix[i] ^ uint8(i)
	}
	rng := rand.New(rand.NewSource(2))
	rng.Read(gray16.Pix)
	for i := range pal.Pix {
		pal.Pix[i] = uint8(rng.Intn(4))
	}
	enc := func(f func(*bytes.Buffer) error) []byte { return encoded(tb, f) }
	return map[string][]byte{
		"rgb.png":     enc(func(b *bytes.Buffer) error { return EncodePNG(b, m, PNGOptions{}) }),
		"rgba.png":    enc(func(b *bytes.Buffer) error { return png.Encode(b, nrgba) }),
		"gray16.png":  enc(func(b *bytes.Buffer) error { return png.Encode(b, gray16) }),
		"palette.png": enc(func(b *bytes.Buffer) error { return png.Encode(b, pal) }),
		"420.jpg":     enc(func(b *bytes.Buffer) error { return EncodeJPEG(b, m, 90) }),
		"gray.jpg": enc(func(b *bytes.Buffer) error {
			return jpeg.Encode(b, &image.Gray{Pix: m.Gray(), Stride: m.W, Rect: rgba.Rect}, nil)
		}),
		"palette.gif": enc(func(b *bytes.Buffer) error { return gif.Encode(b, pal, nil) }),
		"rgb.bmp":     enc(func(b *bytes.Buffer) error { return bmp.Encode(b, rgba) }),
		"rgba.tif":    enc(func(b *bytes.Buffer) error { return tiff.Encode(b, nrgba, nil) }),
		"deflate.tif": enc(func(b *bytes.Buffer) error {
			return tiff.Encode(b, rgba, &tiff.Options{Compression: tiff.Deflate, Predictor: true})
		}),
		"binary.ppm":    append([]byte("P6 # comment\n2 2 255\n"), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
		"text.pgm":      []byte("P2\n2 2\n100\n0 50 100 1\n"),
		"text.pbm":      []byte("P1\n3 2\n101\n0 1 0\n"),
		"rle4.bmp":      rle4(),
		"565.bmp":       bitfields565(),
		"offset.gif":    offsetGIF(tb),
		"lossless.webp": losslessWebP(),
	}
}

// bmpFrame puts file and info headers before a body of palette, masks and pixels.
func bmpFrame(w, h, depth, compression, before int, body ...byte) []byte {
	b := make([]byte, 54, 54+len(body))
	copy(b, "BM")
	b[10], b[14], b[18], b[22], b[26], b[28], b[30] = byte(54+before), 40, byte(w), byte(h), 1, byte(depth), byte(compression)
	return append(b, body...)
}

// rle4 is 4x2: the lower row 1 2 1 2 as a run, the upper row 0 (jump) 2 1 0 (literal, padded to 16 bit, end of bitmap).
func rle4() []byte {
	palette := []byte{0, 0, 0, 0, 10, 20, 30, 0, 40, 50, 60, 0}
	palette = append(palette, make([]byte, 52)...)
	return bmpFrame(4, 2, 4, bmpRLE4, 64, append(palette, 4, 0x12, 0, 0, 0, 2, 1, 0, 0, 3, 0x21, 0x00, 0, 1)...)
}

// bitfields565 is 2x1: full red and mid green.
func bitfields565() []byte {
	return bmpFrame(2, 1, 16, bmpBitfields, 12, 0, 0xf8, 0, 0, 0xe0, 7, 0, 0, 0x1f, 0, 0, 0, 0x00, 0xf8, 0x00, 0x04)
}

// offsetGIF is a 2x2 frame at 1,1 of a 4x4 screen, with index 1 transparent.
func offsetGIF(tb testing.TB) []byte {
	pal := color.Palette{color.RGBA{9, 8, 7, 255}, color.RGBA{}, color.RGBA{50, 60, 70, 255}}
	f := image.NewPaletted(image.Rect(1, 1, 3, 3), pal)
	copy(f.Pix, []byte{2, 1, 0, 2})
	return encoded(tb, func(b *bytes.Buffer) error {
		return gif.EncodeAll(b, &gif.GIF{Image: []*image.Paletted{f}, Delay: []int{0}, Config: image.Config{ColorModel: pal, Width: 4, Height: 4}})
	})
}

// losslessWebP is one pixel of one colour: five simple prefix codes with a single symbol each.
func losslessWebP() []byte {
	var acc, n uint64
	put := func(v, bits uint64) { acc |= v << n; n += bits }
	put(0, 1)                                          // no transform
	put(0, 1)                                          // no colour cache
	put(0, 1)                                          // one code group
	for _, symbol := range []uint64{20, 10, 30, 255} { // green, red, blue, alpha: simple code, one symbol of 8 bits
		put(1, 1)
		put(0, 1)
		put(1, 1)
		put(symbol, 8)
	}
	put(1, 1) // distance: one symbol of one bit
	put(0, 1)
	put(0, 1)
	put(0, 1)
	body := []byte{0x2f, 0, 0, 0, 0}
	for i := uint64(0); i < 8; i++ {
		body = append(body, byte(acc>>(8*i)))
	}
	body = append(body, 0) // even length
	out := append([]byte("RIFF\x00\x00\x00\x00WEBPVP8L"), byte(len(body)), 0, 0, 0)
	out = append(out, body...)
	out[4] = byte(len(out) - 8)
	return out
}

// TestAgainstStandard compares lossless files with the standard decoders' pixels.
func TestAgainstStandard(t *testing.T) {
	n := 0
	for name, data := range samples(t) {
		if strings.HasSuffix(name, ".jpg") || name == "offset.gif" {
			continue
		}
		ref, _, err := image.Decode(bytes.NewReader(data))
		if err != nil {
			continue // formats that the standard decoders lack
		}
		n++
		img, err := Decode(data, DefaultOptions())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if ref.Bounds().Dx() != img.W || ref.Bounds().Dy() != img.H {
			t.Errorf("%s: %dx%d, want %v", name, img.W, img.H, ref.Bounds())
			continue
		}
		for i := range img.W * img.H {
			c := color.NRGBAModel.Convert(ref.At(i%img.W, i/img.W)).(color.NRGBA)
			if c.A == 0 {
				continue // colours under full transparency do not survive the interface
			}
			if g, ok := ref.(*image.Gray16); ok {
				c.R = g.Pix[2*i]
				c.G, c.B = c.R, c.R
			}
			if p := img.Pix[3*i:]; p[0] != c.R || p[1] != c.G || p[2] != c.B || img.Alpha != nil && img.Alpha[i] != c.A {
				t.Errorf("%s: pixel %d is %v, want %v", name, i, p[:3], c)
				break
			}
		}
	}
	if n < 6 {
		t.Errorf("only %d files compared", n)
	}
}

func TestHandWritten(t *testing.T) {
	files := samples(t)
	for _, c := range []struct {
		name  string
		w, h  int
		mode  string
		pix   []uint8
		alpha []uint8
	}{
		{"rle4.bmp", 4, 2, "P", []uint8{0, 0, 0, 60, 50, 40, 30, 20, 10, 0, 0, 0, 30, 20, 10, 60, 50, 40, 30, 20, 10, 60, 50, 40}, nil},
		{"565.bmp", 2, 1, "RGB", []uint8{255, 0, 0, 0, 129, 0}, nil},
		{"text.pgm", 2, 2, "L", []uint8{0, 0, 0, 128, 128, 128, 255, 255, 255, 3, 3, 3}, nil},
		{"text.pbm", 3, 2, "1", []uint8{0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255, 0, 0, 0, 255, 255, 255}, nil},
		{"binary.ppm", 2, 2, "RGB", []uint8{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, nil},
		{"lossless.webp", 1, 1, "RGB", []uint8{10, 20, 30}, nil},
		{"offset.gif", 4, 4, "P", []uint8{
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 50, 60, 70, 0, 0, 0, 0, 0, 0,
			0, 0, 0, 9, 8, 7, 50, 60, 70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			[]uint8{0, 0, 0, 0, 0, 255, 0, 0, 0, 255, 255, 0, 0, 0, 0, 0}},
	} {
		img, err := Decode(files[c.name], DefaultOptions())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if img.W != c.w || img.H != c.h || img.Mode != c.mode || !bytes.Equal(img.Pix, c.pix) || !bytes.Equal(img.Alpha, c.alpha) {
			t.Errorf("%s: %dx%d %s %v alpha %v, want %dx%d %s %v alpha %v", c.name, img.W, img.H, img.Mode, img.Pix, img.Alpha, c.w, c.h, c.mode, c.pix, c.alpha)
		}
	}
}

// TestPrefixes cuts every sample after every byte: what is left must be refused, or hold every pixel all the same.
func TestPrefixes(t *testing.T) {
	for name, data := range samples(t) {
		full, err := Decode(data, DefaultOptions())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for n := range data {
			img, err := Decode(data[:n], DefaultOptions())
			if err != nil {
				if strings.Contains(err.Error(), panicked) {
					t.Fatalf("%s, %d of %d bytes: %v", name, n, len(data), err)
				}
				continue
			}
			if name == "text.pgm" && n == len(data)-1 {
				continue // only the last line end is missing
			}
			if !bytes.Equal(img.Pix, full.Pix) || !bytes.Equal(img.Alpha, full.Alpha) {
				t.Errorf("%s: %d of %d bytes decode to other pixels", name, n, len(data))
				break
			}
		}
	}
}

// TestWebPAlphaFilters filters a plane by the definition of each predictor and expects it back.
func TestWebPAlphaFilters(t *testing.T) {
	const w, h = 7, 5
	plane := make([]uint8, w*h)
	rand.New(rand.NewSource(4)).Read(plane)
	at := func(x, y int) int { return int(plane[y*w+x]) }
	for filter := range byte(4) {
		coded := make([]uint8, w*h)
		for y := range h {
			for x := range w {
				p := 0
				switch {
				case filter == 0 || x == 0 && y == 0:
				case y == 0:
					p = at(x-1, 0)
				case x == 0:
					p = at(0, y-1)
				case filter == 1:
					p = at(x-1, y)
				case filter == 2:
					p = at(x, y-1)
				default:
					p = min(max(at(x-1, y)+at(x, y-1)-at(x-1, y-1), 0), 255)
				}
				coded[y*w+x] = uint8(at(x, y) - p)
			}
		}
		f := webpFile{fw: w, fh: h, alph: append([]byte{filter << 2}, coded...)}
		got, err := f.alphaPlane()
		if err != nil || !bytes.Equal(got, plane) {
			t.Errorf("filter %d: %v, %v, want %v", filter, got, err, plane)
		}
		f.alph = f.alph[:len(f.alph)-1]
		if _, err := f.alphaPlane(); !errors.Is(err, ErrTruncated) {
			t.Errorf("filter %d, cut: %v", filter, err)
		}
	}
}

func TestPNGProfile(t *testing.T) {
	deflated := encoded(t, func(b *bytes.Buffer) error {
		z := zlib.NewWriter(b)
		if _, err := z.Write([]byte("profile")); err != nil {
			return err
		}
		return z.Close()
	})
	png := samples(t)["rgb.png"]
	for name, c := range map[string]struct {
		body []byte
		want string
	}{
		"sound":       {append([]byte("name\x00\x00"), deflated...), "profile"},
		"broken":      {[]byte("name\x00\x00garbage"), ""},
		"cut":         {append([]byte("name\x00\x00"), deflated[:len(deflated)-3]...), ""},
		"name only":   {[]byte("name\x00"), ""},
		"without end": {[]byte("name"), ""},
	} {
		chunk := append([]byte("iCCP"), c.body...)
		b := binary.BigEndian.AppendUint32(bytes.Clone(png[:33]), uint32(len(c.body)))
		b = binary.BigEndian.AppendUint32(append(b, chunk...), crc32.ChecksumIEEE(chunk))
		img, err := Decode(append(b, png[33:]...), DefaultOptions())
		if err != nil || string(img.ICC) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := inflate(deflated, 3); err == nil {
		t.Error("inflate passes its bound")
	}
}

func TestErrorKinds(t *testing.T) {
	files := samples(t)
	cut := func(name string) []byte { return files[name][:len(files[name])*2/3] }
	flip := func(name string, at int, v byte) []byte {
		b := bytes.Clone(files[name])
		b[at] = v
		return b
	}
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"empty", nil, ErrEmpty},
		{"text", []byte("hello, world"), ErrUnknownFormat},
		{"cut jpeg", cut("420.jpg"), ErrTruncated},
		{"cut png", cut("rgb.png"), ErrTruncated},
		{"cut gif", cut("palette.gif"), ErrTruncated},
		{"cut bmp", cut("rgb.bmp"), ErrTruncated},
		{"cut tiff", cut("rgba.tif"), ErrTruncated},
		{"cut ppm", cut("binary.ppm"), ErrTruncated},
		{"cut webp", cut("lossless.webp"), ErrTruncated},
		{"two bytes of jpeg", []byte{0xff, 0xd8}, ErrTruncated},
		{"png depth without checksum", flip("rgb.png", 24, 3), ErrCorrupt},
		{"bmp of unknown compression", flip("rgb.bmp", 30, 9), ErrUnsupported},
		{"avif", []byte("\x00\x00\x00\x1cftypavif\x00\x00\x00\x00"), ErrUnsupported},
		{"huge bmp", func() []byte {
			b := bytes.Clone(files["rgb.bmp"])
			copy(b[18:], []byte{0xff, 0xff, 0x0f, 0, 0xff, 0xff, 0x0f, 0})
			return b
		}(), ErrTooLarge},
	} {
		_, err := Decode(c.data, DefaultOptions())
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		for _, other := range []error{ErrTruncated, ErrUnsupported, ErrCorrupt, ErrTooLarge, ErrUnknownFormat, ErrEmpty} {
			if other != c.want && errors.Is(err, other) {
				t.Errorf("%s: %v is also %v", c.name, err, other)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	data := samples(t)
	for name, b := range data {
		h, err := Probe(b, Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, lim := range []Limits{{MaxPixels: int64(h.W*h.H) - 1}, {MaxSide: max(h.W, h.H) - 1}, {MaxBytes: int64(3*h.W*h.H) - 1}} {
			if lim.orDefault() == DefaultLimits() {
				continue // one pixel less one leaves nothing to set
			}
			if _, err := Decode(b, Options{Limits: lim}); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s under %+v: %v", name, lim, err)
			}
		}
		if _, err := Decode(b, Options{Limits: Limits{MaxPixels: int64(h.W * h.H), MaxSide: max(h.W, h.H)}}); err != nil {
			t.Errorf("%s at its own size: %v", name, err)
		}
	}
	if err := DefaultLimits().Validate(); err != nil {
		t.Error(err)
	}
	if (Limits{MaxPixels: 1, MaxSide: 1}).Validate() == nil {
		t.Error("limits without bytes are valid")
	}
}

func TestPanicBecomesError(t *testing.T) {
	defer func(c []codec) { codecs = c }(codecs)
	codecs = []codec{{"test", prefix("x"),
		func([]byte, Limits) (Header, error) { panic("probe") },
		func(*Decoder, *Image, []byte, Options) error { panic("decode") }}}
	if _, err := Decode([]byte("x"), Options{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("decode: %v", err)
	}
	if _, err := Probe([]byte("x"), Limits{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("probe: %v", err)
	}
}

func TestOrient(t *testing.T) {
	// Where the picture's pixel at column x, row y of a w x h file belongs, by the words of the tag's definition: the side
	// that row 0 lies on and the side that column 0 lies on.
	const w, h = 3, 2
	place := map[int]func(x, y int) (int, int){
		1: func(x, y int) (int, int) { return x, y },
		2: func(x, y int) (int, int) { return w - 1 - x, y },
		3: func(x, y int) (int, int) { return w - 1 - x, h - 1 - y },
		4: func(x, y int) (int, int) { return x, h - 1 - y },
		5: func(x, y int) (int, int) { return y, x },
		6: func(x, y int) (int, int) { return h - 1 - y, x },
		7: func(x, y int) (int, int) { return h - 1 - y, w - 1 - x },
		8: func(x, y int) (int, int) { return y, w - 1 - x },
	}
	for o, f := range place {
		m := &Image{W: w, H: h, Orientation: o}
		for i := range w * h {
			m.Pix = append(m.Pix, uint8(i), uint8(i+10), uint8(i+20))
			m.Alpha = append(m.Alpha, uint8(i+30))
		}
		new(Decoder).orient(m)
		for i := range w * h {
			x, y := f(i%w, i/w)
			at := y*m.W + x
			if x >= m.W || y >= m.H || m.Pix[3*at] != uint8(i) || m.Pix[3*at+2] != uint8(i+20) || m.Alpha[at] != uint8(i+30) {
				t.Errorf("orientation %d: pixel %d is not at %d,%d", o, i, x, y)
			}
		}
	}
}

func TestGray(t *testing.T) {
	m := &Image{W: 5, H: 1, Pix: []uint8{255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 77, 77, 77}}
	if got, want := m.Gray(), []uint8{255, 76, 150, 29, 77}; !bytes.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestEncode(t *testing.T) {
	m := scene(50, 37)
	for _, level := range []Level{Fast, Small, None} {
		img, err := Decode(encoded(t, func(b *bytes.Buffer) error { return EncodePNG(b, m, PNGOptions{level}) }), DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		if img.Mode != "RGB" || !bytes.Equal(img.Pix, m.Pix) {
			t.Errorf("level %d: png %s does not hold the picture", level, img.Mode)
		}
	}
	img, err := Decode(encoded(t, func(b *bytes.Buffer) error { return EncodeJPEG(b, m, 95) }), DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for i, v := range img.Pix {
		sum += abs(int(v) - int(m.Pix[i]))
	}
	if mean := float64(sum) / float64(len(m.Pix)); img.W != m.W || img.H != m.H || mean > 8 {
		t.Errorf("jpeg %dx%d, mean difference %.2f", img.W, img.H, mean)
	}
	for name, err := range map[string]error{
		"png of nothing":      EncodePNG(&bytes.Buffer{}, &Image{}, PNGOptions{}),
		"png level":           EncodePNG(&bytes.Buffer{}, m, PNGOptions{Level: 9}),
		"jpeg quality":        EncodeJPEG(&bytes.Buffer{}, m, 101),
		"jpeg short pixels":   EncodeJPEG(&bytes.Buffer{}, &Image{W: 2, H: 2, Pix: make([]uint8, 11)}, 90),
		"png failing writer":  EncodePNG(failing{}, m, PNGOptions{}),
		"jpeg failing writer": EncodeJPEG(failing{}, m, 90),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

var errWrite = errors.New("disk full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errWrite }

func TestEncodeWrapsWriteErrors(t *testing.T) {
	if err := EncodePNG(failing{}, scene(8, 8), PNGOptions{}); !errors.Is(err, errWrite) {
		t.Errorf("%v does not wrap the writer's error", err)
	}
}

// FuzzDecode checks that no input panics, and that a decoded picture is whole and agrees with its header.
func FuzzDecode(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lim := Limits{MaxPixels: 1 << 18, MaxBytes: 16 << 20}
		h, perr := Probe(data, lim)
		img, err := Decode(data, Options{Limits: lim})
		for _, e := range []error{perr, err} {
			if e != nil && strings.Contains(e.Error(), panicked) {
				t.Fatal(e)
			}
		}
		if err != nil {
			return
		}
		if perr != nil || img.W != h.W || img.H != h.H || img.Format != h.Format || img.Mode != h.Mode {
			t.Fatalf("decoded %s %s %dx%d, header %+v, %v", img.Format, img.Mode, img.W, img.H, h, perr)
		}
		if len(img.Pix) != 3*img.W*img.H || img.Alpha != nil && len(img.Alpha) != img.W*img.H {
			t.Fatalf("%dx%d with %d bytes and %d of alpha", img.W, img.H, len(img.Pix), len(img.Alpha))
		}
	})
}
