package part

import (
	"encoding/binary"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/ldm-batch/ldm-batch/internal/half"
)

// batch collects the rows of one record batch. Plain columns go through the Arrow builders; the latent goes straight into
// value, offset and validity buffers, since all levels of its nesting share them.
type batch struct {
	schema   Schema
	arrow    *arrow.Schema
	builders []array.Builder // one per field, nil for the latent
	index    map[string]int
	rows     int
	bytes    int // payload and strings, an estimate that depends on the rows only

	values  []byte  // latent elements as stored
	offsets []int32 // ragged: rows+1 offsets into the elements
	valid   []byte  // validity bitmap of the latent
	nulls   int
}

func newBatch(s Schema, as *arrow.Schema) *batch {
	b := &batch{schema: s, arrow: as, index: map[string]int{}}
	for i, f := range as.Fields() {
		b.index[f.Name] = i
		if f.Name == colLatent && s.Latent != nil {
			b.builders = append(b.builders, nil)
			continue
		}
		b.builders = append(b.builders, array.NewBuilder(memory.NewGoAllocator(), f.Type))
	}
	return b
}

func (l Latent) elementBytes() int {
	if l.DType == Float16 {
		return 2
	}
	return 4
}

// rowBytes is the share of r in the size of its batch. A null latent of a fixed shape takes its space all the same.
func (b *batch) rowBytes(r *Row) int {
	n := len(r.ID) + len(r.Image) + len(r.ImagePath) + len(r.Error) + len(r.SourceSHA256) + 32
	if b.schema.Files {
		n += len(r.FileSHA256) + len(reasonOf(r)) + 8
	}
	if l := b.schema.Latent; l != nil {
		if l.Layout == Ragged {
			n += len(r.Latent) * l.elementBytes()
		} else {
			n += l.C * l.H * l.W * l.elementBytes()
		}
	}
	for _, v := range r.Extra {
		switch x := v.(type) {
		case string:
			n += len(x)
		case []byte:
			n += len(x)
		case []float32:
			n += 4 * len(x)
		default:
			n += 8
		}
	}
	return n
}

func (b *batch) append(r *Row, size int) {
	b.text(colID, r.ID, true)
	if b.schema.Label {
		put(b.at(colLabel).(*array.Int64Builder), r.Label, r.HasLabel)
	}
	if b.schema.Latent != nil {
		b.latent(r)
	}
	if b.schema.Image {
		b.image(r)
	}
	if b.schema.Files {
		ok := r.Status == OK
		b.text(colPath, r.ImagePath, ok)
		put(b.at(colFileBytes).(*array.Int64Builder), r.FileBytes, ok)
		b.text(colFileSHA256, r.FileSHA256, ok)
		b.text(colReason, reasonOf(r), !ok)
	}
	put(b.at(colWidth).(*array.Int32Builder), int32(r.Width), r.Width > 0)
	put(b.at(colHeight).(*array.Int32Builder), int32(r.Height), r.Height > 0)
	if b.schema.Sampling {
		b.at(colSeed).(*array.Uint64Builder).Append(r.Seed)
		b.at(colSteps).(*array.Int32Builder).Append(int32(r.Steps))
		b.at(colGuidance).(*array.Float32Builder).Append(r.Guidance)
	}
	b.text(colSource, r.SourceSHA256, r.SourceSHA256 != "")
	for i, c := range b.schema.Extra {
		b.extra(c, r.Extra[i])
	}
	b.text(colStatus, string(r.Status), true)
	b.text(colError, r.Error, r.Error != "")
	b.rows++
	b.bytes += size
}

func (b *batch) at(name string) array.Builder { return b.builders[b.index[name]] }

func (b *batch) text(name, v string, valid bool) {
	put(b.at(name).(*array.StringBuilder), validUTF8(v), valid)
}

// put appends v, or null.
func put[T any](b interface {
	Append(T)
	AppendNull()
}, v T, valid bool) {
	if valid {
		b.Append(v)
	} else {
		b.AppendNull()
	}
}

