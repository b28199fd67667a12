package jobs

// batches collects rows by size until a batch is full.
type batches struct {
	lists []*sizeList // in the order of their oldest rows
}

// sizeList holds rows of one size.
type sizeList struct {
	h, w  int
	items []*item
}

// add takes an item and returns its batch when that is full: when it has n rows, or as many as fit into memory together.
func (b *batches) add(it *item, n int) []*item {
	for i, l := range b.lists {
		if l.h == it.h && l.w == it.w {
			l.items = append(l.items, it)
			if len(l.items) >= it.batch(n) {
				b.lists = append(b.lists[:i], b.lists[i+1:]...)
				return l.items
			}
			return nil
		}
	}
	if it.batch(n) == 1 {
		return []*item{it}
	}
	b.lists = append(b.lists, &sizeList{it.h, it.w, []*item{it}})
	return nil
}

// oldest removes the incomplete batch with the oldest row, nil if there is none.
func (b *batches) oldest() []*item {
	if len(b.lists) == 0 {
		return nil
	}
	l := b.lists[0]
	b.lists = b.lists[1:]
	return l.items
}
