package ir

import (
	"fmt"
	"math"
	"slices"
)

const (
	KindGroupMoments   Kind = "group_moments"    // x, window; Ints: groups
	KindGroupNormGiven Kind = "group_norm_given" // x, gamma, beta, moments; Ints: groups
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

func init() {
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
	Given   bool // from inputs "norm.0", "norm.1", ... (N,2*groups), numbered in the order of use
	Collect bool // their moments over the input "window" (N,4) are further outputs of the program, in the same order
}

// WithNorms returns the program with its group normalisations changed, and how many there are.
func (p *Program) WithNorms(n Norms) (*Program, int) {
	q := &Program{Name: p.Name}
	add := func(node Node) int {
		node.ID = len(q.Nodes)
		q.Nodes = append(q.Nodes, node)
		return node.ID
	}
	index := make([]int, len(p.Nodes)) // of the nodes of p in q
	window, count := -1, 0
	var moments []int
	for i, node := range p.Nodes {
		node.In = slices.Clone(node.In)
		for j, k := range node.In {
			node.In[j] = index[k]
		}
		if node.Op.Kind == KindGroupNorm {
			x, op, shape := node.In[0], node.Op, []int{node.Shape[0], 2 * node.Op.Groups()}
			if n.Collect {
				if window < 0 {
					window = add(Node{Name: "window", Shape: []int{node.Shape[0], 4}, Leaf: InputLeaf, In: []int{}})
				}
				moments = append(moments, add(Node{
					Op: Op{Kind: KindGroupMoments, Ints: ints(op.Groups())}, In: []int{x, window}, Shape: shape, Name: fmt.Sprint("moments.", count),
				}))
			}
			if n.Given {
				node.Op.Kind = KindGroupNormGiven
				node.In = append(node.In, add(Node{Name: fmt.Sprint("norm.", count), Shape: shape, Leaf: InputLeaf, In: []int{}}))
			}
			count++
		}
		index[i] = add(node)
	}
	for _, o := range p.Outputs {
		q.Outputs = append(q.Outputs, index[o])
	}
	q.Outputs = append(q.Outputs, moments...)
	return q, count
}
