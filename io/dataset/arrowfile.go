package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
)

// arrowFile is the index of an Arrow file or stream: its messages in the order in which they are decoded, the schema first.
type arrowFile struct {
	messages []arrowMessage
	batches  []int // index of the message of each row group
	leaves   []arrowLeaf
	bytes    int64 // of all messages
	status   int   // slots of the columns of a job's results, -1 in other files
	reason   int
	size     int64
}

const (
	arrowMagic        = "ARROW1"           // at both ends of a file
	arrowContinuation = "\xff\xff\xff\xff" // before each message, and so at the beginning of a stream
)

// addArrow opens an Arrow file or stream and appends it. Record batches are its row groups.
func (d *Dataset) addArrow(f found) error {
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	a := &arrowFile{status: -1, reason: -1, size: f.size}
	sum := sha256.New()
	ended, err := a.index(r, f.size, d.lim, sum)
	if err != nil {
		return err
	}
	if !ended {
		d.warnings = append(d.warnings, f.name+": the arrow stream has no end mark, which is allowed: whether rows are missing cannot be told")
	}
	out := &file{found: f, sha: hex.EncodeToString(sum.Sum(nil)), first: d.rows, arrow: a}
	err = guard(func() error {
		schema, err := a.schema(r)
		if err != nil {
			return err
		}
		elements, leaves := arrowElements(schema)
		a.leaves = leaves
		root, _, err := schemaTree(elements)
		if err != nil {
			return err
		}
		hints := newFeatures()
		if i := schema.Metadata().FindKey(featuresKey); i >= 0 {
			hints.read(schema.Metadata().Values()[i])
		}
		if hints.warning != "" {
			d.warnings = append(d.warnings, f.name+": "+hints.warning)
		}
		results := schema.Metadata().FindKey("ldm.format") >= 0
		if len(d.files) == 0 {
			if err := d.detectArrow(root, hints, f, results); err != nil {
				return err
			}
		}
		if err := d.resolve(out, root, hints); err != nil {
			return err
		}
		if results {
			return a.addStatus(out, root)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var dictionaries int64
	for i, k := range a.batches {
		m := &a.messages[k]
		out.groups = append(out.groups, group{first: out.rows, rows: m.rows})
		if out.rows += m.rows; m.rows > 1<<48 || out.rows > 1<<48 {
			return at(corrupt("impossible row count %d", m.rows), "", i, -1, "")
		}
		out.need = max(out.need, m.need)
	}
	for _, m := range a.messages {
		if m.kind == arrowDictionary {
			dictionaries += m.need
		}
	}
	if out.need += dictionaries; dictionaries > d.lim.Memory {
		return errorf(FileTooLarge, "dictionaries need %d bytes of memory where %d are allowed", dictionaries, d.lim.Memory)
	}
	d.files = append(d.files, out)
	d.rows += out.rows
	return nil
}

// index reads the metadata of all messages; ended is false for a stream without an end mark. What tells whether the content has
// changed, as far as that is cheap, goes into sum.
func (a *arrowFile) index(r io.ReaderAt, size int64, lim Limits, sum hash.Hash) (ended bool, err error) {
	if size == 0 {
		return false, errorf(FileEmpty, "file has zero bytes")
	}
	head := make([]byte, min(size, 512))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	switch {
	case bytes.HasPrefix(head, []byte(arrowMagic)):
		return true, a.indexFile(r, size, lim, sum)
	case bytes.HasPrefix(head, []byte("FEA1")):
		return false, errorf(FileUnsupported, "feather files of version 1 cannot be read: write them again as version 2")
	}
	for at := int64(0); ; {
		m, err := readArrowMessage(r, at, size, a.layouts(), lim)
		switch {
		case len(a.messages) == 0 && (err != nil || m.kind != arrowSchema):
			if ClassOf(err) != "" && bytes.HasPrefix(head, []byte(arrowContinuation)) {
				return false, err
			}
			return false, errorf(FileNotArrow, "neither an arrow file nor an arrow stream: %s", looksLike(head))
		case errors.Is(err, errArrowEnd):
			return true, nil
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, err
		case len(a.messages) > 0 && m.kind == arrowSchema:
			return false, corrupt("second schema at %d", at)
		}
		if at = m.bodyAt() + m.body; at > size {
			return false, corrupt("arrow message beyond the end")
		}
		if err := a.add(m, lim, sum); err != nil {
			return false, err
		}
	}
}

func (a *arrowFile) add(m arrowMessage, lim Limits, sum hash.Hash) error {
	sum.Write(m.meta)
	if m.meta = nil; m.kind == arrowBatch {
		a.batches = append(a.batches, len(a.messages))
	}
	// The decoder takes what follows the schema for dictionaries, whatever it is.
	if l := a.layouts(); l != nil && len(a.messages) <= len(l.dictionaries) && m.kind != arrowDictionary {
		return corrupt("arrow schema has %d dictionaries, and only %d follow it", len(l.dictionaries), len(a.messages)-1)
	}
	a.messages = append(a.messages, m)
	if a.bytes += m.metaSize + m.body; a.bytes > a.size {
		return corrupt("arrow messages take more bytes than the file has")
	}
	if n := int64(len(a.messages)); n*128 > max(lim.Memory, minFooterMemory) {
		return errorf(FileTooLarge, "index of %d messages is over the memory limit of %d bytes", n, lim.Memory)
	}
	return nil
}

// indexFile goes by the footer: its dictionaries come before its batches, whatever their places.
func (a *arrowFile) indexFile(r io.ReaderAt, size int64, lim Limits, sum hash.Hash) error {
	const tail = 4 + int64(len(arrowMagic))
	const first = 8 // the magic, padded
	truncated := errorf(FileTruncated, "starts as an arrow file but does not end with %q: the file is cut off", arrowMagic)
	if size < first+tail {
		return truncated
	}
	end := make([]byte, tail)
	if _, err := r.ReadAt(end, size-tail); err != nil {
		return readError(err)
	}
	length := int64(binary.LittleEndian.Uint32(end))
	switch {
	case string(end[4:]) != arrowMagic:
		return truncated
	case length > size-first-tail:
		return corrupt("footer of %d bytes in a file of %d bytes", length, size)
	case length > max(lim.Memory, minFooterMemory):
		return errorf(FileTooLarge, "footer of %d bytes is over the memory limit of %d bytes", length, lim.Memory)
	}
	footer := make([]byte, length)
	if _, err := r.ReadAt(footer, size-tail-length); err != nil {
		return readError(err)
	}
	sum.Write(footer)
	m, err := readArrowMessage(r, first, size, nil, lim)
	if err != nil || m.kind != arrowSchema {
		return corrupt("arrow file does not begin with its schema")
	}
	if err := a.add(m, lim, sum); err != nil {
		return err
	}
	f := &flatbuf{b: footer}
	root := f.ref(0)
	const dictionaries, batches = 2, 3
	if err := a.blocks(r, f, root, dictionaries, arrowDictionary, size, lim, sum); err != nil {
		return err
	}
	if err := a.blocks(r, f, root, batches, arrowBatch, size, lim, sum); err != nil {
		return err
	}
	if f.bad {
		return corrupt("footer is damaged")
	}
	return nil
}

// blocks adds the messages that a list of the footer names.
func (a *arrowFile) blocks(r io.ReaderAt, f *flatbuf, root, field int, kind uint8, size int64, lim Limits, sum hash.Hash) error {
	const blockSize = 24 // place, bytes of metadata, padding, bytes of body
	blocks, n := f.vector(root, field, blockSize)
	for i := range n {
		at := f.i64(blocks + blockSize*i)
		if at < 0 || at >= size {
			return corrupt("footer names an arrow message at %d in a file of %d bytes", at, size)
		}
		m, err := readArrowMessage(r, at, size, a.layouts(), lim)
		if err == nil && m.kind != kind || errors.Is(err, errArrowEnd) {
			err = corrupt("arrow message at %d is not of the kind its footer says", at)
		}
		if err == nil {
			err = a.add(m, lim, sum)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// schema decodes the schema.
func (a *arrowFile) schema(r io.ReaderAt) (*arrow.Schema, error) {
	rd, err := ipc.NewReaderFromMessageReader(&arrowFeed{r: r, queue: a.messages[:1], memory: &arrowMemory{}})
	if err != nil {
		return nil, corrupt("%w", err)
	}
	defer rd.Release()
	return rd.Schema(), nil
}

// layouts are those of the schema, nil before it.
func (a *arrowFile) layouts() *arrowLayouts {
	if len(a.messages) == 0 {
		return nil
	}
	return a.messages[0].layouts
}

// addStatus finds the columns by which a job's results tell failed rows.
func (a *arrowFile) addStatus(f *file, root *node) (err error) {
	for _, c := range []struct {
		name string
		slot *int
	}{{"status", &a.status}, {"error", &a.reason}} {
		if n := root.child(c.name); n != nil && n.scalar() && n.text() {
			if *c.slot, err = f.slots.add(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// detectArrow decides on the columns by the first file. Rows of a job's results keep their ids.
func (d *Dataset) detectArrow(root *node, hints features, f found, results bool) error {
	if err := d.detect(root, hints, f); err != nil {
		return err
	}
	if n := root.child("id"); results && d.features.ID == "" && n != nil && n.scalar() && n.text() {
		d.features.ID = "id"
	}
	return nil
}
