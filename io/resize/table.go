package resize

// table holds the weights of one axis: output i is the weighted sum of the inputs first[i], first[i]+1, ...
type table[W any] struct {
	first, count []int
	weights      []W // stride per output
	stride       int
	shift        uint // fraction bits of integer weights
}

func newTable[W any](out, stride int) *table[W] {
	return &table[W]{first: make([]int, out), count: make([]int, out), weights: make([]W, out*stride), stride: stride}
}

// at returns the first input and the weights of output i.
func (t *table[W]) at(i int) (int, []W) {
	return t.first[i], t.weights[i*t.stride:][:t.count[i]]
}

// row returns room for all weights of output i.
func (t *table[W]) row(i int) []W { return t.weights[i*t.stride:][:t.stride] }

// axis is the key of a table. The scale matters only where it is not the ratio of the lengths.
type axis struct {
	in, out int
	scale   float64
}

// cache keeps tables by axis. A stream of pictures with ever new sizes must not fill the memory, so it starts over when full.
type cache[T any] map[axis]T

const cacheSize = 64

func (c *cache[T]) get(a axis, build func(axis) T) T {
	if t, ok := (*c)[a]; ok {
		return t
	}
	if *c == nil {
		*c = make(cache[T])
	}
	if len(*c) >= cacheSize {
		clear(*c)
	}
	t := build(a)
	(*c)[a] = t
	return t
}

// float is the sample or weight type of a floating-point pass.
type float interface{ float32 | float64 }

// gather builds one output's weights from taps whose indices may repeat or leave the axis; at maps them into 0..n-1.
func (t *table[W]) gather(i, left, n int, taps []W, at func(int) int, add func(a, b W) W) {
	lo, hi := n, -1
	for j := range taps {
		k := at(left + j)
		lo, hi = min(lo, k), max(hi, k)
	}
	t.first[i], t.count[i] = lo, hi-lo+1
	row := t.row(i)
	for j, w := range taps {
		k := at(left+j) - lo
		row[k] = add(row[k], w)
	}
}

// clamp returns the mapping that repeats the border of an axis of length n.
func clamp(n int) func(int) int {
	return func(i int) int { return min(max(i, 0), n-1) }
}
