package tile

import (
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// together is [Config.Together] where it is 0: most of the difference is gone then.
const together = 8

// Network is a network that runs over an image tile by tile.
type Network struct {
	session *engine.Session
	key     string
	build   func(n int) (*nn.Graph, error)
	grid    *Grid
	n       int // images
	pooled  int // tiles of an image that are normalised together to find its statistics; 0: every tile by itself
	inputs  map[string][]float32
}

// NewNetwork makes a network for n images. build gives its graph for that many tiles, and key names it in the session.
func NewNetwork(s *engine.Session, key string, g *Grid, c Config, n int, build func(n int) (*nn.Graph, error)) *Network {
	t := &Network{session: s, key: key, build: build, grid: g, n: n, inputs: map[string][]float32{}}
	if c.Norm != Own {
		most := c.Together
		if most == 0 {
			most = together
		}
		batches := (g.Len() + most - 1) / most
		t.pooled = (g.Len() + batches - 1) / batches
	}
	return t
}

// Image is N images of C channels and H*Scale x W*Scale pixels, NCHW.
type Image struct {
	Data  []float32
	Scale int // pixels along a cell of the grid
}

// Run computes out, N x C x H*s x W*s with the network's scale s. The network's input name is cut from the images, whose
// channels are joined; the other inputs are the same for every tile. Neither is kept.
func (t *Network) Run(in map[string][]float32, name string, images []Image, out []float32) error {
	var whole [][]float32
	if t.pooled > 0 {
		var err error
		if whole, err = t.statistics(in, name, images); err != nil {
			return err
		}
	}
	clear(out)
	for i := range t.grid.Len() {
		net, err := t.network(t.n, nn.Norms{Given: t.pooled > 0})
		if err != nil {
			return err
		}
		t.fill(in, name, images, []int{i})
		for k, m := range whole {
			t.inputs[fmt.Sprint("norm.", k)] = m
		}
		y, err := net.Run(t.inputs)
		if err != nil {
			return fmt.Errorf("tile %d of %d: %w", i+1, t.grid.Len(), err)
		}
		t.grid.Add(out, y[0], i, net.Shape(0)[2]/t.grid.TileH)
	}
	return nil
}

// Needs is what Run takes beside weights, images and result.
func (t *Network) Needs() (engine.Needs, error) {
	tiles := t.grid.Len()
	sum, err := t.needs(t.n, tiles, nn.Norms{Given: t.pooled > 0})
	if err != nil || t.pooled == 0 {
		return sum, err
	}
	batches := (tiles + t.pooled - 1) / t.pooled
	m, err := t.needs(t.n*t.pooled, batches, nn.Norms{Pool: t.pooled, Collect: true})
	return sum.Beside(m), err
}

// needs is what runs of one form of the network take.
func (t *Network) needs(n, runs int, norms nn.Norms) (engine.Needs, error) {
	g, err := t.build(n)
	if err != nil {
		return engine.Needs{}, err
	}
	m, err := engine.NeedsOf(g.WithNorms(norms))
	return m.Times(runs), err
}

// statistics is the moments of every norm over the whole images. Tiles of all parts of an image are normalised together, a batch
// of them at a time, and the moments of the batches are pooled: exact when one batch holds all tiles, otherwise as near as the
// batches are like the whole.
func (t *Network) statistics(in map[string][]float32, name string, images []Image) ([][]float32, error) {
	var m moments
	order := t.grid.scattered()
	for len(order) > 0 {
		// The batches are of one size: the last is filled up with tiles that do not count.
		batch := make([]int, t.pooled)
		count := copy(batch, order)
		order = order[count:]
		net, err := t.network(t.n*t.pooled, nn.Norms{Pool: t.pooled, Collect: true})
		if err != nil {
			return nil, err
		}
		t.fill(in, name, images, batch)
		window, weight, cells := t.inputs["window"][:0], t.inputs["weight"][:0], 0.0
		for range t.n {
			cells = 0 // the same for every image
			for j, i := range batch {
				own, w := t.grid.own(i)
				if j >= count {
					own = 0
				}
				window, weight, cells = append(window, w[:]...), append(weight, float32(own)), cells+own
			}
		}
		t.inputs["window"], t.inputs["weight"] = window, weight
		y, err := net.Run(t.inputs)
		if err != nil {
			return nil, fmt.Errorf("statistics of tiles %d: %w", batch[:count], err)
		}
		m.add(t.n, t.pooled, cells, y[1:])
	}
	return m.whole(t.n), nil
}

// network is asked for again every time: a session closes networks that were not used for long.
func (t *Network) network(n int, norms nn.Norms) (*engine.Network, error) {
	return t.session.Network(fmt.Sprintf("%s %d %+v", t.key, n, norms), func() (*nn.Graph, error) {
		g, err := t.build(n)
		if err != nil {
			return nil, err
		}
		return g.WithNorms(norms), nil
	})
}

// fill makes the inputs of some tiles of every image: their part of the images, channels joined, under the name, and what is the
// same for every tile of an image.
func (t *Network) fill(in map[string][]float32, name string, images []Image, tiles []int) {
	cells, tile := t.grid.H*t.grid.W, t.grid.TileH*t.grid.TileW
	x := t.inputs[name][:0]
	for n := range t.n {
		for _, i := range tiles {
			for _, m := range images {
				whole := len(m.Data) / t.n
				from, to := len(x), len(x)+whole/cells*tile
				x = slices.Grow(x, to-from)[:to]
				t.grid.Cut(x[from:], m.Data[n*whole:(n+1)*whole], i, m.Scale)
			}
		}
	}
	t.inputs[name] = x
	for key, v := range in {
		rows := t.inputs[key][:0]
		for n := range t.n {
			for range tiles {
				rows = append(rows, v[n*len(v)/t.n:(n+1)*len(v)/t.n]...)
			}
		}
		t.inputs[key] = rows
	}
}
