package jobs

import (
	"fmt"
	"maps"
	"sync"

	"github.com/ldm-batch/ldm-batch/io/dataset"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/sample"
)

// given is what a row brings beside its image, and what a task makes of it until the result is written.
type given struct {
	images []dataset.Image // of the columns that the task asked for
	values []any           // of further columns

	source     *picture.Image // decoded image: size, alpha, metadata and what of its pixels finishing needs
	reference  *picture.Image // what the result is scored against
	holes      []float32      // H x W, 1 where to fill
	labels     []uint8        // H x W
	tokens     []int          // caption or layout
	scale      int            // of the result against the source, where it enlarges it
	top, left  int            // of the source in the result, when that is larger than it
	outH, outW int            // size of the result, the top left part of what is generated
}

// recipe is what one task of kind Sample does with rows: it turns a row into the model's input and a batch of them into a
// condition.
type recipe interface {
	// wants names the columns that the task reads.
	wants() wanted
	// read sets what compute needs of a row, its size in pixels (a multiple of the model's) included. It is called by several
	// workers, each with a kitchen of its own. Errors make error rows.
	read(k *kitchen, it *item) error
	// request fills in the condition of a batch of one size. It runs where networks run.
	request(r *sample.Request, batch []*item, noise sample.RowNoise) error
}

// outliner is a recipe that says more of its requests than their size, for what they need: of conditions the tokens alone, of
// latents whether there are any.
type outliner interface{ outline(r *sample.Request) }

// framed is a recipe whose results are larger or smaller than its pictures: the size of the result for a picture of h x w.
type framed interface {
	frame(h, w int) (outH, outW int)
}

// tally counts what befell rows, by name; workers share it. Of each name the first row is told, so that a warning comes once.
type tally struct {
	warn func(string) // nil: silent

	mu    sync.Mutex
	named map[string]int64
}

// add counts a row, and warns with a text when it is the first.
func (t *tally) add(name string, it *item, format string, args ...any) {
	if t.count(name) == 1 && t.warn != nil {
		t.warn(fmt.Sprintf("%s: %s; further rows are counted as %s", it.where, fmt.Sprintf(format, args...), name))
	}
}

// count counts a row, and returns how many there are.
func (t *tally) count(name string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.named == nil {
		t.named = map[string]int64{}
	}
	t.named[name]++
	return t.named[name]
}

// counts are those so far.
func (t *tally) counts() map[string]int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := make(map[string]int64, len(t.named))
	maps.Copy(m, t.named)
	return m
}
