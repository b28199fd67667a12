package dataset

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/parquet-go/parquet-go/format"
)

// chunk is where a column of a row group lies in its file. It is copied from the footer and checked by newColumnReader.
type chunk struct {
	dictOffset, dataOffset, size int64
	unpacked                     int64 // declared bytes after decompression
	codec                        format.CompressionCodec
	values                       int64 // nulls included
	otherFile                    bool
}

func newChunk(c *format.ColumnChunk) chunk {
	m := &c.MetaData
	return chunk{m.DictionaryPageOffset, m.DataPageOffset, m.TotalCompressedSize, m.TotalUncompressedSize, m.Codec, m.NumValues, c.FilePath != ""}
}

// span returns where the chunk starts and ends.
func (c chunk) span(fileSize int64) (start, end int64, err error) {
	start = c.dataOffset
	if c.dictOffset > 0 {
		start = min(start, c.dictOffset)
	}
	end = start + c.size
	switch {
	case c.otherFile:
		return 0, 0, errorf(FileUnsupported, "column chunk lies in another file")
	case start < int64(len(magic)) || c.size < 0 || end < start || end > fileSize-8:
		return 0, 0, corrupt("column chunk at %d of %d bytes does not fit a file of %d bytes", start, c.size, fileSize)
	case c.values < 0:
		return 0, 0, corrupt("column chunk of %d values", c.values)
	}
	return start, end, nil
}

// columnReader reads the values of one column chunk in order. It holds one page.
type columnReader struct {
	r     io.ReaderAt
	typ   leafType
	codec format.CompressionCodec
	lim   Limits
	pos   int64 // of the next page header
	end   int64
	left  int64 // values in pages not yet opened

	dict *values
	page page

	head, raw, plain []byte // buffers, reused
}

// page is one decoded data page; i counts its entries (nulls included), v its values.
type page struct {
	n, i, v int
	def     []uint8 // nil when no value can be null
	rep     []uint8
	vals    values
}

// newColumnReader starts at the first page of a chunk. Buffers of an old reader that is done are taken over.
func newColumnReader(r io.ReaderAt, fileSize int64, typ leafType, c chunk, lim Limits, old *columnReader) (*columnReader, error) {
	start, end, err := c.span(fileSize)
	if err != nil {
		return nil, err
	}
	cr := &columnReader{r: r, typ: typ, codec: c.codec, lim: lim, pos: start, end: end, left: c.values}
	if old != nil {
		cr.head, cr.raw, cr.plain, cr.page.vals = old.head, old.raw, old.plain, old.page.vals
	}
	return cr, nil
}

// next returns the next entry of the column with its levels. Bytes in it are valid until the next call.
func (c *columnReader) next() (s scalar, rep, def uint8, err error) {
	for c.page.i == c.page.n {
		if _, err := c.nextPage(0); err != nil {
			return scalar{}, 0, 0, err
		}
	}
	p := &c.page
	def = uint8(c.typ.maxDef)
	if p.def != nil {
		def = p.def[p.i]
	}
	if p.rep != nil {
		rep = p.rep[p.i]
	}
	p.i++
	if int(def) < c.typ.maxDef {
		return scalar{null: true}, rep, def, nil
	}
	s = p.vals.at(p.v)
	p.v++
	return s, rep, def, nil
}

// peekRep returns the repetition level of the next entry; ok is false at the end of the chunk.
func (c *columnReader) peekRep() (rep uint8, ok bool, err error) {
	for c.page.i == c.page.n {
		if c.left == 0 {
			return 0, false, nil
		}
		if _, err := c.nextPage(0); err != nil {
			return 0, false, err
		}
	}
	if c.page.rep == nil {
		return 0, true, nil
	}
	return c.page.rep[c.page.i], true, nil
}

