package ir

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// call is one run of a reference kernel. Kernels compute in float64 whatever the type of the data and write y completely,
// which is zero at the start; they never write their inputs.
type call struct {
	op     Op
	single bool // the data is float32: inputs hold float32 values and y is rounded to float32 afterwards
	y      []float64
	out    []int
	in     [][]float64
	sh     [][]int // shapes of in
}

type kernel func(c *call) error

// Evaluate computes a program with the reference kernels: plain loops that define what each kind means. feed holds a value,
// in logical row-major order, for every leaf; names that the program does not know are ignored. The result has one array
// per output in the same order. Operations are computed in float64 and, for float32 data, their results rounded to float32.
func Evaluate[T float32 | float64](p *Program, feed map[string][]T) ([][]T, error) {
	_, single := any(T(0)).(float32)
	until := make([]int, len(p.Nodes)) // the last node that reads a value
	for i, n := range p.Nodes {
		until[i] = i
		for _, k := range n.In {
			until[k] = i
		}
	}
	for _, k := range p.Outputs {
		until[k] = len(p.Nodes)
	}
	values := make([][]float64, len(p.Nodes))
	for i, n := range p.Nodes {
		size := volume(n.Shape)
		if n.Leaf != NotLeaf {
			v, ok := feed[n.Name]
			if !ok {
				return nil, fmt.Errorf("evaluate %s: no value for %s %v", p.Name, n.Name, n.Shape)
			}
			if len(v) != size {
				return nil, fmt.Errorf("evaluate %s: %s has %d values, want %d %v", p.Name, n.Name, len(v), size, n.Shape)
			}
			values[i] = widen(v)
			continue
		}
		r, ok := rules[n.Op.Kind]
		if !ok {
			return nil, fmt.Errorf("evaluate %s: %s: unknown kind %q", p.Name, n.Name, n.Op.Kind)
		}
		c := &call{op: n.Op, single: single, y: make([]float64, size), out: n.Shape}
		for _, k := range n.In {
			c.in, c.sh = append(c.in, values[k]), append(c.sh, p.Nodes[k].Shape)
		}
		if err := r.run(c); err != nil {
			return nil, fmt.Errorf("evaluate %s: %s: %w", p.Name, n.Name, err)
		}
		if single {
			for j, v := range c.y {
				c.y[j] = float64(float32(v))
			}
		}
		values[i] = c.y
		for _, k := range n.In {
			if until[k] == i {
				values[k] = nil
			}
		}
	}
	out := make([][]T, len(p.Outputs))
	for i, k := range p.Outputs {
		out[i] = make([]T, len(values[k]))
		for j, v := range values[k] {
			out[i][j] = T(v)
		}
	}
	return out, nil
}

func widen[T float32 | float64](v []T) []float64 {
	if d, ok := any(v).([]float64); ok {
		return d
	}
	d := make([]float64, len(v))
	for i, x := range v {
		d[i] = float64(x)
	}
	return d
}

// parallel runs f(0) ... f(n-1), which must write disjoint memory, on the processors there are.
func parallel(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// dot is the inner product of a and b[:len(a)].
func dot(a, b []float64) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+3 < len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}

// axpy adds a*x to y[:len(x)].
func axpy(y []float64, a float64, x []float64) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += a * v
	}
}

func sum(x []float64) float64 {
	var s float64
	for _, v := range x {
		s += v
	}
	return s
}
