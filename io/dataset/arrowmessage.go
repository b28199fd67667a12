package dataset

import (
	"encoding/binary"
	"errors"
	"io"
)

// The kinds of messages of Arrow's IPC format.
const (
	arrowSchema     = 1
	arrowDictionary = 2
	arrowBatch      = 3
)

// arrowMessage is one message, checked: its parts lie in the file, its buffers in its body, and its lists in its metadata.
type arrowMessage struct {
	kind     uint8
	metaAt   int64
	meta     []byte // only while it is checked; nil in the index
	metaSize int64
	body     int64         // bytes behind the metadata
	rows     int64         // of a record batch
	layouts  *arrowLayouts // of a schema
	need     int64         // bytes that reading it takes: packed, unpacked, and its arrays
}

// bodyAt is where the body begins.
func (m *arrowMessage) bodyAt() int64 { return m.metaAt + m.metaSize }

var errArrowEnd = errors.New("end of the stream")

// readArrowMessage reads and checks the message at a place of a file of the given size. It returns errArrowEnd at the end mark and
// io.EOF where the file ends.
func readArrowMessage(r io.ReaderAt, at, size int64, layouts *arrowLayouts, lim Limits) (m arrowMessage, err error) {
	const continuation = 0xFFFFFFFF
	var word [4]byte
	next := func() (uint32, error) {
		if at > size-4 {
			return 0, errorf(FileTruncated, "arrow message at %d goes beyond the end: the file is cut off", at)
		}
		if _, err := r.ReadAt(word[:], at); err != nil {
			return 0, readError(err)
		}
		at += 4
		return binary.LittleEndian.Uint32(word[:]), nil
	}
	if at == size {
		return m, io.EOF
	}
	length, err := next()
	if err == nil && length == continuation { // files before version 0.15 have the length only
		length, err = next()
	}
	switch {
	case err != nil:
		return m, err
	case length == 0:
		return m, errArrowEnd
	case int64(length) > size-at:
		return m, errorf(FileTruncated, "arrow message of %d bytes at %d goes beyond the end: the file is cut off", length, at)
	case int64(length) > lim.Memory:
		return m, errorf(FileTooLarge, "arrow message of %d bytes is over the memory limit of %d bytes", length, lim.Memory)
	}
	m.metaAt, m.metaSize, m.meta = at, int64(length), make([]byte, length)
	if _, err := r.ReadAt(m.meta, at); err != nil {
		return m, readError(err)
	}
	if err := m.check(size-m.bodyAt(), layouts); err != nil {
		return m, err
	}
	unpacked, err := m.unpacked(io.NewSectionReader(r, m.bodyAt(), m.body))
	if err != nil {
		return m, err
	}
	if m.need = m.metaSize + m.body + unpacked; m.need > lim.Memory {
		return m, errorf(FileTooLarge, "arrow message at %d needs %d bytes of memory where %d are allowed", at, m.need, lim.Memory)
	}
	m.need += max(m.body, unpacked)                           // arrays are copies of the body
	if m.kind == arrowBatch && m.rows > 8*(m.body+unpacked) { // a row takes a bit or more
		return m, corrupt("record batch of %d rows in %d bytes", m.rows, m.body)
	}
	return m, m.checkNodes(m.body + unpacked)
}

// Numbers of fields in the tables of the format.
const (
	messageKind, messageHeader, messageBody                                         = 1, 2, 3
	dictionaryData                                                                  = 1
	batchRows, batchNodes, batchBuffers, batchCompression, batchViews               = 0, 1, 2, 3, 4
	schemaEndian, schemaFields, schemaMeta                                          = 0, 1, 2
	fieldName, fieldType, fieldTypeTable, fieldDictionary, fieldChildren, fieldMeta = 0, 2, 3, 4, 5, 6
)

// check checks the metadata against a file with that many bytes behind it, and the schema before it.
func (m *arrowMessage) check(room int64, layouts *arrowLayouts) (err error) {
	f := &flatbuf{b: m.meta}
	root := f.ref(0)
	if at := f.field(root, messageKind); at > 0 {
		m.kind = f.u8(at)
	}
	if at := f.field(root, messageBody); at > 0 {
		m.body = f.i64(at)
	}
	switch {
	case f.bad || m.body < 0:
		return corrupt("arrow message at %d has damaged metadata", m.metaAt)
	case m.body > room:
		return errorf(FileTruncated, "body of %d bytes of the arrow message at %d goes beyond the end: the file is cut off", m.body, m.metaAt)
	case m.kind == arrowSchema:
		m.layouts, err = checkArrowSchema(f, f.table(root, messageHeader))
		return err
	case m.kind != arrowDictionary && m.kind != arrowBatch:
		return errorf(FileUnsupported, "arrow message of kind %d cannot be read", m.kind)
	}
	if layouts == nil {
		return corrupt("arrow message at %d comes before the schema", m.metaAt)
	}
	want, known := layouts.batch, true
	if m.kind == arrowDictionary {
		id := int64(0)
		if at := f.field(f.table(root, messageHeader), 0); at > 0 {
			id = f.i64(at)
		}
		if want, known = layouts.dictionaries[id]; !known {
			return corrupt("arrow message at %d has a dictionary of no column", m.metaAt)
		}
	}
	batch := m.batch(f)
	if at := f.field(batch, batchRows); at > 0 {
		m.rows = f.i64(at)
	}
	buffers, n := f.vector(batch, batchBuffers, 16)
	for i := range n {
		at, size := f.i64(buffers+16*i), f.i64(buffers+16*i+8)
		if at < 0 || size < 0 || at > m.body || size > m.body-at {
			return corrupt("buffer %d of the arrow message at %d goes beyond its body", i, m.metaAt)
		}
	}
	views, k := f.vector(batch, batchViews, 8)
	for i := range k {
		if c := f.i64(views + 8*i); c < 0 || c > int64(n) {
			return corrupt("arrow message at %d has %d buffers of views", m.metaAt, c)
		} else if i < want.views {
			want.buffers += int(c)
		}
	}
	if _, nodes := f.vector(batch, batchNodes, 16); nodes < want.nodes || n < want.buffers || k < want.views {
		return corrupt("arrow message at %d has %d arrays in %d buffers where its columns need %d in %d", m.metaAt, nodes, n, want.nodes, want.buffers)
	}
	if f.bad || m.rows < 0 || batch == 0 {
		return corrupt("arrow message at %d has damaged metadata", m.metaAt)
	}
	return nil
}

// batch returns the place of the record batch in the metadata of a batch or a dictionary.
func (m *arrowMessage) batch(f *flatbuf) int {
	header := f.table(f.ref(0), messageHeader)
	if m.kind == arrowDictionary {
		return f.table(header, dictionaryData)
	}
	return header
}

// checkNodes bounds the lengths of arrays, which decoders may loop over: a value takes a bit or more.
func (m *arrowMessage) checkNodes(bytes int64) error {
	if m.kind == arrowSchema {
		return nil
	}
	f := &flatbuf{b: m.meta}
	nodes, n := f.vector(m.batch(f), batchNodes, 16)
	for i := range n {
		if v := f.i64(nodes + 16*i); v < 0 || v > max(m.rows, 8*bytes) {
			return corrupt("array %d of the arrow message at %d of %d values in %d bytes", i, m.metaAt, v, bytes)
		}
	}
	return nil
}