func (b *batch) extra(c Column, v any) {
	switch x := v.(type) {
	case nil: // a null vector takes its space all the same
		b.at(c.Name).AppendNull()
	case string:
		b.text(c.Name, x, true)
	case int64:
		b.at(c.Name).(*array.Int64Builder).Append(x)
	case float64:
		b.at(c.Name).(*array.Float64Builder).Append(x)
	case bool:
		b.at(c.Name).(*array.BooleanBuilder).Append(x)
	case []byte:
		b.at(c.Name).(*array.BinaryBuilder).Append(x)
	case []float32:
		l := b.at(c.Name).(*array.FixedSizeListBuilder)
		l.Append(true)
		l.ValueBuilder().(*array.Float32Builder).AppendValues(x, nil)
	}
}

func (b *batch) image(r *Row) {
	s := b.at(colImage).(*array.StructBuilder)
	if r.Image == nil {
		s.AppendNull()
		return
	}
	s.Append(true)
	s.FieldBuilder(0).(*array.BinaryBuilder).Append(r.Image)
	put(s.FieldBuilder(1).(*array.StringBuilder), validUTF8(r.ImagePath), r.ImagePath != "")
}

func (b *batch) latent(r *Row) {
	l := b.schema.Latent
	if b.rows%8 == 0 {
		b.valid = append(b.valid, 0)
	}
	has := len(r.Latent) > 0
	if has {
		bitutil.SetBit(b.valid, b.rows)
	} else {
		b.nulls++
	}
	switch {
	case has && l.DType == Float16:
		for _, v := range r.Latent {
			h, _ := half.Round(v) // the writer has checked its range
			b.values = binary.NativeEndian.AppendUint16(b.values, h)
		}
	case has:
		b.values = append(b.values, arrow.Float32Traits.CastToBytes(r.Latent)...)
	case l.Layout != Ragged:
		b.values = append(b.values, make([]byte, l.C*l.H*l.W*l.elementBytes())...)
	}
	if l.Layout != Ragged {
		return
	}
	if b.rows == 0 {
		b.offsets = append(b.offsets, 0)
	}
	b.offsets = append(b.offsets, int32(len(b.values)/l.elementBytes()))
	sb := b.at(colLatentShape).(*array.FixedSizeListBuilder)
	sb.Append(has)
	var shape [3]int
	if has {
		shape = r.LatentShape
	}
	for _, d := range shape {
		sb.ValueBuilder().(*array.Int32Builder).Append(int32(d))
	}
}

// record makes the record batch and empties b. The record shares the latent buffers of b: it must be written and released
// before the next append.
func (b *batch) record() arrow.Record {
	cols := make([]arrow.Array, len(b.builders))
	for i, bd := range b.builders {
		if bd == nil {
			cols[i] = b.latentArray(b.arrow.Field(i).Type)
		} else {
			cols[i] = bd.NewArray()
		}
	}
	rec := array.NewRecord(b.arrow, cols, int64(b.rows))
	for _, c := range cols {
		c.Release()
	}
	b.rows, b.bytes, b.nulls = 0, 0, 0
	b.values, b.offsets, b.valid = b.values[:0], b.offsets[:0], b.valid[:0]
	return rec
}

func (b *batch) latentArray(t arrow.DataType) arrow.Array {
	l := b.schema.Latent
	data := array.NewData(l.valueType(), len(b.values)/l.elementBytes(),
		[]*memory.Buffer{nil, memory.NewBufferBytes(b.values)}, nil, 0, 0)
	// From the inside out: every level but the outermost is without nulls.
	var levels []arrow.DataType
	for {
		levels = append(levels, t)
		n, ok := t.(arrow.ListLikeType)
		if !ok {
			break
		}
		t = n.Elem()
	}
	levels = levels[:len(levels)-1]
	for i := len(levels) - 1; i > 0; i-- {
		n := data.Len() / int(levels[i].(*arrow.FixedSizeListType).Len())
		data = array.NewData(levels[i], n, []*memory.Buffer{nil}, []arrow.ArrayData{data}, 0, 0)
	}
	buffers := []*memory.Buffer{nil}
	if b.nulls > 0 {
		buffers[0] = memory.NewBufferBytes(b.valid)
	}
	if l.Layout == Ragged {
		buffers = append(buffers, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(b.offsets)))
	}
	return array.MakeFromData(array.NewData(levels[0], b.rows, buffers, []arrow.ArrayData{data}, b.nulls, 0))
}
