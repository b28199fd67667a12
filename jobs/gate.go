package jobs

import (
	"context"
	"sync"
)

// gate bounds the bytes in flight. An item larger than the limit passes alone.
type gate struct {
	mu    sync.Mutex
	limit int64
	used  int64
	freed chan struct{}
	full  chan struct{} // told when enter has to wait, so that an incomplete batch does not wait for it in turn
}

func newGate(limit int64) *gate {
	return &gate{limit: limit, freed: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// enter waits until n bytes fit; it is false when the context ends first. Only one goroutine may enter.
func (g *gate) enter(ctx context.Context, n int64) bool {
	for {
		g.mu.Lock()
		if g.used == 0 || g.used+n <= g.limit {
			g.used += n
			g.mu.Unlock()
			return true
		}
		g.mu.Unlock()
		notify(g.full)
		select {
		case <-g.freed:
		case <-ctx.Done():
			return false
		}
	}
}

// leave gives n bytes back.
func (g *gate) leave(n int64) {
	g.mu.Lock()
	g.used -= n
	g.mu.Unlock()
	notify(g.freed)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
