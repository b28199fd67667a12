package e2e

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// exifOf is an EXIF block that says how the picture is turned and by whom it was made.
func exifOf(orientation uint16) []byte {
	b := []byte("II*\x00\x08\x00\x00\x00\x02\x00")
	for _, e := range [][2]uint16{{0x0112, 3}, {0x0131, 2}} { // orientation, SHORT; software, ASCII
		b = binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(b, e[0]), e[1])
		if e[1] == 3 {
			b = binary.LittleEndian.AppendUint32(b, 1)
			b = binary.LittleEndian.AppendUint32(b, uint32(orientation))
		} else {
			b = append(binary.LittleEndian.AppendUint32(b, 4), "ldm\x00"...)
		}
	}
	return append(b, 0, 0, 0, 0)
}

// iccOf is the header of a color profile, with something behind it.
func iccOf(space string) []byte {
	b := bytes.Repeat([]byte{7}, 300)
	copy(b[16:], space)
	copy(b[36:], "acsp")
	return b
}

// kinds are pictures of every kind that a job can answer in, 12 pixels wide and 9 high as they are seen.
func kinds() map[string]struct {
	format string
	frame  *picture.Frame
} {
	frame := func(w, h, channels, depth int, icc string, orientation uint16) *picture.Frame {
		f := picture.NewFrame(w, h, channels, depth)
		for i := range w * h * channels {
			v := uint16(i*2003 + i%channels*30011)
			if f.HasAlpha() && i%channels == channels-1 {
				v = uint16(0x1234 + 0x1101*(i/channels%w))
			}
			if depth == 16 {
				f.Pix16[i] = v
			} else {
				f.Pix8[i] = uint8(v >> 8)
			}
		}
		if icc != "" {
			f.ICC = iccOf(icc)
		}
		if orientation > 0 {
			f.EXIF = exifOf(orientation)
		}
		return f
	}
	return map[string]struct {
		format string
		frame  *picture.Frame
	}{
		"turned.jpg":     {picture.JPEG, frame(9, 12, 3, 8, "RGB ", 6)},
		"gray.jpg":       {picture.JPEG, frame(12, 9, 1, 8, "GRAY", 1)},
		"rgb.png":        {picture.PNG, frame(12, 9, 3, 8, "RGB ", 0)},
		"rgba.png":       {picture.PNG, frame(12, 9, 4, 8, "RGB ", 1)},
		"turned16.png":   {picture.PNG, frame(9, 12, 4, 16, "RGB ", 8)},
		"plain.png":      {picture.PNG, frame(12, 9, 1, 8, "", 3)},
		"gray-alpha.png": {picture.PNG, frame(12, 9, 2, 8, "GRAY", 0)},
		"gray16.png":     {picture.PNG, frame(12, 9, 1, 16, "GRAY", 1)},
		"gray16a.png":    {picture.PNG, frame(12, 9, 2, 16, "", 0)},
		"rgb16.png":      {picture.PNG, frame(12, 9, 3, 16, "", 2)},
	}
}

