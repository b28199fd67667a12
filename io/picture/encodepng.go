package picture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// idatBytes is the size of an image data chunk.
const idatBytes = 64 << 10

// pngWriter holds the scratch memory of one encoder; pngWriters lets encoders on many goroutines share them.
type pngWriter struct {
	w    io.Writer
	err  error // the first one
	idat []byte
	z    [thorough + 1]*zlib.Writer
	raw  [2][]uint8 // rows as bytes: this one and the one above, 16 bits in big-endian order
	rows [5][]uint8 // by filter: the filter's number, then the filtered bytes
}

var pngWriters = sync.Pool{New: func() any { return &pngWriter{idat: make([]byte, 0, idatBytes)} }}

// effort is how hard the compressor looks for repetitions.
type effort int

// The efforts. Filtered photographs hardly repeat: entropy coding alone is several times faster than the quickest search
// and gives about the same size. Flat pictures such as masks are the exception.
const (
	stored effort = iota
	entropyOnly
	quick
	thorough
)

var deflateLevels = [...]int{stored: zlib.NoCompression, entropyOnly: zlib.HuffmanOnly, quick: 3, thorough: zlib.BestCompression}

// effort chooses for a frame.
func (l Level) effort(f *Frame) effort {
	switch {
	case l == None:
		return stored
	case l == Small:
		return thorough
	case f.flat():
		return quick
	}
	return entropyOnly
}

// flat reports whether more than half of the samples in some rows are equal to their left neighbours.
func (f *Frame) flat() bool {
	equal, all := 0, 0
	for y := 0; y < f.H; y += max(1, f.H/64) {
		lo, hi := y*f.W*f.Channels, (y+1)*f.W*f.Channels
		for i := lo + f.Channels; i < hi; i++ {
			if f.Pix16 != nil && f.Pix16[i] == f.Pix16[i-f.Channels] || f.Pix8 != nil && f.Pix8[i] == f.Pix8[i-f.Channels] {
				equal++
			}
		}
		all += hi - lo
	}
	return 2*equal > all
}

func encodePNG(w io.Writer, f *Frame, level Level) error {
	if f.W > 1<<31-1 || f.H > 1<<31-1 {
		return fmt.Errorf("png holds at most 2147483647 pixels a side, the picture is %dx%d", f.W, f.H)
	}
	p := pngWriters.Get().(*pngWriter)
	defer pngWriters.Put(p)
	p.w, p.err, p.idat = w, nil, p.idat[:0]
	defer func() { p.w = nil }()

	_, p.err = io.WriteString(w, pngSignature)
	head := binary.BigEndian.AppendUint32(nil, uint32(f.W))
	head = binary.BigEndian.AppendUint32(head, uint32(f.H))
	colour := [...]byte{1: pngGray, 2: pngGrayAlpha, 3: pngRGB, 4: pngRGBA}[f.Channels]
	p.chunk("IHDR", append(head, byte(f.Depth()), colour, 0, 0, 0))
	if len(f.ICC) > 0 {
		profile, err := deflate(f.ICC)
		if err != nil {
			return fmt.Errorf("encode png: icc profile: %w", err)
		}
		p.chunk("iCCP", append([]byte("ICC Profile\x00\x00"), profile...))
	}
	if len(f.EXIF) > 0 {
		p.chunk("eXIf", f.EXIF)
	}
	if err := p.pixels(f, level); err != nil {
		return fmt.Errorf("encode png: %w", err)
	}
	p.chunk("IEND", nil)
	if p.err != nil {
		return fmt.Errorf("encode png: %w", p.err)
	}
	return nil
}

func (p *pngWriter) chunk(name string, body []byte) {
	if p.err != nil {
		return
	}
	var head [8]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	copy(head[4:], name)
	sum := crc32.Update(crc32.ChecksumIEEE(head[4:]), crc32.IEEETable, body)
	for _, b := range [][]byte{head[:], body, binary.BigEndian.AppendUint32(nil, sum)} {
		if _, p.err = p.w.Write(b); p.err != nil {
			return
		}
	}
}

// Write collects deflated bytes into image data chunks.
func (p *pngWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && p.err == nil {
		k := min(len(b), cap(p.idat)-len(p.idat))
		p.idat = append(p.idat, b[:k]...)
		b = b[k:]
		if len(p.idat) == cap(p.idat) {
			p.flush()
		}
	}
	return n - len(b), p.err
}

func (p *pngWriter) flush() {
	if len(p.idat) > 0 {
		p.chunk("IDAT", p.idat)
		p.idat = p.idat[:0]
	}
}

