package jobs

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/ldm-batch/ldm-batch/io/part"
)

// nullTask computes nothing.
type nullTask struct{}

func (nullTask) schema() part.Schema                      { return part.Schema{} }
func (nullTask) newWorker() (prepare, finish func(*item)) { return nil, nil }
func (nullTask) compute(context.Context, []*item) error   { return nil }
func (nullTask) cost(*item) int64                         { return 1 }
func (nullTask) counts() map[string]int64                 { return nil }
func (nullTask) stages() map[string]float64               { return nil }

// TestPressedBatch puts rows and the word that the source waits for memory before compute at the same time. Whichever it
// sees first, the rows have to go on: they hold the memory that the source waits for.
func TestPressedBatch(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			loaded, finish := make(chan *item, 8), make(chan *item, 8)
			gate := newGate(2)
			for range 2 {
				it := &item{ready: make(chan struct{})}
				close(it.ready)
				loaded <- it
			}
			notify(gate.full)
			p := &pipeline{task: nullTask{}, batch: 8}
			go p.compute(ctx, gate, loaded, finish)
			synctest.Wait()
			if len(finish) != 2 {
				t.Fatalf("%d of 2 rows went on", len(finish))
			}
		})
	}
}
