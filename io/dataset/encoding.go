package dataset

import (
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go/format"
)

// leafType is what decoding needs to know of a leaf column.
type leafType struct {
	kind   format.Type
	width  int // bytes of a value of fixed width, 0 for the others
	maxDef int
	maxRep int
}

func newLeafType(n *node) (leafType, error) {
	t := leafType{kind: n.physical(), maxDef: n.maxDef, maxRep: n.maxRep}
	switch t.kind {
	case format.Boolean, format.ByteArray:
	case format.Int32, format.Float:
		t.width = 4
	case format.Int64, format.Double:
		t.width = 8
	case format.Int96:
		t.width = 12
	case format.FixedLenByteArray:
		if t.width = int(n.TypeLength.V); t.width <= 0 {
			return t, corrupt("fixed length of %d bytes", t.width)
		}
	default:
		return t, corrupt("unknown physical type %d", t.kind)
	}
	return t, nil
}

// values holds the non-null values of a page or a dictionary, in one of several forms. It points into buffers of its reader.
type values struct {
	n     int
	width int    // fixed width: value i is data[i*width:][:width]
	data  []byte // fixed width or byte arrays
	start []uint32
	size  []uint32 // byte array i is data[start[i]:][:size[i]]
	nums  []uint64 // integers and booleans
	index []uint32 // value i is dict.at(index[i])
	dict  *values
}

// scalar is one value: bytes of byte arrays and of fixed widths above 8, else the little-endian number in bits.
type scalar struct {
	null  bool
	bytes []byte
	bits  uint64
}

func (v *values) at(i int) scalar {
	switch {
	case v.index != nil:
		return v.dict.at(int(v.index[i]))
	case v.nums != nil:
		return scalar{bits: v.nums[i]}
	case v.width > 0:
		b := v.data[i*v.width:][:v.width:v.width]
		switch v.width {
		case 4:
			return scalar{bytes: b, bits: uint64(binary.LittleEndian.Uint32(b))}
		case 8:
			return scalar{bytes: b, bits: binary.LittleEndian.Uint64(b)}
		}
		return scalar{bytes: b}
	}
	s, n := v.start[i], v.size[i]
	return scalar{bytes: v.data[s:][:n:n]}
}

