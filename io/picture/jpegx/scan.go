package jpegx

// scan reads a scan header and decodes its data.
func (d *Decoder) scan(seg []byte) error {
	if len(seg) < 1 {
		return corrupt("empty scan header")
	}
	n := int(seg[0])
	if n < 1 || n > len(d.comps) || len(seg) < 4+2*n {
		return corrupt("scan header: %d components in %d bytes", n, len(seg))
	}
	if d.scans++; d.scans > maxScans {
		return unsupported("more than %d scans", maxScans)
	}
	if !d.allocated {
		if err := d.allocate(len(d.bits.data) - d.bits.pos); err != nil {
			return err
		}
	}
	ss, se, ah, al := int(seg[1+2*n]), int(seg[2+2*n]), uint(seg[3+2*n]>>4), uint(seg[3+2*n]&15)
	if !d.progressive {
		ss, se, ah, al = 0, 63, 0, 0
	} else if ss > se || se > 63 || ss == 0 && se != 0 || ss > 0 && n != 1 || al > 13 || ah > 0 && ah != al+1 {
		return corrupt("progressive scan of coefficients %d..%d, bits %d to %d", ss, se, ah, al)
	}
	var comps [4]*component
	for i := range n {
		id, tables := seg[1+2*i], seg[2+2*i]
		for j := range d.comps {
			if d.comps[j].id == id {
				comps[i] = &d.comps[j]
			}
		}
		c := comps[i]
		if c == nil {
			return corrupt("scan names component id %d, which the frame lacks", id)
		}
		for j := range i {
			if comps[j] == c {
				return corrupt("scan names component id %d twice", id)
			}
		}
		if tables>>4 > 3 || tables&15 > 3 {
			return corrupt("scan names huffman tables %#x", tables)
		}
		c.dc, c.ac = &d.huff[0][tables>>4], &d.huff[1][tables&15]
		if ss == 0 && ah == 0 && !c.dc.set || se > 0 && !c.ac.set {
			return corrupt("scan uses a huffman table that was not sent")
		}
		if !c.seen {
			if !d.quantSet[c.tq] {
				return corrupt("component id %d uses a quantization table that was not sent", id)
			}
			c.table = d.quant[c.tq]
			c.quant, c.seen = &c.table, true
		}
		if d.progressive {
			if ss > 0 && c.bits[0] < 0 {
				return corrupt("component id %d: AC scan before the DC scan", id)
			}
			for k := ss; k <= se; k++ {
				if was := c.bits[k]; ah == 0 && was >= 0 || ah > 0 && was != int8(ah) {
					return corrupt("component id %d: coefficient %d sent out of order", id, k)
				}
				c.bits[k] = int8(al)
			}
		}
	}
	d.startInterval(comps[:n])
	var unit func(c *component, bx, by int) error
	switch {
	case !d.progressive:
		unit = d.sequential
	case ss == 0 && ah == 0:
		unit = func(c *component, bx, by int) error { return d.dcFirst(c, c.block(bx, by), al) }
	case ss == 0:
		unit = func(c *component, bx, by int) error { return d.dcRefine(c.block(bx, by), al) }
	case ah == 0:
		unit = func(c *component, bx, by int) error { return d.acFirst(c, c.block(bx, by), ss, se, al) }
	default:
		unit = func(c *component, bx, by int) error { return d.acRefine(c, c.block(bx, by), ss, se, al) }
	}
	if n == 1 {
		c := comps[0]
		return d.units(comps[:1], c.bw, c.bh, func(x, y int) error { return unit(c, x, y) })
	}
	return d.units(comps[:n], d.mcux, d.mcuy, func(x, y int) error {
		for _, c := range comps[:n] {
			for v := range c.v {
				for h := range c.h {
					if err := unit(c, x*c.h+h, y*c.v+v); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// units calls decode for each MCU of a scan and handles restart markers and the end of data.
func (d *Decoder) units(comps []*component, nx, ny int, decode func(x, y int) error) error {
	left, next := d.interval, uint8(0)
	for y := range ny {
		for x := range nx {
			if d.interval > 0 && left == 0 {
				if d.bits.overrun() {
					return truncated("scan data end in row %d of %d", y, ny)
				}
				m, err := d.nextMarker()
				if err != nil {
					return err
				}
				if m != mRST0+next {
					return corrupt("marker %#x where restart %d belongs", m, next)
				}
				next = (next + 1) & 7
				left = d.interval
				d.startInterval(comps)
			}
			left--
			if err := decode(x, y); err != nil {
				if d.bits.overrun() {
					return truncated("scan data end in row %d of %d", y, ny)
				}
				return err
			}
		}
		if d.bits.overrun() {
			return truncated("scan data end in row %d of %d", y, ny)
		}
	}
	// Whole bytes that were loaded and not used belong to the scan: the search for the next marker passes over them.
	d.bits.restart()
	return nil
}

func (d *Decoder) startInterval(comps []*component) {
	d.bits.restart()
	d.eobrun = 0
	for _, c := range comps {
		c.pred = 0
	}
}

func (c *component) block(bx, by int) *[64]int16 { return (*[64]int16)(c.coef[64*(by*c.padw+bx):]) }

var errCode = corrupt("huffman code not in the table")

// sequential decodes one block straight to samples.
func (d *Decoder) sequential(c *component, bx, by int) error {
	b := &d.block
	clear(b[:])
	br, q, ac := &d.bits, c.quant, c.ac
	s, ok := br.symbol(c.dc)
	if !ok {
		return errCode
	}
	c.pred += extend(br.take(uint(s)), uint(s))
	b[0] = c.pred * q[0]
	last := 0
	for k := 1; k < 64; {
		if br.n < 32 {
			br.fill()
		}
		var v int32
		if f := ac.fast[br.acc>>(64-lutBits)]; f != 0 {
			size := uint(f & 15)
			br.acc <<= size
			br.n -= int(size)
			k += int(f >> 4 & 15)
			v = int32(f >> 8)
		} else {
			sym, ok := br.symbol(ac)
			if !ok {
				return errCode
			}
			size := uint(sym & 15)
			if size == 0 {
				if sym != 0xf0 {
					break
				}
				k += 16
				continue
			}
			k += int(sym >> 4)
			v = extend(br.take(size), size)
		}
		if k > 63 {
			return corrupt("coefficient %d in a block of 64", k)
		}
		b[zigzag[k]] = v * q[k]
		last = k
		k++
	}
	idct(b, last, c.plane[8*by*c.stride+8*bx:], c.stride)
	return nil
}

// The four kinds of progressive scan, T.81 annex G.

func (d *Decoder) dcFirst(c *component, b *[64]int16, al uint) error {
	s, ok := d.bits.symbol(c.dc)
	if !ok {
		return errCode
	}
	c.pred += extend(d.bits.take(uint(s)), uint(s))
	b[0] = int16(c.pred << al)
	return nil
}

func (d *Decoder) dcRefine(b *[64]int16, al uint) error {
	if d.bits.take(1) != 0 {
		b[0] |= 1 << al
	}
	return nil
}

func (d *Decoder) acFirst(c *component, b *[64]int16, ss, se int, al uint) error {
	if d.eobrun > 0 {
		d.eobrun--
		return nil
	}
	for k := ss; k <= se; k++ {
		sym, ok := d.bits.symbol(c.ac)
		if !ok {
			return errCode
		}
		run, size := int(sym>>4), uint(sym&15)
		if size == 0 {
			if run < 15 {
				d.eobrun = 1<<run - 1 + d.bits.take(uint(run))
				return nil
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			return corrupt("coefficient %d in a block of 64", k)
		}
		b[zigzag[k]] = int16(extend(d.bits.take(size), size) << al)
	}
	return nil
}

func (d *Decoder) acRefine(c *component, b *[64]int16, ss, se int, al uint) error {
	plus, minus := int16(1)<<al, int16(-1)<<al
	k := ss
	if d.eobrun == 0 {
	symbols:
		for ; k <= se; k++ {
			sym, ok := d.bits.symbol(c.ac)
			if !ok {
				return errCode
			}
			run, size := int(sym>>4), sym&15
			var v int16
			switch {
			case size > 1:
				return corrupt("refinement scan with a new coefficient of %d bits", size)
			case size == 1:
				if v = minus; d.bits.take(1) != 0 {
					v = plus
				}
			case run < 15:
				d.eobrun = 1<<run + d.bits.take(uint(run))
				break symbols
			}
			for ; k <= se; k++ {
				p := &b[zigzag[k]]
				if *p != 0 {
					d.correct(p, plus, minus)
					continue
				}
				if run == 0 {
					break
				}
				run--
			}
			if v != 0 {
				if k > se {
					return corrupt("refinement scan: coefficient beyond %d", se)
				}
				b[zigzag[k]] = v
			}
		}
	}
	if d.eobrun > 0 {
		for ; k <= se; k++ {
			if p := &b[zigzag[k]]; *p != 0 {
				d.correct(p, plus, minus)
			}
		}
		d.eobrun--
	}
	return nil
}

// correct reads the next bit of a coefficient that is already non-zero.
func (d *Decoder) correct(p *int16, plus, minus int16) {
	if d.bits.take(1) == 0 || *p&plus != 0 {
		return
	}
	if *p >= 0 {
		*p += plus
	} else {
		*p += minus
	}
}
