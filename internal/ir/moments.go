package ir

import (
	"fmt"
	"math"
)

const (
	KindGroupMoments   Kind = "group_moments"    // x, window; Ints: groups
	KindGroupNormGiven Kind = "group_norm_given" // x, gamma, beta, moments; Ints: groups
	KindPoolMoments    Kind = "pool_moments"     // moments, weights; Ints: samples of a run
)

// GroupMoments returns the moments (N,2*groups) of groups of channels of x (N,C,H,W): means, then biased variances. They are
// taken over a window (N,4) of each sample: top, left, bottom and right as fractions of height and width, rounded to whole
// pixels. No gradient flows through it.
func GroupMoments(x, window *Tensor, groups int) *Tensor {
	return apply(Op{Kind: KindGroupMoments, Ints: ints(groups)}, x, window)
}

// GroupNormGiven is [GroupNorm] with moments (N,2*groups), as [GroupMoments] makes them, in place of those of x. It makes a
// network of parts of an image see the statistics of the whole. No gradient flows through it.
func GroupNormGiven(x, gamma, beta, moments *Tensor, groups int, eps float64) *Tensor {
	return apply(Op{Kind: KindGroupNormGiven, Ints: ints(groups), Eps: eps}, x, gamma, beta, moments)
}

// PoolMoments pools moments (N,2*groups) over each of N/every runs of samples, which are parts of one image, with weights (N), and
// gives every sample of a run the moments of the run. No gradient flows through it.
func PoolMoments(moments, weights *Tensor, every int) *Tensor {
	return apply(Op{Kind: KindPoolMoments, Ints: ints(every)}, moments, weights)
}

// Every returns the number of samples that are pooled.
func (o Op) Every() int { return o.Ints[0] }

func init() {
	register(KindPoolMoments, rule{
		class: InferenceOnly, min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantRank("moments", in[0], "2 (N,2*groups)", 2); err != nil {
				return nil, err
			}
			if in[0][1]%2 != 0 {
				return nil, fmt.Errorf("%d numbers do not divide into means and variances", in[0][1])
			}
			if op.Every() < 1 || in[0][0]%op.Every() != 0 {
				return nil, fmt.Errorf("%d samples do not divide into runs of %d", in[0][0], op.Every())
			}
			return in[0], wantShape("weights", in[1], in[0][0])
		},
		run: func(c *call) error {
			groups, every := c.out[1]/2, c.op.Every()
			for i := range c.out[0] * groups {
				n, g := i/groups, i%groups
				var total, mean, square float64
				for k := n / every * every; k < (n/every+1)*every; k++ {
					w, m := c.in[1][k], c.in[0][2*k*groups+g]
					total += w
					mean += w * m
					square += w * (c.in[0][(2*k+1)*groups+g] + m*m)
				}
				mean /= total
				c.y[2*n*groups+g], c.y[(2*n+1)*groups+g] = mean, square/total-mean*mean
			}
			return nil
		},
	})
	register(KindGroupMoments, rule{
		class: InferenceOnly, min: 2, max: 2,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantGroups(op, in[0]); err != nil {
				return nil, err
			}
			return []int{in[0][0], 2 * op.Groups()}, wantShape("window", in[1], in[0][0], 4)
		},
		run: groupMoments,
	})
	register(KindGroupNormGiven, rule{
		class: InferenceOnly, min: 4, max: 4,
		shape: func(op Op, in [][]int) ([]int, error) {
			if err := wantGroups(op, in[0]); err != nil {
				return nil, err
			}
			if err := wantShape("moments", in[3], in[0][0], 2*op.Groups()); err != nil {
				return nil, err
			}
			return affine(op, in, in[0][1])
		},
		run: norm,
	})
}

func groupMoments(c *call) error {
	b := blocksOf(c.op, c.sh[0])
	h, w := c.sh[0][2], c.sh[0][3]
	for k := range b.n {
		n, g := k/b.groups, k%b.groups
		at := func(i, size int) int { return int(math.Round(c.in[1][4*n+i] * float64(size))) }
		top, left, bottom, right := at(0, h), at(1, w), at(2, h), at(3, w)
		if top < 0 || left < 0 || bottom > h || right > w || top >= bottom || left >= right {
			return fmt.Errorf("window %v is no part of an image of %dx%d (height x width)", c.in[1][4*n:4*n+4], h, w)
		}
		var x []float64
		for row := range b.channels * h {
			if y := row % h; y >= top && y < bottom {
				x = append(x, c.in[0][k*b.size()+row*w:][left:right]...)
			}
		}
		c.y[2*n*b.groups+g], c.y[(2*n+1)*b.groups+g] = meanVariance(x)
	}
	return nil
}

// Norms says where group normalisations get their statistics. The zero value is the usual: each from its own input.
type Norms struct {
	// Pool, when positive, pools the moments of that many samples, parts of one image, over the input "window" (N,4) of each with
	// the input "weight" (N).
	Pool int
	// Given takes the moments (N,2*groups) from the inputs "norm.0", "norm.1", ..., numbered in the order of use.
	Given bool
	// Collect makes the moments that Pool pooled, or with Given those over the input "window", further outputs.
	Collect bool
}

// WithNorms returns the program with its group normalisations changed, and how many there are.
func (p *Program) WithNorms(n Norms) (*Program, int) {
	q := &Program{Name: p.Name}
	add := func(node Node) int {
		node.ID = len(q.Nodes)
		if node.In == nil {
			node.In = []int{}
		}
		q.Nodes = append(q.Nodes, node)
		return node.ID
	}
	index := make([]int, len(p.Nodes)) // of the nodes of p in q
	window, weight, count := -1, -1, 0
	var collected []int
	for i, node := range p.Nodes {
		in := make([]int, len(node.In))
		for j, k := range node.In {
			in[j] = index[k]
		}
		node.In = in
		if node.Op.Kind == KindGroupNorm && n != (Norms{}) {
			samples, shape := node.Shape[0], []int{node.Shape[0], 2 * node.Op.Groups()}
			var moments int
			if n.Pool > 0 || n.Collect {
				if window < 0 {
					window = add(Node{Name: "window", Shape: []int{samples, 4}, Leaf: InputLeaf})
				}
				moments = add(Node{Name: fmt.Sprint("moments.", count), Op: Op{Kind: KindGroupMoments, Ints: node.Op.Ints}, In: []int{in[0], window}, Shape: shape})
			}
			if n.Pool > 0 {
				if weight < 0 {
					weight = add(Node{Name: "weight", Shape: []int{samples}, Leaf: InputLeaf})
				}
				moments = add(Node{Name: fmt.Sprint("pooled.", count), Op: Op{Kind: KindPoolMoments, Ints: ints(n.Pool)}, In: []int{moments, weight}, Shape: shape})
			}
			if n.Collect {
				collected = append(collected, moments)
			}
			if n.Given {
				moments = add(Node{Name: fmt.Sprint("norm.", count), Shape: shape, Leaf: InputLeaf})
			}
			node.Op.Kind, node.In = KindGroupNormGiven, append(in, moments)
			count++
		}
		index[i] = add(node)
	}
	for _, o := range p.Outputs {
		q.Outputs = append(q.Outputs, index[o])
	}
	q.Outputs = append(q.Outputs, collected...)
	return q, count
}