// TestMetadata takes pictures of every kind through whole jobs: what comes out is of the same kind, with the color profile and the
// EXIF block of the source, turned as it is seen.
func TestMetadata(t *testing.T) {
	dir := t.TempDir()
	for name, k := range kinds() {
		var b bytes.Buffer
		if err := picture.Encode(&b, k.frame, picture.EncodeOptions{Format: k.format, Quality: 95}); err != nil {
			t.Fatal(err)
		}
		put(t, dir, name, b.Bytes())
		// The holes of inpainting are left of the middle, in pictures as they are seen.
		put(t, dir, name[:len(name)-4]+"_mask.png", maskOf(t, 12, 9, func(x, y int) bool { return x < 5 }))
	}
	enlarge := taskJob(t, superresModel, "superres", "input.path="+dir, "sampler.steps=1")
	fill := taskJob(t, inpaintModel, "inpaint", "input.path="+dir, "input.mask=mask", "sampler.steps=1")
	for _, c := range []struct {
		name     string
		job      job
		scale    int
		alpha    bool // kept
		metadata bool
		jpeg     bool
	}{
		{"enlarged", enlarge, 4, true, true, false},
		{"enlarged, jpeg", enlarge.with("output.format=jpeg", "output.alpha=matte"), 4, false, true, true},
		{"enlarged, without", enlarge.with("output.alpha=drop", "output.metadata=drop"), 4, false, false, false},
		{"filled", fill, 1, true, true, false},
		{"filled, on a matte", fill.with("output.alpha=matte", "output.matte=#203040"), 1, false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			r := c.job.with("output.layout=tree").to(out).must(t, jobs.RunOptions{})
			rows := readRows(t, out)
			if r.Failed != 0 || len(rows) < len(kinds()) {
				t.Fatalf("%d rows, %d failed: %v", len(rows), r.Failed, r.Reasons)
			}
			seen := 0
			for _, row := range rows {
				k, ok := kinds()[row.ID]
				if !ok { // a mask, enlarged
					continue
				}
				seen++
				src := decoded(t, filepath.Join(dir, row.ID))
				got := decoded(t, filepath.Join(out, filepath.FromSlash(row.ImagePath)))
				checkMetadata(t, row, k.frame, src, got, c.scale, c.alpha, c.metadata, c.jpeg)
				if c.scale == 1 {
					known(t, row.ID, src, got, c.alpha)
				}
			}
			if seen != len(kinds()) {
				t.Errorf("%d pictures came out, want %d", seen, len(kinds()))
			}
		})
	}
}

// decoded is a picture as it is seen, with all its bits.
func decoded(t *testing.T, path string) *picture.Image {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := picture.Decode(b, picture.Options{Limits: picture.DefaultLimits(), ApplyOrientation: true, Keep16: true})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return m
}

func checkMetadata(t *testing.T, row part.Row, made *picture.Frame, src, got *picture.Image, scale int, alpha, metadata, jpeg bool) {
	t.Helper()
	if got.W != 12*scale || got.H != 9*scale || row.Width != got.W || row.Height != got.H {
		t.Errorf("%s: %dx%d (width x height), the row says %dx%d, want %dx%d", row.ID, got.W, got.H, row.Width, row.Height, 12*scale, 9*scale)
	}
	if got.Channels != src.Channels || got.Depth16 != (src.Depth16 && !jpeg) || (got.Alpha != nil) != (src.Alpha != nil && alpha) {
		t.Errorf("%s: mode %s from mode %s", row.ID, got.Mode, src.Mode)
	}
	var icc, exif []byte
	if metadata {
		icc = made.ICC
		if made.EXIF != nil {
			exif = exifOf(1)
		}
	}
	if !bytes.Equal(got.ICC, icc) {
		t.Errorf("%s: color profile of %d bytes, want %d", row.ID, len(got.ICC), len(icc))
	}
	if !bytes.Equal(got.EXIF, exif) {
		t.Errorf("%s: EXIF %x, want %x", row.ID, got.EXIF, exif)
	}
	if scale > 1 && got.Alpha != nil { // in the middle of what a pixel became
		for i, v := range got.Alpha {
			y, x := i/got.W, i%got.W
			if want := src.Alpha[y/scale*src.W+x/scale]; x%scale == scale/2 && max(v, want)-min(v, want) > 40 {
				t.Errorf("%s: alpha %d at (%d, %d), where the source has %d", row.ID, v, x, y, want)
				break
			}
		}
	}
}

// known checks the pixels that were not to be filled: they are the source's, bit by bit, with their alpha.
func known(t *testing.T, name string, src, got *picture.Image, alpha bool) {
	t.Helper()
	if !alpha {
		src.Matte([3]uint8{0x20, 0x30, 0x40})
	}
	a, b := src.Frame(), got.Frame()
	if a.Channels != b.Channels || a.Depth() != b.Depth() {
		return // said already
	}
	for i := range a.W * a.H {
		if i%a.W < 5 {
			continue
		}
		at := a.Channels * i
		if a.Pix16 != nil && !slices.Equal(a.Pix16[at:][:a.Channels], b.Pix16[at:][:a.Channels]) ||
			a.Pix8 != nil && !slices.Equal(a.Pix8[at:][:a.Channels], b.Pix8[at:][:a.Channels]) {
			t.Errorf("%s: known pixel %d differs", name, i)
			return
		}
	}
}
