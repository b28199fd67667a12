package dataset

// nest assembles the lists of one row from the entries of a repeated column.
//
// An entry of repetition level r is a further element of the r-th list around the value, so the lists inside that one are done.
// Its definition level says how far down the way to the value exists: below lists[k]-1 the k-th list, or something around it,
// is null; at lists[k]-1 it is empty; from lists[k] on it has an element. (Melnik et al., Dremel, VLDB 2010, section 4.)
type nest struct {
	lists []uint8
	open  [][]any // the lists that may still grow, outermost first
	top   any
}

// add takes the next entry.
func (n *nest) add(x any, rep, def uint8) error {
	if int(rep) > len(n.open) {
		return corrupt("entry of repetition level %d in %d lists", rep, len(n.open))
	}
	n.closeTo(int(rep))
	for len(n.open) < len(n.lists) {
		switch d := n.lists[len(n.open)]; {
		case def+1 < d:
			n.put(nil)
			return nil
		case def+1 == d:
			n.put([]any{})
			return nil
		}
		n.open = append(n.open, []any{})
	}
	n.put(x)
	return nil
}

// put adds a value to the innermost open list.
func (n *nest) put(x any) {
	if k := len(n.open) - 1; k >= 0 {
		n.open[k] = append(n.open[k], x)
	} else {
		n.top = x
	}
}

// closeTo closes the lists inside the k outermost.
func (n *nest) closeTo(k int) {
	for len(n.open) > k {
		last := len(n.open) - 1
		list := n.open[last]
		n.open = n.open[:last]
		n.put(list)
	}
}

// finish returns the value of the row: []any, or nil when the outermost list is null.
func (n *nest) finish() any {
	n.closeTo(0)
	return n.top
}
