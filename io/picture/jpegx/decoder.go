package jpegx

// maxScans bounds the work that a small progressive file can ask for; real files have about ten.
const maxScans = 500

// component is one channel of the frame.
type component struct {
	id     uint8
	h, v   int // sampling factors
	tq     uint8
	w      int // samples per row that count; what lies beyond is padding
	height int // rows that count
	bw, bh int // blocks that cover them
	padw   int // blocks per row with whole MCUs
	padh   int
	stride int
	plane  []byte
	coef   []int16    // progressive: padw*padh blocks in row-major order
	quant  *[64]int32 // zigzag order; as it stood when the component's first scan began
	table  [64]int32  // backs quant
	bits   [64]int8   // progressive: lowest bit known of each coefficient, -1 none
	seen   bool       // at least one scan held it
	dc, ac *huffman   // tables of the current scan
	pred   int32      // DC prediction
}

// Decoder decodes one file after another and keeps its buffers between them, except those of a rare huge file. The zero
// value is ready. It must not be used by two goroutines at once.
type Decoder struct {
	// MaxBytes, if positive, bounds the decoder's buffers and the result together; larger pictures are refused before
	// anything is allocated.
	MaxBytes int64

	bits  bitReader
	block [64]int32
	store [4]component
	comps []component

	w, h        int
	hmax, vmax  int
	mcux, mcuy  int
	progressive bool
	allocated   bool
	interval    int // MCUs between restart markers, 0 none
	scans       int
	eobrun      int32

	jfif, adobe bool
	transform   uint8
	exif, xmp   []byte
	icc         [][]byte

	quant    [4][64]int32
	quantSet [4]bool
	huff     [2][4]huffman

	sums []uint16   // one row of vertical chroma sums
	rows [4][]uint8 // one row of each component at full width
}

// Result is a decoded picture.
type Result struct {
	Info
	Pix        []uint8 // H x W x 3 RGB, 8 bit
	Incomplete bool    // progressive, and the file ends properly before every coefficient bit was sent
}

// Decode decodes a file. Pix of the result reuses pix when its capacity suffices. CMYK and YCCK are taken as inverted, the
// way Adobe writes them, and become RGB by the plain subtractive formula.
func (d *Decoder) Decode(data []byte, pix []uint8) (Result, error) {
	defer d.release()
	if err := d.parse(data, false); err != nil {
		return Result{}, err
	}
	n := d.w * d.h * 3
	if cap(pix) < n {
		pix = make([]uint8, n)
	}
	pix = pix[:n]
	incomplete := false
	if d.progressive {
		incomplete = d.finishProgressive()
	}
	d.output(pix)
	return Result{Info: d.info(), Pix: pix, Incomplete: incomplete}, nil
}

func (d *Decoder) reset() {
	d.bits = bitReader{}
	d.comps, d.w, d.h, d.interval, d.scans, d.eobrun = nil, 0, 0, 0, 0, 0
	d.jfif, d.adobe, d.transform, d.exif, d.xmp, d.icc = false, false, 0, nil, nil, nil
	d.progressive, d.allocated = false, false
	d.quantSet = [4]bool{}
	for c := range d.huff {
		for i := range d.huff[c] {
			d.huff[c][i].set = false
		}
	}
}

// keepSamples is the largest plane that stays allocated for the next file.
const keepSamples = 32 << 20

// release drops references into the caller's data, and the buffers of a rare huge file.
func (d *Decoder) release() {
	d.bits.data, d.exif, d.xmp, d.icc = nil, nil, nil, nil
	for i := range d.store {
		if c := &d.store[i]; cap(c.plane) > keepSamples {
			c.plane, c.coef = nil, nil
		}
	}
}

// need returns the bytes that decoding a picture of these headers takes: the RGB result, the planes and for progressive
// files the coefficients.
func (d *Decoder) need() int64 {
	n := 3 * int64(d.w) * int64(d.h)
	for i := range d.comps {
		samples := 64 * int64(d.comps[i].padw) * int64(d.comps[i].padh)
		n += samples
		if d.progressive {
			n += 2 * samples
		}
	}
	return n
}

// allocate sizes the buffers before the first scan, unless the size is over the bound or the data cannot hold the picture:
// no block takes less than two bits (one in a progressive file).
func (d *Decoder) allocate(left int) error {
	if n := d.need(); d.MaxBytes > 0 && n > d.MaxBytes {
		return wrap(ErrTooLarge, "%dx%d needs %d bytes, limit %d", []any{d.w, d.h, n, d.MaxBytes})
	}
	var blocks int64
	for i := range d.comps {
		blocks += int64(d.comps[i].bw) * int64(d.comps[i].bh)
	}
	bits := blocks
	if !d.progressive {
		bits *= 2
	}
	if bits/8 > int64(left) {
		return truncated("%d bytes cannot hold %dx%d", left, d.w, d.h)
	}
	for i := range d.comps {
		c := &d.comps[i]
		n := 64 * c.padw * c.padh
		if cap(c.plane) < n {
			c.plane = make([]byte, n)
		}
		c.plane = c.plane[:n]
		if !d.progressive {
			continue
		}
		if cap(c.coef) < n {
			c.coef = make([]int16, n)
		} else {
			c.coef = c.coef[:n]
			clear(c.coef)
		}
	}
	d.allocated = true
	return nil
}

// complete checks at the end marker that every component was sent.
func (d *Decoder) complete() error {
	for i := range d.comps {
		c := &d.comps[i]
		if !c.seen || d.progressive && c.bits[0] < 0 {
			return truncated("end marker before component %d was sent", i)
		}
	}
	return nil
}

// finishProgressive turns the coefficients into samples. It reports whether low bits of some coefficients are missing.
func (d *Decoder) finishProgressive() (incomplete bool) {
	for i := range d.comps {
		c := &d.comps[i]
		for _, b := range c.bits {
			incomplete = incomplete || b != 0
		}
		for by := range c.bh {
			for bx := range c.bw {
				coef := (*[64]int16)(c.coef[64*(by*c.padw+bx):])
				last := 0
				for k := range 64 {
					z := zigzag[k]
					v := int32(coef[z])
					d.block[z] = v * c.quant[k]
					if v != 0 {
						last = k
					}
				}
				idct(&d.block, last, c.plane[8*by*c.stride+8*bx:], c.stride)
			}
		}
	}
	return incomplete
}