// skip passes over rows. Pages that hold none of the rows wanted are neither read nor decoded when the column is not repeated.
func (c *columnReader) skip(rows int64) error {
	if c.typ.maxRep > 0 {
		for ; rows > 0; rows-- {
			if err := c.nextRow(func(scalar, uint8, uint8) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	}
	for rows > 0 {
		if c.page.i == c.page.n {
			skipped, err := c.nextPage(rows)
			if err != nil {
				return err
			}
			rows -= skipped
			continue
		}
		p := &c.page
		n := int(min(rows, int64(p.n-p.i)))
		if p.def == nil {
			p.v += n
		} else {
			p.v += present(p.def[p.i:p.i+n], c.typ.maxDef)
		}
		p.i += n
		rows -= int64(n)
	}
	return nil
}

// nextRow calls f for every entry of the next row, with its repetition and definition levels.
func (c *columnReader) nextRow(f func(s scalar, rep, def uint8) error) error {
	for first := true; ; first = false {
		if !first {
			rep, ok, err := c.peekRep()
			if err != nil || !ok || rep == 0 {
				return err
			}
		}
		s, rep, def, err := c.next()
		if err != nil {
			return err
		}
		if first && rep != 0 {
			return corrupt("row starts at repetition level %d", rep)
		}
		if err := f(s, rep, def); err != nil || c.typ.maxRep == 0 {
			return err
		}
	}
}

// finish checks that the chunk holds nothing after the last row.
func (c *columnReader) finish() error {
	if n := int64(c.page.n-c.page.i) + c.left; n > 0 {
		return corrupt("%d values follow the last row", n)
	}
	if c.pos < c.end {
		if h, _, err := c.header(); err == nil && dataCount(h) > 0 {
			return corrupt("a page follows the last row")
		}
	}
	return nil
}

func present(def []uint8, maxDef int) int {
	n := 0
	for _, d := range def {
		if int(d) == maxDef {
			n++
		}
	}
	return n
}

// dataCount returns the entries of a data page, 0 for other pages.
func dataCount(h *format.PageHeader) int64 {
	switch h.Type {
	case format.DataPage:
		return int64(h.DataPageHeader.V.NumValues)
	case format.DataPageV2:
		return int64(h.DataPageHeaderV2.V.NumValues)
	}
	return 0
}

// nextPage opens the next data page. Pages before it of no more than skip rows in all are passed over; their count is returned.
// After it returns, either the page is open or all of skip was passed over.
func (c *columnReader) nextPage(skip int64) (skipped int64, err error) {
	c.page = page{vals: c.page.vals}
	for {
		if c.left == 0 {
			return skipped, corrupt("column holds fewer rows than the footer says")
		}
		h, n, err := c.header()
		if err != nil {
			return skipped, err
		}
		body := c.pos + int64(n)
		if int64(h.CompressedPageSize) > c.end-body {
			return skipped, corrupt("page at %d of %d bytes goes beyond its column chunk", c.pos, h.CompressedPageSize)
		}
		count := dataCount(h)
		switch {
		case h.Type == format.DictionaryPage:
			if c.dict != nil {
				return skipped, corrupt("second dictionary page at %d", c.pos)
			}
			err = c.openDictionary(h, body)
		case h.Type != format.DataPage && h.Type != format.DataPageV2: // an index page
		case count < 0 || count > c.left:
			err = corrupt("page at %d has %d values where %d are left", c.pos, count, c.left)
		case count <= skip-skipped:
			skipped += count
			c.left -= count
		default:
			err = c.open(h, body)
			c.left -= count
		}
		if err != nil {
			return skipped, err
		}
		c.pos = body + int64(h.CompressedPageSize)
		if c.page.n > 0 || skip > 0 && skipped == skip {
			return skipped, nil
		}
	}
}

// header reads the page header at c.pos. Headers are small, but may hold statistics with whole values.
func (c *columnReader) header() (*format.PageHeader, int, error) {
	for size := int64(1 << 10); ; size *= 8 {
		room := c.end - c.pos
		n := min(size, room, 64<<20)
		if n <= 0 {
			return nil, 0, corrupt("column chunk ends at %d with %d values left", c.pos, c.left)
		}
		c.head = resize(c.head, int(n))
		if _, err := c.r.ReadAt(c.head, c.pos); err != nil {
			return nil, 0, readError(err)
		}
		h, k, err := decodePageHeader(c.head)
		if errors.Is(err, errShort) && n == size && n < room {
			continue
		}
		if err != nil {
			return nil, 0, corrupt("page header at %d: %w", c.pos, err)
		}
		return h, k, nil
	}
}

// readError tells a file that has become shorter from an error of the file system.
func readError(err error) error {
	if errors.Is(err, io.EOF) {
		return errorf(FileChanged, "file ends early: it became shorter while it was read")
	}
	return err
}

// body reads and checks the bytes of a page.
func (c *columnReader) body(h *format.PageHeader, pos, count int64) ([]byte, error) {
	if need := pageMemory(h, count, c.codec); need > c.lim.Memory {
		return nil, errorf(FileTooLarge, "page at %d needs %d bytes of memory where %d are allowed", c.pos, need, c.lim.Memory)
	}
	c.raw = resize(c.raw, int(h.CompressedPageSize))
	if _, err := c.r.ReadAt(c.raw, pos); err != nil {
		return nil, readError(err)
	}
	if h.CRC != 0 {
		if got := crc32.ChecksumIEEE(c.raw); got != uint32(h.CRC) {
			return nil, corrupt("page at %d: checksum is %08x where the page says %08x", c.pos, got, uint32(h.CRC))
		}
	}
	return c.raw, nil
}

// pageMemory is what a page takes while it is open: packed and unpacked bytes, levels and index of values.
func pageMemory(h *format.PageHeader, count int64, codec format.CompressionCodec) int64 {
	const perValue = 2 + 4 + 4 + 8
	need := int64(h.CompressedPageSize) + count*perValue
	if codec != format.Uncompressed {
		need += int64(h.UncompressedPageSize)
	}
	return need
}

// unpack decompresses src into buf, which it returns.
func (c *columnReader) unpack(buf, src []byte, size int) ([]byte, error) {
	if c.codec == format.Uncompressed {
		return src, nil
	}
	buf = resize(buf, size)
	return buf, decompress(c.codec, buf, src)
}

func (c *columnReader) openDictionary(h *format.PageHeader, pos int64) error {
	count := int64(h.DictionaryPageHeader.V.NumValues)
	if !h.DictionaryPageHeader.Valid || count < 0 {
		return corrupt("dictionary page at %d without a count", c.pos)
	}
	raw, err := c.body(h, pos, count)
	if err != nil {
		return err
	}
	buf, err := c.unpack(nil, raw, int(h.UncompressedPageSize))
	if err != nil {
		return err
	}
	if c.codec == format.Uncompressed {
		c.raw = nil // the dictionary keeps it
	}
	// The count is foreign: a value of a dictionary takes at least a byte, but for booleans, which have none.
	if count > int64(len(buf)) {
		return corrupt("dictionary of %d values in %d bytes", count, len(buf))
	}
	dict := new(values)
	if err := dict.decode(c.typ, format.Plain, buf, int(count), nil, c.lim.Memory); err != nil {
		return err
	}
	c.dict = dict
	return nil
}

// open decodes a data page.
func (c *columnReader) open(h *format.PageHeader, pos int64) error {
	count := dataCount(h)
	raw, err := c.body(h, pos, count)
	if err != nil {
		return err
	}
	p := page{n: int(count), vals: c.page.vals}
	enc, nulls := format.Plain, int64(-1)
	var data []byte
	if h.Type == format.DataPage {
		if !h.DataPageHeader.Valid {
			return corrupt("page at %d without its header", c.pos)
		}
		d := &h.DataPageHeader.V
		enc = d.Encoding
		if c.plain, err = c.unpack(c.plain, raw, int(h.UncompressedPageSize)); err != nil {
			return err
		}
		data = c.plain
		if c.codec == format.Uncompressed {
			c.plain = nil
		}
		if p.rep, data, err = c.levelsV1(d.RepetitionLevelEncoding, c.typ.maxRep, p.n, data); err != nil {
			return err
		}
		if p.def, data, err = c.levelsV1(d.DefinitionLevelEncoding, c.typ.maxDef, p.n, data); err != nil {
			return err
		}
	} else {
		if !h.DataPageHeaderV2.Valid {
			return corrupt("page at %d without its header", c.pos)
		}
		d := &h.DataPageHeaderV2.V
		enc, nulls = d.Encoding, int64(d.NumNulls)
		rep, def := int64(d.RepetitionLevelsByteLength), int64(d.DefinitionLevelsByteLength)
		if rep < 0 || def < 0 || rep+def > int64(len(raw)) {
			return corrupt("page at %d: levels of %d and %d bytes in a page of %d", c.pos, rep, def, len(raw))
		}
		if p.rep, err = levels(c.typ.maxRep, p.n, raw[:rep]); err != nil {
			return err
		}
		if p.def, err = levels(c.typ.maxDef, p.n, raw[rep:][:def]); err != nil {
			return err
		}
		data = raw[rep+def:]
		size := int64(h.UncompressedPageSize) - rep - def
		if (!d.IsCompressed.Valid || d.IsCompressed.V) && c.codec != format.Uncompressed && len(data) > 0 {
			if size < 0 {
				return corrupt("page at %d: levels are longer than the page", c.pos)
			}
			if c.plain, err = c.unpack(c.plain, data, int(size)); err != nil {
				return err
			}
			data = c.plain
		}
	}
	n := p.n
	if p.def != nil {
		n = present(p.def, c.typ.maxDef)
	}
	if nulls >= 0 && c.typ.maxRep == 0 && nulls != int64(p.n-n) { // writers differ on what is a null of a list
		return corrupt("page at %d counts %d nulls and holds %d", c.pos, nulls, p.n-n)
	}
	if err := p.vals.decode(c.typ, enc, data, n, c.dict, c.lim.Memory); err != nil {
		return err
	}
	c.page = p
	return nil
}

func (c *columnReader) levelsV1(enc format.Encoding, maxLevel, n int, data []byte) (lv []uint8, rest []byte, err error) {
	if maxLevel == 0 {
		return nil, data, nil
	}
	if enc != format.RLE {
		return nil, nil, errorf(FileUnsupported, "levels encoded as %s cannot be read", enc)
	}
	if len(data) < 4 || int64(binary.LittleEndian.Uint32(data)) > int64(len(data)-4) {
		return nil, nil, corrupt("page at %d: levels end early", c.pos)
	}
	size := binary.LittleEndian.Uint32(data)
	lv, err = levels(maxLevel, n, data[4:][:size])
	return lv, data[4+size:], err
}

// levels decodes n levels; nil when there is only level 0.
func levels(maxLevel, n int, data []byte) ([]uint8, error) {
	if maxLevel == 0 {
		return nil, nil
	}
	width := 0
	for m := maxLevel; m > 0; m >>= 1 {
		width++
	}
	lv := make([]uint8, n)
	if err := decodeHybrid(lv, width, data); err != nil {
		return nil, err
	}
	for _, l := range lv {
		if int(l) > maxLevel {
			return nil, corrupt("level %d in a column whose levels end at %d", l, maxLevel)
		}
	}
	return lv, nil
}
