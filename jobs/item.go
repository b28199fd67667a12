package jobs

import (
	"context"
	"iter"

	"github.com/ldm-batch/ldm-batch/io/part"
)

// item is one row on its way from the source to its part.
type item struct {
	row    part.Row  // grows on the way
	where  string    // file, row group and row, for messages
	raw    []byte    // the encoded source image
	number int64     // of the row in the source
	input  []float32 // what compute reads
	h, w   int       // of input, in pixels; batches hold one size
	out    []float32 // what compute wrote
	given  given     // what the row brings beside its image
	way    way       // how rows of this size are computed
	cost   int64     // bytes counted against limits.memory

	ready chan struct{} // closed when prepare is done
	done  chan struct{} // closed when finish is done
}

// batch is how many rows of this size make a full batch, where n are asked for.
func (it *item) batch(n int) int {
	if it.way.most > 0 {
		return min(n, it.way.most)
	}
	return n
}

// fail turns the item into an error row; the first failure counts.
func (it *item) fail(reason string, err error) {
	if it.row.Status == part.Failed {
		return
	}
	it.row.Status, it.row.Reason = part.Failed, reason
	it.row.Error = it.where + ": " + err.Error()
	it.row.Latent, it.row.Image = nil, nil
	it.row.FileBytes, it.row.FileSHA256 = 0, ""
	it.raw, it.input, it.out, it.given = nil, nil, nil, given{}
}

func (it *item) failed() bool { return it.row.Status == part.Failed }

// source delivers rows by number.
type source interface {
	// rows is the number of rows.
	rows() int64
	// read yields items for rows from (included) to (excluded). An error ends the stream.
	read(ctx context.Context, from, to int64) iter.Seq2[*item, error]
	// identity is what the source's content is known by, for the fingerprint.
	identity() any
}

// task is what happens to a row.
type task interface {
	// schema is the form of the parts.
	schema() part.Schema
	// newWorker returns the functions that one worker calls: prepare before compute and finish after it. Either turns a bad
	// row into a failed item; neither may keep the item.
	newWorker() (prepare, finish func(*item))
	// compute processes items of one size; none of them has failed.
	compute(ctx context.Context, batch []*item) error
	// cost is the number of bytes that an item of a raw size will hold, for the limit on memory in flight.
	cost(it *item) int64
	// stages is the time spent in networks so far, by name.
	stages() map[string]float64
	// counts is what the result says of the rows so far beside their number, by name.
	counts() map[string]int64
}
