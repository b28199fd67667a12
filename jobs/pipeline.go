package jobs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// pipeline runs the stages of a job over the parts that are still to do.
type pipeline struct {
	src      source
	task     task
	folder   *commit.Folder
	pending  []int // parts to write, in order
	batch    int
	workers  int
	memory   int64 // bytes in flight
	budget   int64 // failed rows allowed
	failed   int64 // failed rows so far, those of earlier runs included
	progress *Progress

	waited  time.Duration // compute waiting for data
	busy    time.Duration // compute working
	written float64       // rows
}

// run writes the pending parts. It returns when all are written, or with the first error; whatever is running then stops.
func (p *pipeline) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil) // before Wait: stages stop when the run returns early
	gate := newGate(p.memory)

	// Queues are short: the limit on memory, not their length, decides how far the source runs ahead.
	depth := 4*p.batch + 2*p.workers
	prepare, finish := make(chan *item, depth), make(chan *item, depth)
	loaded, computed := make(chan *item, depth), make(chan *item, depth)
	stage := func(name string, closes []chan *item, run func() error) {
		wg.Go(func() {
			defer func() {
				for _, c := range closes {
					close(c)
				}
			}()
			if err := guard(name, run); err != nil {
				cancel(err)
			}
		})
	}
	stage("read", []chan *item{prepare, loaded}, func() error { return p.read(ctx, gate, prepare, loaded) })
	for range p.workers {
		before, after := p.task.newWorker()
		stage("prepare", nil, func() error { return each(ctx, prepare, before, func(it *item) { close(it.ready) }) })
		stage("finish", nil, func() error { return each(ctx, finish, after, func(it *item) { close(it.done) }) })
	}
	stage("compute", []chan *item{finish, computed}, func() error { return p.compute(ctx, gate, loaded, finish, computed) })

	err := guard("write", func() error { return p.write(ctx, gate, computed) })
	if cause := context.Cause(ctx); cause != nil {
		return cause // the stage that failed first, or the signal, rather than its echo
	}
	return err
}

// guard turns a panic of a stage into an error.
func guard(name string, run func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = exitcode.Errorf(exitcode.Internal, "%s: panic: %v", name, r)
		}
	}()
	return run()
}

// each runs a worker over a queue; done is called for every item, whatever happens to it.
func each(ctx context.Context, queue <-chan *item, work, done func(*item)) error {
	for {
		select {
		case it, ok := <-queue:
			if !ok {
				return nil
			}
			if work != nil && !it.failed() {
				work(it)
			}
			done(it)
		case <-ctx.Done():
			return nil
		}
	}
}

// read hands items to the workers and, in order, to compute.
func (p *pipeline) read(ctx context.Context, gate *gate, prepare, loaded chan<- *item) error {
	parts := p.folder.Plan().Parts
	for _, i := range p.pending {
		from := parts[i].FirstRow
		n := int64(0)
		for it, err := range p.src.read(ctx, from, from+parts[i].Rows) {
			if err != nil {
				return err
			}
			n++
			it.ready, it.done = make(chan struct{}), make(chan struct{})
			it.cost = p.task.cost(it)
			if !gate.enter(ctx, it.cost) || !send(ctx, prepare, it) || !send(ctx, loaded, it) {
				return nil
			}
		}
		if ctx.Err() == nil && n != parts[i].Rows {
			return exitcode.Errorf(exitcode.Data, "part %d: input gave %d rows, planned were %d", i, n, parts[i].Rows)
		}
	}
	return nil
}

// compute forms batches of one size from consecutive rows and keeps the order. A batch goes on incomplete when the source
// has to wait for memory that the batch itself holds.
func (p *pipeline) compute(ctx context.Context, gate *gate, loaded <-chan *item, finish, computed chan<- *item) error {
	var batch, queue []*item // queue holds the batch's rows and the failed ones between them
	flush := func() error {
		if len(batch) > 0 {
			start := time.Now()
			if err := p.task.compute(ctx, batch); err != nil {
				return err
			}
			p.busy += time.Since(start)
		}
		for _, it := range queue {
			if !send(ctx, finish, it) || !send(ctx, computed, it) {
				return nil
			}
		}
		batch, queue = batch[:0], queue[:0]
		return nil
	}
	pressed := false // the source waits for memory
	for {
		start := time.Now()
		var it *item
		ok := false
		select {
		case it, ok = <-loaded:
		default:
			if pressed { // whatever holds the memory has arrived; were the rest of it to come later, nobody would tell again
				pressed = false
				if err := flush(); err != nil {
					return err
				}
				continue
			}
			select {
			case it, ok = <-loaded:
			case <-gate.full:
				pressed = true
				continue
			case <-ctx.Done():
			}
		}
		if ok {
			select {
			case <-it.ready:
			case <-ctx.Done():
				ok = false
			}
		}
		p.waited += time.Since(start)
		if !ok {
			if ctx.Err() != nil {
				return nil
			}
			return flush()
		}
		if !it.failed() && len(batch) > 0 && (it.h != batch[0].h || it.w != batch[0].w) {
			if err := flush(); err != nil {
				return err
			}
		}
		queue = append(queue, it)
		if !it.failed() {
			batch = append(batch, it)
		}
		if len(batch) == p.batch || len(batch) == 0 && len(queue) >= p.batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
}

// write fills one part after the other.
func (p *pipeline) write(ctx context.Context, gate *gate, computed <-chan *item) error {
	plan := p.folder.Plan()
	schema := p.task.schema()
	for _, i := range p.pending {
		entry, err := p.folder.WritePart(i, schema, func(w *part.Writer) error {
			for range plan.Parts[i].Rows {
				it, ok := receive(ctx, computed)
				if !ok {
					return stopped(ctx, i)
				}
				select {
				case <-it.done:
				case <-ctx.Done():
					return stopped(ctx, i)
				}
				if it.failed() {
					p.failed++
					p.progress.rowFailed(it.row.Error)
					if p.failed > p.budget {
						return exitcode.Errorf(exitcode.Data, "%d rows have failed, more than limits.max_bad_rows allows (%d); the last: %s", p.failed, p.budget, it.row.Error)
					}
				} else if it.row.Status == "" {
					it.row.Status = part.OK
				}
				if err := w.Append(it.row); err != nil {
					return fmt.Errorf("part %d: %s: %w", i, it.where, err)
				}
				gate.leave(it.cost)
				p.written++
				p.progress.rowDone()
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.progress.partDone(entry)
	}
	return nil
}

func stopped(ctx context.Context, part int) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return exitcode.Errorf(exitcode.Internal, "part %d: rows ended early", part)
}

func send(ctx context.Context, c chan<- *item, it *item) bool {
	select {
	case c <- it:
		return true
	case <-ctx.Done():
		return false
	}
}

func receive(ctx context.Context, c <-chan *item) (*item, bool) {
	select {
	case it, ok := <-c:
		return it, ok
	case <-ctx.Done():
		return nil, false
	}
}
