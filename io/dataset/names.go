package dataset

import (
	"context"
	"fmt"
	"iter"
)

// Name is what a row is called: [Row.ID] and [Row.Path].
type Name struct{ ID, Path string }

// Names streams the names of rows from (included) to (excluded), in order, without their images: of pictures from the listing, with no
// file opened; of Parquet files only the columns of ids and of paths are read, and nothing when there are neither; of Arrow files the
// record batches, when there are such columns. A row whose id is null has the name it has in [Dataset.Rows]. An error ends the stream
// and is the last thing delivered.
func (d *Dataset) Names(ctx context.Context, from, to int64) iter.Seq2[Name, error] {
	return func(yield func(Name, error) bool) {
		if err := d.checkRange(from, to); err != nil {
			yield(Name{}, err)
			return
		}
		for from < to {
			k := d.Locate(from).File
			f := d.files[k]
			end := min(to, f.first+f.rows)
			c := cursor{d: d, file: k, f: f.onlyNames(), names: true}
			read := c.parquet
			switch {
			case f.pictures != nil || len(c.f.slots.leaves) == 0:
				read = c.listNames
			case f.arrow != nil:
				read = c.readArrow
			}
			stopped, err := read(ctx, from-f.first, end-f.first, func(r Row, err error) bool { return yield(Name{r.ID, r.Path}, err) })
			if err != nil {
				yield(Name{}, data(at(err, f.name, -1, -1, "")))
			}
			if err != nil || stopped {
				return
			}
			from = end
		}
	}
}

func (d *Dataset) checkRange(from, to int64) error {
	if from < 0 || to > d.rows || from > to {
		return fmt.Errorf("input: rows %d to %d of a data set of %d", from, to, d.rows)
	}
	return nil
}

// onlyNames is the file with the columns of ids and paths alone.
func (f *file) onlyNames() *file {
	v := *f
	v.slots = slots{image: imageSlots{bytes: -1, path: -1, name: f.slots.image.name}, id: f.slots.id, label: valueSlot{slot: -1}}
	var kept []int
	keep := func(slot int) int {
		if slot < 0 || len(f.slots.leaves) == 0 { // the slots of pictures are not set
			return -1
		}
		v.slots.leaves, kept = append(v.slots.leaves, f.slots.leaves[slot]), append(kept, slot)
		return len(kept) - 1
	}
	v.slots.id.slot = keep(f.slots.id.slot)
	if f.slots.image.name != "" {
		v.slots.image.path = keep(f.slots.image.path)
	}
	v.groups = make([]group, len(f.groups))
	for i, g := range f.groups {
		v.groups[i] = group{first: g.first, rows: g.rows}
		if g.chunks == nil { // of no Parquet file
			continue
		}
		for _, k := range kept {
			v.groups[i].chunks = append(v.groups[i].chunks, g.chunks[k])
		}
	}
	return &v
}

// listNames delivers names that need no file.
func (c *cursor) listNames(ctx context.Context, from, to int64, yield func(Row, error) bool) (stopped bool, err error) {
	for i := from; i < to; i++ {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		row := Row{RowInFile: i}
		if c.f.pictures != nil {
			row.ID = c.f.prefix + c.f.pictures[i].name
			row.Path = row.ID
		} else {
			c.id(&row)
		}
		if !yield(row, nil) {
			return true, nil
		}
	}
	return false, nil
}

// name is the row of a cursor that reads names only.
func (c *cursor) name(inFile int64) Row {
	row := Row{RowInFile: inFile}
	if p := c.f.slots.image.path; p >= 0 && !c.cells[p].value.null {
		row.Path = string(c.cells[p].value.bytes)
	}
	c.id(&row)
	return row
}
