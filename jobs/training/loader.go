package training

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/train"
	"github.com/ldm-batch/ldm-batch/io/dataset"
)

// blockRows is the most rows that are read as neighbours; a window mixes many blocks.
const blockRows = 256

// orderOf mixes about shuffle rows at a time. A data set that fits is one block, which is read once.
func orderOf(rows int64, shuffle int, seed uint64) train.Order {
	o := train.Order{Rows: rows, Block: rows, Blocks: 1, Seed: seed}
	if rows > int64(shuffle) {
		o.Block = int64(max(min(blockRows, shuffle/16), 1))
		o.Blocks = max(int64(shuffle)/o.Block, 1)
	}
	return o
}

// loader reads batches in the order of the run, ahead of what trains on them.
type loader struct {
	ds       *dataset.Dataset
	recipe   *recipe
	order    train.Order
	kitchens []*kitchen
	batch    int
	budget   int64 // bad rows of one epoch
	log      *slog.Logger

	at     train.State
	window train.Window
	spans  []train.Span // that rows holds
	rows   []dataset.Row
}

// delivery is a batch and where the order stands after it.
type delivery struct {
	examples []*example
	after    train.State
	err      error
}

func newLoader(ds *dataset.Dataset, r *recipe, o train.Order, batch int, budget int64, log *slog.Logger) (*loader, error) {
	l := &loader{ds: ds, recipe: r, order: o, batch: batch, budget: budget, log: log}
	for range max(2, runtime.GOMAXPROCS(0)) {
		k, err := newKitchen(r)
		if err != nil {
			return nil, err
		}
		l.kitchens = append(l.kitchens, k)
	}
	return l, o.Validate()
}

// start reads from a place on, until the context ends. The channel holds few batches; the last delivery may be an error.
func (l *loader) start(ctx context.Context, from train.State) <-chan delivery {
	l.at = from
	out := make(chan delivery, 2)
	go func() {
		defer close(out)
		for {
			examples, err := l.next(ctx)
			select {
			case out <- delivery{examples, l.at, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// next makes a full batch; rows that cannot be used are passed over.
func (l *loader) next(ctx context.Context) ([]*example, error) {
	var batch []*example
	for len(batch) < l.batch {
		var numbers []int64
		var rows []dataset.Row
		for len(rows) < l.batch-len(batch) {
			if err := l.load(ctx); err != nil {
				return nil, err
			}
			place := l.at.Place - l.window.First
			rows = append(rows, l.rows[l.window.Row(place)])
			numbers = append(numbers, l.at.Epoch*l.order.Rows+l.at.Place)
			if l.at.Place++; l.at.Place == l.order.Rows {
				l.at.Epoch, l.at.Place = l.at.Epoch+1, 0
			}
		}
		made, errs := l.make(rows, numbers)
		for i, e := range made {
			if errs[i] == nil {
				batch = append(batch, e)
				continue
			}
			if err := l.bad(rows[i], errs[i]); err != nil {
				return nil, err
			}
		}
	}
	l.at.Samples += int64(len(batch))
	return batch, nil
}

// bad counts a row that cannot be used. The order comes to it once in every epoch.
func (l *loader) bad(row dataset.Row, err error) error {
	l.at.Bad++
	err = fmt.Errorf("%s: %w", l.ds.Files()[row.File].Where(row), err)
	if l.at.Bad > l.budget*(l.at.Epoch+1) {
		return exitcode.Errorf(exitcode.Data, "input: %d rows cannot be used, more than limits.max_bad_rows; the last is %w", l.at.Bad, err)
	}
	l.log.Warn("row passed over", "err", err.Error())
	return nil
}

// load makes the window of the next row the one that is in memory.
func (l *loader) load(ctx context.Context) error {
	w := &l.window
	if l.rows != nil && w.Epoch == l.at.Epoch && l.at.Place >= w.First && l.at.Place < w.First+w.Rows {
		return nil
	}
	*w = l.order.At(l.at.Epoch, l.at.Place)
	if slices.Equal(w.Spans, l.spans) {
		return nil // the only window
	}
	l.rows, l.spans = l.rows[:0], nil
	for _, s := range w.Spans {
		for row, err := range l.ds.Rows(ctx, s.From, s.To) {
			if err != nil {
				return fmt.Errorf("input: %w", err)
			}
			l.rows = append(l.rows, row)
		}
	}
	l.spans = w.Spans
	return nil
}

// make reads rows with all workers.
func (l *loader) make(rows []dataset.Row, numbers []int64) ([]*example, []error) {
	out, errs := make([]*example, len(rows)), make([]error, len(rows))
	columns := l.ds.Features().Columns
	var wg sync.WaitGroup
	for w, k := range l.kitchens {
		wg.Go(func() {
			for i := w; i < len(rows); i += len(l.kitchens) {
				out[i], errs[i] = k.read(rows[i], columns, numbers[i])
			}
		})
	}
	wg.Wait()
	return out, errs
}

// first makes examples of the first n rows, as they are, for validation.
func (l *loader) first(ctx context.Context, n int64) ([]*example, error) {
	var out []*example
	for row, err := range l.ds.Rows(ctx, 0, min(n, l.ds.NumRows())) {
		if err != nil {
			return nil, fmt.Errorf("validation: %w", err)
		}
		made, errs := l.make([]dataset.Row{row}, []int64{row.Index})
		if errs[0] != nil {
			if err := l.bad(row, errs[0]); err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, made[0])
	}
	return out, nil
}
