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
	tree     bool  // images go to files of their own
	batch    int
	workers  int
	memory   int64 // bytes in flight
	budget   int64 // failed rows allowed
	failed   int64 // failed rows so far, those of earlier runs included
	progress *Progress

	waited  time.Duration // compute waiting for data
	busy    time.Duration // compute working
	written float64       // rows
	beside  stopwatch     // stages that run beside compute
}

// run writes the pending parts. It returns when all are written, or with the first error; whatever is running then stops.
func (p *pipeline) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil) // before Wait: stages stop when the run returns early
	gate := newGate(p.memory)

	// Queues are short: the limit on memory, not their length, decides how far the source runs ahead. The writer's queue is
	// longer, since rows of rare sizes wait for others of theirs.
	depth := 4*p.batch + 2*p.workers
	prepare, finish := make(chan *item, depth), make(chan *item, depth)
	loaded, ordered := make(chan *item, depth), make(chan *item, 16*depth)
	stage := func(name string, closes []chan *item, run func() error) {
		wg.Go(func() {
			defer func() {
				for _, c := range closes {
					close(c)
				}
			}()
			if err := exitcode.Guard(name, run); err != nil {
				cancel(err)
			}
		})
	}
	stage("read", []chan *item{prepare, loaded, ordered}, func() error { return p.read(ctx, gate, prepare, loaded, ordered) })
	for range p.workers {
		before, after := p.task.newWorker()
		stage("prepare", nil, func() error {
			return each(ctx, prepare, p.beside.timed(&p.beside.prepare, before), func(it *item) error { close(it.ready); return nil })
		})
		stage("finish", nil, func() error {
			return each(ctx, finish, p.beside.timed(&p.beside.finish, after), func(it *item) error { defer close(it.done); return p.store(it) })
		})
	}
	stage("compute", []chan *item{finish}, func() error { return p.compute(ctx, gate, loaded, finish) })

	err := exitcode.Guard("write", func() error { return p.write(ctx, gate, ordered) })
	if cause := context.Cause(ctx); cause != nil {
		return cause // the stage that failed first, or the signal, rather than its echo
	}
	return err
}

// each runs a worker over a queue; done is called for every item, whatever happens to it.
func each(ctx context.Context, queue <-chan *item, work func(*item), done func(*item) error) error {
	for {
		select {
		case it, ok := <-queue:
			if !ok {
				return nil
			}
			if work != nil && !it.failed() {
				work(it)
			}
			if err := done(it); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// store writes the image of a row to the image tree, where images are not stored in the parts.
func (p *pipeline) store(it *item) error {
	if !p.tree || it.failed() {
		return nil
	}
	defer p.beside.since(&p.beside.write, time.Now())
	f, err := p.folder.WriteFile(it.row.ImagePath, it.row.Image)
	if err != nil {
		return fmt.Errorf("%s: %w", it.where, err)
	}
	it.row.Image, it.row.ImagePath, it.row.FileBytes, it.row.FileSHA256 = nil, f.Path, f.Bytes, f.SHA256
	return nil
}

// read hands items to the workers and, in order, to compute and to the writer.
func (p *pipeline) read(ctx context.Context, gate *gate, prepare, loaded, ordered chan<- *item) error {
	parts := p.folder.Plan().Parts
	for _, i := range p.pending {
		from := parts[i].FirstRow
		n := int64(0)
		asked := time.Now()
		for it, err := range p.src.read(ctx, from, from+parts[i].Rows) {
			if err != nil {
				return err
			}
			p.beside.since(&p.beside.read, asked)
			n++
			it.ready, it.done = make(chan struct{}), make(chan struct{})
			it.cost = p.task.cost(it)
			if !gate.enter(ctx, it.cost) || !send(ctx, prepare, it) || !send(ctx, loaded, it) {
				return nil
			}
			select {
			case ordered <- it:
			default: // the writer waits for a row that waits for others of its size
				notify(gate.full)
				if !send(ctx, ordered, it) {
					return nil
				}
			}
			asked = time.Now()
		}
		if ctx.Err() == nil && n != parts[i].Rows {
			return exitcode.Errorf(exitcode.Data, "part %d: input gave %d rows, planned were %d", i, n, parts[i].Rows)
		}
	}
	return nil
}

// compute forms batches of rows of one size. A batch goes on incomplete when the source has to wait for what the batch
// itself holds: memory, or a place in the writer's queue. Which rows share a batch changes no result.
func (p *pipeline) compute(ctx context.Context, gate *gate, loaded <-chan *item, finish chan<- *item) error {
	var waiting batches
	run := func(batch []*item) error {
		start := time.Now()
		if err := p.task.compute(ctx, batch); err != nil {
			return err
		}
		p.busy += time.Since(start)
		for _, it := range batch {
			if !send(ctx, finish, it) {
				return nil
			}
		}
		return nil
	}
	pressed := false // the source waits
	for {
		start := time.Now()
		var it *item
		ok := false
		select {
		case it, ok = <-loaded:
		default:
			if pressed { // whatever holds the memory has arrived; were the rest of it to come later, nobody would tell again
				pressed = false
				if b := waiting.oldest(); b != nil {
					if err := run(b); err != nil {
						return err
					}
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
			for b := waiting.oldest(); b != nil && ctx.Err() == nil; b = waiting.oldest() {
				if err := run(b); err != nil {
					return err
				}
			}
			return nil
		}
		if it.failed() {
			if !send(ctx, finish, it) {
				return nil
			}
			continue
		}
		if b := waiting.add(it, p.batch); b != nil {
			if err := run(b); err != nil {
				return err
			}
		}
	}
}

// write fills one part after the other.
func (p *pipeline) write(ctx context.Context, gate *gate, ordered <-chan *item) error {
	plan := p.folder.Plan()
	schema := p.task.schema()
	for _, i := range p.pending {
		entry, err := p.folder.WritePart(i, schema, func(w *part.Writer) error {
			for range plan.Parts[i].Rows {
				it, ok := receive(ctx, ordered)
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
					p.progress.RowFailed(it.row.Error)
					if p.failed > p.budget {
						return exitcode.Errorf(exitcode.Data, "%d rows have failed, more than limits.max_bad_rows allows (%d); the last: %s", p.failed, p.budget, it.row.Error)
					}
				} else if it.row.Status == "" {
					it.row.Status = part.OK
				}
				start := time.Now()
				if err := w.Append(it.row); err != nil {
					return fmt.Errorf("part %d: %s: %w", i, it.where, err)
				}
				p.beside.since(&p.beside.write, start)
				gate.leave(it.cost)
				p.written++
				p.progress.RowDone()
			}
			return nil
		})
		if err != nil {
			return err
		}
		p.progress.PartDone(entry)
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