// resize returns a slice of length n, reusing s where it is large enough.
func resize[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// decode reads n values of type t from data. Slices of v are reused; limit bounds what decoding may add in memory.
func (v *values) decode(t leafType, enc format.Encoding, data []byte, n int, dict *values, limit int64) error {
	*v = values{n: n, start: v.start, size: v.size, nums: v.nums, index: v.index}
	start, size, nums, index := v.start[:0], v.size[:0], v.nums[:0], v.index[:0]
	v.start, v.size, v.nums, v.index = nil, nil, nil, nil
	switch {
	case n == 0:
		return nil
	case enc == format.Plain && t.kind == format.Boolean:
		if len(data) < (n+7)/8 {
			return corrupt("page of %d booleans has only %d bytes", n, len(data))
		}
		v.nums = resize(nums, n)
		for i := range v.nums {
			v.nums[i] = uint64(data[i/8] >> (i % 8) & 1)
		}
		return nil
	case enc == format.Plain && t.width > 0:
		if len(data)/t.width < n {
			return corrupt("page of %d values of %d bytes has only %d bytes", n, t.width, len(data))
		}
		v.data, v.width = data, t.width
		return nil
	case enc == format.Plain:
		v.start, v.size, v.data = resize(start, n), resize(size, n), data
		return v.plainByteArrays()
	//lint:ignore SA1019 files of older writers still use the first of the two names
	case enc == format.PlainDictionary || enc == format.RLEDictionary:
		return v.indexes(resize(index, n), data, dict)
	case enc == format.RLE && t.kind == format.Boolean:
		if len(data) < 4 || int64(binary.LittleEndian.Uint32(data)) > int64(len(data)-4) {
			return corrupt("run-length booleans end early")
		}
		v.nums = resize(nums, n)
		return decodeHybrid(v.nums, 1, data[4:][:binary.LittleEndian.Uint32(data)])
	case enc == format.DeltaBinaryPacked && (t.kind == format.Int32 || t.kind == format.Int64):
		v.nums = resize(nums, n)
		_, err := decodeDelta(v.nums, data)
		return err
	case enc == format.DeltaLengthByteArray && t.kind == format.ByteArray:
		v.start, v.size = resize(start, n), resize(size, n)
		return v.deltaLengths(resize(nums, n), data)
	case enc == format.DeltaByteArray && (t.kind == format.ByteArray || t.kind == format.FixedLenByteArray):
		v.start, v.size = resize(start, n), resize(size, n)
		if err := v.deltaPrefixes(data, limit); err != nil {
			return err
		}
		for _, s := range v.size {
			if t.width > 0 && int(s) != t.width {
				return corrupt("value of %d bytes in a column of fixed width %d", s, t.width)
			}
		}
		return nil
	case enc == format.ByteStreamSplit && t.width > 0:
		if len(data) != n*t.width {
			return corrupt("page of %d values of %d bytes has %d bytes", n, t.width, len(data))
		}
		v.data, v.width = make([]byte, len(data)), t.width
		for i := range n {
			for b := range t.width {
				v.data[i*t.width+b] = data[b*n+i]
			}
		}
		return nil
	}
	return errorf(FileUnsupported, "encoding %s of %s cannot be read", enc, t.kind)
}

func (v *values) plainByteArrays() error {
	pos := 0
	for i := range v.start {
		if len(v.data)-pos < 4 {
			return corrupt("page of %d values ends within value %d", v.n, i)
		}
		n := binary.LittleEndian.Uint32(v.data[pos:])
		pos += 4
		if int64(n) > int64(len(v.data)-pos) {
			return corrupt("value %d of a page has %d bytes where %d are left", i, n, len(v.data)-pos)
		}
		v.start[i], v.size[i] = uint32(pos), n
		pos += int(n)
	}
	return nil
}

func (v *values) indexes(index []uint32, data []byte, dict *values) error {
	switch {
	case dict == nil:
		return corrupt("page refers to a dictionary that is not there")
	case len(data) == 0 || data[0] > 32:
		return corrupt("dictionary indexes without a valid bit width")
	}
	if err := decodeHybrid(index, int(data[0]), data[1:]); err != nil {
		return err
	}
	for _, i := range index {
		if int64(i) >= int64(dict.n) {
			return corrupt("dictionary index %d of %d", i, dict.n)
		}
	}
	v.index, v.dict = index, dict
	return nil
}

// deltaLengths reads lengths, then all bytes.
func (v *values) deltaLengths(lengths []uint64, data []byte) error {
	rest, err := decodeDelta(lengths, data)
	if err != nil {
		return err
	}
	pos := uint64(0)
	for i, n := range lengths {
		if n > uint64(len(rest))-pos {
			return corrupt("value %d of a page has %d bytes where %d are left", i, int64(n), uint64(len(rest))-pos)
		}
		v.start[i], v.size[i] = uint32(pos), uint32(n)
		pos += n
	}
	v.data = rest
	return nil
}

// deltaPrefixes reads values that share a prefix with the one before them.
func (v *values) deltaPrefixes(data []byte, limit int64) error {
	prefix := make([]uint64, v.n)
	data, err := decodeDelta(prefix, data)
	if err != nil {
		return err
	}
	suffix := values{n: v.n, start: make([]uint32, v.n), size: make([]uint32, v.n)}
	if err := suffix.deltaLengths(make([]uint64, v.n), data); err != nil {
		return err
	}
	total, before := uint64(0), uint64(0)
	for i, p := range prefix {
		if p > before {
			return corrupt("value %d of a page shares %d bytes with one of %d", i, int64(p), before)
		}
		before = p + uint64(suffix.size[i])
		if total += before; total > uint64(min(limit, math.MaxUint32)) {
			return errorf(FileTooLarge, "page unpacks to more than %d bytes", min(limit, math.MaxUint32))
		}
	}
	v.data = make([]byte, 0, total)
	last := []byte(nil)
	for i, p := range prefix {
		s := len(v.data)
		v.data = append(v.data, last[:p]...)
		v.data = append(v.data, suffix.at(i).bytes...)
		last = v.data[s:]
		v.start[i], v.size[i] = uint32(s), uint32(len(last))
	}
	return nil
}

// decodeHybrid fills dst from runs of equal values and bit-packed groups (the format's RLE/bit-packing hybrid).
func decodeHybrid[T uint8 | uint32 | uint64](dst []T, width int, src []byte) error {
	if width == 0 {
		clear(dst)
		return nil
	}
	for len(dst) > 0 {
		h, k := binary.Uvarint(src)
		if k <= 0 {
			return corrupt("run-length data ends %d values early", len(dst))
		}
		src = src[k:]
		if h&1 == 0 {
			size := (width + 7) / 8
			if len(src) < size {
				return corrupt("run-length data ends within a run")
			}
			var x uint64
			for i := range size {
				x |= uint64(src[i]) << (8 * i)
			}
			run := dst[:min(h>>1, uint64(len(dst)))]
			for i := range run {
				run[i] = T(x)
			}
			src, dst = src[size:], dst[len(run):]
			continue
		}
		n := int(min(h>>1, uint64(len(dst)/8+1)) * 8)
		n = min(n, len(dst))
		if len(src)*8/width < n {
			return corrupt("run-length data ends within a packed group")
		}
		for i := range dst[:n] {
			dst[i] = T(bitsAt(src, i*width, width))
		}
		dst = dst[n:]
		src = src[min(len(src), (n+7)/8*width):]
	}
	return nil
}

// bitsAt reads width bits (up to 64) that start at bit pos, least significant first.
func bitsAt(src []byte, pos, width int) uint64 {
	i, off := pos/8, pos%8
	if width+off <= 64 && len(src)-i >= 8 {
		return binary.LittleEndian.Uint64(src[i:]) >> off & (1<<width - 1)
	}
	var x uint64
	for got := -off; got < width; got += 8 {
		b := uint64(src[i])
		if got < 0 {
			x |= b >> -got
		} else {
			x |= b << got
		}
		i++
	}
	if width < 64 {
		x &= 1<<width - 1
	}
	return x
}

// decodeDelta reads exactly len(dst) numbers of DELTA_BINARY_PACKED and returns what follows them.
func decodeDelta(dst []uint64, src []byte) ([]byte, error) {
	var head [3]uint64 // block size, miniblocks per block, count
	for i := range head {
		x, k := binary.Uvarint(src)
		if k <= 0 {
			return nil, corrupt("delta header ends early")
		}
		head[i], src = x, src[k:]
	}
	block, minis, count := head[0], head[1], head[2]
	first, k := binary.Varint(src)
	switch {
	case k <= 0:
		return nil, corrupt("delta header ends early")
	case count != uint64(len(dst)):
		return nil, corrupt("delta data holds %d values where the page says %d", count, len(dst))
	case minis == 0 || minis > 1<<16 || block == 0 || block > 1<<31 || block%minis != 0 || block/minis%8 != 0:
		return nil, corrupt("delta blocks of %d values in %d parts", block, minis)
	}
	src = src[k:]
	if len(dst) == 0 {
		return src, nil
	}
	dst[0], dst = uint64(first), dst[1:]
	last, per := uint64(first), int(block/minis)
	for len(dst) > 0 {
		least, k := binary.Varint(src)
		if k <= 0 || len(src)-k < int(minis) {
			return nil, corrupt("delta data ends %d values early", len(dst))
		}
		widths := src[k:][:minis]
		src = src[k+int(minis):]
		for _, w := range widths {
			if len(dst) == 0 {
				break
			}
			width := int(w)
			n := min(per, len(dst))
			if width > 64 || len(src)*8 < n*width {
				return nil, corrupt("delta data ends %d values early", len(dst))
			}
			for i := range dst[:n] {
				last += uint64(least) + bitsAtOrZero(src, i*width, width)
				dst[i] = last
			}
			dst = dst[n:]
			src = src[min(len(src), per*width/8):]
		}
	}
	return src, nil
}

func bitsAtOrZero(src []byte, pos, width int) uint64 {
	if width == 0 {
		return 0
	}
	return bitsAt(src, pos, width)
}
