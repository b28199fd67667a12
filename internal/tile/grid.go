package tile

import (
	"math"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Where the statistics of group normalisations are taken.
const (
	Global = "global" // over the whole image, also the meaning of ""
	Own    = "tile"   // over each tile, in a single pass; seams show
)

// Config says how an image is cut into tiles.
type Config struct {
	Size    int    // side of a tile, latent cells
	Overlap int    // of neighbours, at least, in latent cells
	Norm    string // Global or Own
	// Together is how many tiles of an image are normalised together to find its statistics; 0 means 8. The more there are, the
	// nearer the statistics are to those of the whole, and the more memory they take; all tiles give those of the whole.
	Together int
}

// Validate checks what can be known without a model. Errors are of class usage.
func (c Config) Validate() error {
	switch {
	case c.Size < 1:
		return exitcode.Errorf(exitcode.Usage, "tiles: size %d is not at least 1 latent cell", c.Size)
	case c.Overlap < 0 || 3*c.Overlap > c.Size:
		return exitcode.Errorf(exitcode.Usage, "tiles: overlap %d is not in 0 to %d, a third of the size", c.Overlap, c.Size/3)
	case c.Together < 0:
		return exitcode.Errorf(exitcode.Usage, "tiles: together: %d is negative", c.Together)
	case c.Norm != "" && c.Norm != Global && c.Norm != Own:
		return exitcode.Errorf(exitcode.Usage, "tiles: norm %q is neither %s nor %s", c.Norm, Global, Own)
	}
	return nil
}

// span is a tile along one axis, in cells of the image.
type span struct {
	at          int     // first cell
	from, to    int     // what is its own: these ranges of all tiles are the whole axis
	lead, trail float64 // half the width of the ramps around from and to
}

// spans covers an axis with tiles whose first cells are multiples of a number of cells, evenly spread, so that the last one
// ends with the axis.
func spans(length, size, overlap, multiple int) []span {
	if size >= length {
		return []span{{to: length}}
	}
	step := size - (overlap+multiple-1)/multiple*multiple
	n := 1 + (length-size+step-1)/step
	s := make([]span, n)
	for i := range s {
		s[i] = span{at: i * (length - size) / (n - 1) / multiple * multiple, to: length}
	}
	for i := range n - 1 {
		a, b := &s[i], &s[i+1]
		a.to = (b.at + a.at + size) / 2 / multiple * multiple
		b.from = a.to
		a.trail = min(float64(overlap)/2, float64(a.to-b.at), float64(a.at+size-a.to))
		b.lead = a.trail
	}
	return s
}

// weights is the share of a tile in each position along the axis, for images with scale positions in a cell. The shares of
// neighbours add up to 1.
func (s span) weights(size, scale int) []float32 {
	up := func(x, edge, half float64) float32 { // rises from 0 to 1 around an edge
		switch {
		case x < edge-half:
			return 0
		case x > edge+half:
			return 1
		}
		return float32((x - edge + half) / (2 * half))
	}
	w := make([]float32, size*scale)
	for i := range w {
		x := float64(s.at) + (float64(i)+0.5)/float64(scale)
		w[i] = up(x, float64(s.from), s.lead) * (1 - up(x, float64(s.to), s.trail))
	}
	return w
}

// Grid is the tiles of an image, in rows from the top, all of one size.
type Grid struct {
	H, W         int // cells of the image
	TileH, TileW int // cells of a tile: those of the image where it is smaller
	rows, cols   []span
}

// New lays tiles over an image of h x w cells, both multiples of a number of cells, at which tiles begin too.
func New(c Config, h, w, multiple int) (*Grid, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Size%multiple != 0 || c.Size-(c.Overlap+multiple-1)/multiple*multiple < multiple {
		return nil, exitcode.Errorf(exitcode.Usage, "tiles: size %d with overlap %d: this model needs a multiple of %d, and one more than the overlap", c.Size, c.Overlap, multiple)
	}
	return &Grid{H: h, W: w, TileH: min(c.Size, h), TileW: min(c.Size, w),
		rows: spans(h, c.Size, c.Overlap, multiple), cols: spans(w, c.Size, c.Overlap, multiple)}, nil
}

// Len is the number of tiles.
func (g *Grid) Len() int { return len(g.rows) * len(g.cols) }

func (g *Grid) tile(i int) (row, col span) { return g.rows[i/len(g.cols)], g.cols[i%len(g.cols)] }

// Cut copies tile i of planes H*scale x W*scale, as many as dst has room for.
func (g *Grid) Cut(dst, src []float32, i, scale int) {
	row, col := g.tile(i)
	h, w := g.TileH*scale, g.TileW*scale
	for y := range len(dst) / w {
		from := (y/h*g.H+row.at)*scale + y%h
		copy(dst[y*w:(y+1)*w], src[from*g.W*scale+col.at*scale:])
	}
}

// Add adds the planes of tile i to the planes H*scale x W*scale of the whole, by its share.
func (g *Grid) Add(dst, src []float32, i, scale int) {
	row, col := g.tile(i)
	h, w := g.TileH*scale, g.TileW*scale
	down, across := row.weights(g.TileH, scale), col.weights(g.TileW, scale)
	for y := range len(src) / w {
		share := down[y%h]
		if share == 0 {
			continue
		}
		from := ((y/h*g.H+row.at)*scale+y%h)*g.W*scale + col.at*scale
		out, in := dst[from:from+w], src[y*w:(y+1)*w]
		for x, v := range in {
			out[x] += float32(share * across[x] * v)
		}
	}
}

// own is the part of tile i that is no other's: its number of cells, and where it is, as fractions of the tile.
func (g *Grid) own(i int) (cells float64, window [4]float32) {
	row, col := g.tile(i)
	part := func(v, at, size int) float32 { return float32(float64(v-at) / float64(size)) }
	return float64((row.to - row.from) * (col.to - col.from)), [4]float32{
		part(row.from, row.at, g.TileH), part(col.from, col.at, g.TileW), part(row.to, row.at, g.TileH), part(col.to, col.at, g.TileW),
	}
}

// Borders lists the cells, below 0 and along each axis, at which a tile begins to be its neighbour's.
func (g *Grid) Borders() (rows, cols []int) {
	for _, s := range g.rows[1:] {
		rows = append(rows, s.from)
	}
	for _, s := range g.cols[1:] {
		cols = append(cols, s.from)
	}
	return rows, cols
}

// scattered lists the tiles in an order in which neighbours in the list are far apart in the image, and every stretch of the list
// is spread over it: steps of about the golden section of their number.
func (g *Grid) scattered() []int {
	n := g.Len()
	step := max(int(float64(n)*(math.Sqrt(5)-1)/2), 1)
	for gcd(step, n) != 1 {
		step++
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i * step % n
	}
	return order
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
