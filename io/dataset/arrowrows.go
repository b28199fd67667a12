package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// arrowFeed hands messages of a file to the decoder.
type arrowFeed struct {
	r       io.ReaderAt
	layouts *arrowLayouts
	queue   []arrowMessage
	memory  *arrowMemory
	err     error // of reading; the decoder may hide it
}

// Message returns the next message, read, checked again, and unpacked.
func (f *arrowFeed) Message() (*ipc.Message, error) {
	if len(f.queue) == 0 {
		return nil, io.EOF
	}
	m := f.queue[0]
	f.queue = f.queue[1:]
	f.memory.left = 4*m.need + 1<<20 // buffers are padded
	meta, body, err := m.read(f.r, f.layouts)
	if err != nil {
		f.err = err
		return nil, err
	}
	return ipc.NewMessage(memory.NewBufferBytes(meta), memory.NewBufferBytes(body)), nil
}

// Retain and Release do nothing: the memory is the garbage collector's.
func (*arrowFeed) Retain()  {}
func (*arrowFeed) Release() {}

// read reads a message of the index. The file may have changed since, so that it is checked again.
func (m arrowMessage) read(r io.ReaderAt, layouts *arrowLayouts) (meta, body []byte, err error) {
	was := m
	m.meta, body = make([]byte, m.metaSize), make([]byte, m.body)
	if _, err := r.ReadAt(m.meta, m.metaAt); err != nil {
		return nil, nil, readError(err)
	}
	if _, err := r.ReadAt(body, m.bodyAt()); err != nil {
		return nil, nil, readError(err)
	}
	if err := m.check(was.body, layouts); err != nil {
		return nil, nil, err
	}
	if m.kind != was.kind || m.body != was.body || m.rows != was.rows {
		return nil, nil, errorf(FileChanged, "arrow message at %d is not the one that was listed", m.metaAt)
	}
	body, err = m.unpack(body)
	return m.meta, body, err
}

// arrowBatchRows is an open record batch; row is the current one.
type arrowBatchRows struct {
	leaves []arrowLeaf
	record arrow.Record
	row    int
}

// value returns the value of a leaf in the current row: of a Go type by its [Kind], or lists of such.
func (b *arrowBatchRows) value(leaf int) (x any, err error) {
	l := b.leaves[leaf]
	return arrowValue(b.record.Column(l.column), b.row, l.fields)
}

// readArrow delivers rows from..to of the file. Batches before the range are not read, but dictionaries are.
func (c *cursor) readArrow(ctx context.Context, from, to int64, yield func(Row, error) bool) (stopped bool, err error) {
	if from == to {
		return false, nil
	}
	r, err := c.f.open()
	if err != nil {
		return false, err
	}
	defer r.Close()
	a := c.f.arrow
	feed := &arrowFeed{r: r, layouts: a.layouts(), memory: &arrowMemory{Allocator: memory.NewGoAllocator()}}
	batch := 0
	for i, m := range a.messages {
		if m.kind == arrowBatch {
			g := c.f.groups[batch]
			if batch++; g.first >= to {
				break
			} else if g.first+g.rows <= from {
				continue
			}
		}
		feed.queue = append(feed.queue, a.messages[i])
	}
	var rd *ipc.Reader
	err = guard(func() (err error) {
		rd, err = ipc.NewReaderFromMessageReader(feed, ipc.WithAllocator(feed.memory))
		return err
	})
	if err != nil {
		return false, arrowError(feed, err)
	}
	defer rd.Release()
	b := &arrowBatchRows{leaves: a.leaves}
	c.batch, c.cells = b, make([]cell, len(c.f.slots.leaves))
	for c.group = range c.f.groups {
		g := c.f.groups[c.group]
		if g.first+g.rows <= from || g.first >= to {
			continue
		}
		err := guard(func() (err error) {
			if b.record, err = rd.Read(); err == nil && b.record.NumRows() != g.rows {
				err = corrupt("record batch has %d rows where its metadata says %d", b.record.NumRows(), g.rows)
			}
			return err
		})
		if err != nil {
			return false, at(arrowError(feed, err), c.f.name, c.group, -1, "")
		}
		for i := max(0, from-g.first); i < min(g.rows, to-g.first); i++ {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			b.row = int(i)
			row, err := c.arrowRow(g.first+i, i)
			if err != nil {
				return false, err
			}
			if !yield(row, nil) {
				return true, nil
			}
		}
	}
	return false, nil
}

// arrowRow makes the current row of the batch.
func (c *cursor) arrowRow(inFile, inGroup int64) (row Row, err error) {
	for k, s := range c.f.slots.leaves {
		if s.typ.maxRep > 0 {
			continue // read as a whole, by value
		}
		err := guard(func() error {
			x, err := c.batch.value(s.leaf)
			c.cells[k] = cell{value: scalar{null: x == nil}, arrow: x}
			switch x := x.(type) {
			case []byte:
				c.cells[k].value.bytes = x
			case string:
				c.cells[k].value.bytes = []byte(x)
			}
			return err
		})
		if err != nil {
			return Row{}, c.at(err, inFile, k)
		}
	}
	if row, err = c.build(inFile, inGroup); err != nil || c.names {
		return row, err
	}
	if s := c.f.arrow.status; s >= 0 {
		if status, _ := c.cells[s].arrow.(string); status != "ok" {
			row.Image, row.Err = nil, at(c.failedBefore(status), c.f.name, c.group, inFile, c.f.slots.leaves[s].path)
		}
	}
	return row, nil
}

// failedBefore says why a row of a job's results has no image.
func (c *cursor) failedBefore(status string) error {
	reason := "without a reason"
	if s := c.f.arrow.reason; s >= 0 {
		if text, _ := c.cells[s].arrow.(string); text != "" {
			reason = text
		}
	}
	if status == "" {
		status = "failed"
	}
	return errorf(RowFailed, "%s in the source run: %s", status, reason)
}

// arrowError classes what the decoder gave.
func arrowError(feed *arrowFeed, err error) error {
	switch {
	case feed.err != nil:
		return feed.err
	case ClassOf(err) != "":
		return err
	case errors.Is(err, io.EOF):
		return corrupt("arrow data ends before its last record batch")
	}
	return corrupt("%w", err)
}

// arrowMemory is an allocator with a limit, which the feed sets for each message: whatever its checks let pass, the decoder cannot take
// more.
type arrowMemory struct {
	memory.Allocator
	left int64
}

func (m *arrowMemory) take(n int) {
	if m.left -= int64(n); m.left < 0 {
		panic(fmt.Sprintf("arrays are over the memory limit by %d bytes", -m.left))
	}
}

// Allocate panics when the limit is passed, which the decoder and guard turn into an error.
func (m *arrowMemory) Allocate(n int) []byte {
	m.take(n)
	return m.Allocator.Allocate(n)
}

// Reallocate is like Allocate.
func (m *arrowMemory) Reallocate(n int, b []byte) []byte {
	m.take(n - len(b))
	return m.Allocator.Reallocate(n, b)
}

// Free gives memory back.
func (m *arrowMemory) Free(b []byte) {
	m.left += int64(len(b))
	m.Allocator.Free(b)
}