// pixels filters and deflates the rows.
func (p *pngWriter) pixels(f *Frame, level Level) (err error) {
	effort := level.effort(f)
	z := p.z[effort]
	if z == nil {
		if z, err = zlib.NewWriterLevel(p, deflateLevels[effort]); err != nil {
			return err
		}
		p.z[effort] = z
	} else {
		z.Reset(p)
	}
	bpp := f.Channels * f.Depth() / 8
	n := f.W * bpp
	for i := range p.rows {
		p.rows[i] = grow(p.rows[i], n+1)
		p.rows[i][0] = uint8(i)
	}
	p.raw[0], p.raw[1] = grow(p.raw[0], n), grow(p.raw[1], n)
	clear(p.raw[1])
	cur, above := p.raw[0], p.raw[1]
	for y := range f.H {
		if f.Pix16 != nil {
			for i, v := range f.Pix16[y*n/2 : (y+1)*n/2] {
				binary.BigEndian.PutUint16(cur[2*i:], v)
			}
		} else {
			cur = f.Pix8[y*n : (y+1)*n]
		}
		if _, err := z.Write(p.filter(cur, above, bpp, effort)); err != nil {
			return err
		}
		if f.Pix16 != nil {
			cur, above = above, cur
		} else {
			above = cur
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	p.flush()
	return nil
}

// filter returns the row with the filter in front that the usual heuristic prefers: the smallest sum of magnitudes, of the
// filtered bytes taken as signed. above is the row before it, zeros at first.
func (p *pngWriter) filter(cur, above []uint8, bpp int, e effort) []uint8 {
	if e == stored {
		copy(p.rows[0][1:], cur)
		return p.rows[0]
	}
	best, least := 0, math.MaxInt
	for k := 1; k < len(filters); k++ {
		if sum := filters[k](p.rows[k][1:], cur, above, bpp); sum < least {
			best, least = k, sum
		}
	}
	return p.rows[best]
}

// filters are those of PNG by number. Each writes the filtered row and returns its sum of magnitudes.
var filters = [...]func(out, cur, above []uint8, bpp int) int{1: filterSub, 2: filterUp, 3: filterAverage, 4: filterPaeth}

// magnitude of a byte taken as signed.
func magnitude(v uint8) int {
	s := int8(v) >> 7
	return int(uint8((int8(v) ^ s) - s))
}

func filterSub(out, cur, _ []uint8, bpp int) int {
	sum := 0
	for i, v := range cur[:bpp] {
		out[i] = v
		sum += magnitude(v)
	}
	left := cur[:len(cur)-bpp]
	cur = cur[bpp:][:len(left)]
	out = out[bpp:][:len(left)]
	for i, l := range left {
		v := cur[i] - l
		out[i] = v
		sum += magnitude(v)
	}
	return sum
}

func filterUp(out, cur, above []uint8, _ int) int {
	sum := 0
	above, out = above[:len(cur)], out[:len(cur)]
	for i, c := range cur {
		v := c - above[i]
		out[i] = v
		sum += magnitude(v)
	}
	return sum
}

func filterAverage(out, cur, above []uint8, bpp int) int {
	sum := 0
	for i, c := range cur[:bpp] {
		v := c - above[i]/2
		out[i] = v
		sum += magnitude(v)
	}
	n := len(cur) - bpp
	left := cur[:n]
	cur, above, out = cur[bpp:][:n], above[bpp:][:n], out[bpp:][:n]
	for i, l := range left {
		v := cur[i] - uint8((int(l)+int(above[i]))/2)
		out[i] = v
		sum += magnitude(v)
	}
	return sum
}

func filterPaeth(out, cur, above []uint8, bpp int) int {
	sum := 0
	for i, c := range cur[:bpp] {
		v := c - above[i]
		out[i] = v
		sum += magnitude(v)
	}
	n := len(cur) - bpp
	left, corner := cur[:n], above[:n]
	cur, above, out = cur[bpp:][:n], above[bpp:][:n], out[bpp:][:n]
	for i, l := range left {
		a, b, c := int32(l), int32(above[i]), int32(corner[i])
		pa, pb := b-c, a-c
		pc := pa + pb
		pa, pb, pc = (pa^pa>>31)-pa>>31, (pb^pb>>31)-pb>>31, (pc^pc>>31)-pc>>31
		pred := a
		if pb < pa {
			pred = b
		}
		pa = min(pa, pb)
		if pc < pa {
			pred = c
		}
		v := cur[i] - uint8(pred)
		out[i] = v
		sum += magnitude(v)
	}
	return sum
}

func deflate(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	_, err := z.Write(b)
	if e := z.Close(); err == nil {
		err = e
	}
	return out.Bytes(), err
}
