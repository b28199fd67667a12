package train

import (
	"math/bits"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Order is the order in which the rows of a data set are seen, epoch after epoch, each epoch in an order of its own. Rows are cut
// into blocks of neighbours, which can be read together; blocks come in a random order, and the rows of a few blocks that follow
// each other, a window, are mixed. Nothing lists rows or blocks: every question is answered by permutations that are computed.
type Order struct {
	Rows   int64 // of the data set
	Block  int64 // rows of a block, the last one aside
	Blocks int64 // blocks of a window
	Seed   uint64
}

// Validate checks ranges.
func (o Order) Validate() error {
	if o.Rows < 1 || o.Block < 1 || o.Blocks < 1 || o.Block > 1<<40/o.Blocks {
		return exitcode.Errorf(exitcode.Usage, "order of %d rows in windows of %d blocks of %d rows", o.Rows, o.Blocks, o.Block)
	}
	return nil
}

// Span is a range of rows, From included and To excluded.
type Span struct{ From, To int64 }

// Window is a stretch of an epoch whose rows are mixed.
type Window struct {
	Epoch, Number int64
	First         int64  // place of its first row in the epoch
	Rows          int64  // that it holds
	Spans         []Span // the blocks, in the order in which they were drawn
	seed          uint64
}

// blocks is how many there are.
func (o Order) blocks() int64 { return (o.Rows + o.Block - 1) / o.Block }

// Windows is how many windows an epoch has.
func (o Order) Windows() int64 { return (o.blocks() + o.Blocks - 1) / o.Blocks }

// Window is the one with a number, 0 <= number < Windows(), in an epoch, counted from 0.
func (o Order) Window(epoch, number int64) Window {
	seed := mix(o.Seed, uint64(epoch))
	p := permutation{uint64(o.blocks()), seed}
	short := o.blocks()*o.Block - o.Rows // rows that the last block lacks
	w := Window{Epoch: epoch, Number: number, First: number * o.Blocks * o.Block, seed: mix(seed, uint64(number)+1)}
	if at := int64(p.inverse(uint64(o.blocks() - 1))); at < number*o.Blocks {
		w.First -= short
	}
	for i := number * o.Blocks; i < min((number+1)*o.Blocks, o.blocks()); i++ {
		b := int64(p.at(uint64(i)))
		s := Span{b * o.Block, min((b+1)*o.Block, o.Rows)}
		w.Spans = append(w.Spans, s)
		w.Rows += s.To - s.From
	}
	return w
}

// At finds the window of a place in an epoch, 0 <= place < Rows.
func (o Order) At(epoch, place int64) Window {
	n := min(place/(o.Blocks*o.Block), o.Windows()-1)
	w := o.Window(epoch, n)
	for place >= w.First+w.Rows { // behind the short block, windows begin earlier
		n++
		w = o.Window(epoch, n)
	}
	return w
}

// Row is the row at a place of the window, 0 <= place < w.Rows, as a number in the list of its rows: span after span.
func (w Window) Row(place int64) int64 {
	return int64(permutation{uint64(w.Rows), w.seed}.at(uint64(place)))
}

// permutation shuffles 0..n-1 by a Feistel network over the next even power of two, walked until it comes back into the range
// (Black and Rogaway 2002). It takes no memory.
type permutation struct {
	n, seed uint64
}

const rounds = 6

func (p permutation) half() uint { return uint(max(bits.Len64(p.n-1)+1, 2) / 2) }

func (p permutation) at(i uint64) uint64 {
	h := p.half()
	mask := uint64(1)<<h - 1
	for {
		l, r := i>>h, i&mask
		for k := range uint64(rounds) {
			l, r = r, l^mix(p.seed+k, r)&mask
		}
		if i = l<<h | r; i < p.n {
			return i
		}
	}
}

func (p permutation) inverse(i uint64) uint64 {
	h := p.half()
	mask := uint64(1)<<h - 1
	for {
		l, r := i>>h, i&mask
		for k := uint64(rounds); k > 0; k-- {
			l, r = r^mix(p.seed+k-1, l)&mask, l
		}
		if i = l<<h | r; i < p.n {
			return i
		}
	}
}

// mix hashes two numbers into one, with the finisher of splitmix64 (Steele, Lea and Flood 2014).
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 + b + 0x632be59bd9b4e019
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
