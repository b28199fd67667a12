package plan

// Place says where a value lives.
type Place uint8

const (
	Arena    Place = iota // in the arena, at Offset
	Param                 // a weight, by Name
	Input                 // handed in by the caller, row-major in the logical shape (NCHW)
	Output                // handed out to the caller, row-major in the logical shape (NCHW)
	Gradient              // the gradient of a parameter, by Name: what is computed is added to it
)

// Value is one tensor of a plan. Shape is logical (NCHW for rank 4); in the arena rank 4 is stored NHWC.
type Value struct {
	ID     int
	Name   string
	Shape  []int
	Place  Place
	Offset int // in floats from the arena's start; arena values only

	// Flat says that a value of rank 4 is row-major in its logical shape: convolution weights and their gradients.
	Flat bool

	// Product, for a parameter that no file holds, says how to compute it from others.
	Product *Product

	// A view shares the memory of another value: token sequences of images, column ranges of merged projections, outputs that
	// overwrite an operand.
	Base      *Value
	ColOffset int // first column within Base's rows
	RowStride int // floats from one row to the next, 0: as Base

	producer *Step
}

// Product is the matrix product of two parameters: A B, or A^T B, where A has the given shape (rows, cols). With a vector B
// it is a vector, to which the vector Plus is added unless it is nil.
type Product struct {
	A, B, Plus *Value
	TransposeA bool
}

// Elems is the number of elements.
func (v *Value) Elems() int {
	n := 1
	for _, d := range v.Shape {
		n *= d
	}
	return n
}

// Cols is the length of a physical row: channels for images, the last axis otherwise.
func (v *Value) Cols() int {
	switch len(v.Shape) {
	case 0:
		return 1
	case 4:
		if !v.Flat {
			return v.Shape[1]
		}
	}
	return v.Shape[len(v.Shape)-1]
}

// Rows is the number of physical rows.
func (v *Value) Rows() int { return v.Elems() / max(v.Cols(), 1) }

// Stride is the distance in floats from one physical row to the next.
func (v *Value) Stride() int {
	switch {
	case v.RowStride != 0:
		return v.RowStride
	case v.Base != nil && v.Base.Cols() == v.Cols():
		return v.Base.Stride()
	}
	return v.Cols()
}

// Root is the value that owns the memory.
func (v *Value) Root() *Value {
	for v.Base != nil {
		v = v.Base
	}
	return v
}

// Start is the offset in floats of the first element within the root's memory.
func (v *Value) Start() int {
	off := 0
	for ; v.Base != nil; v = v.Base {
		off += v.ColOffset
	}
	return off
}

// Plan is a lowered program.
type Plan struct {
	Name       string
	Steps      []*Step
	Inputs     []*Value
	Outputs    []*Value
	Params     []*Value
	Gradients  []*Value // of parameters, added up by steps
	ArenaElems int      // arena size in floats
	NaiveElems int      // what the arena would be without reuse
	FLOP       int64
}

// WeightSource gives the weights by state-dict name, row-major in the checkpoint's shape.
type WeightSource interface {
	// Load writes a tensor as float32 into dst.
	Load(name string, dst []float32) error
	// View returns the tensor without a copy where the storage allows it. The memory is valid as long as the source.
	View(name string) ([]float32, bool)
	// Release says that a tensor will not be read soon. Its memory may be given back; views stay valid.
	Release(name string)
}

// Parameters is a WeightSource of which tensors change between runs and have gradients.
type Parameters interface {
	WeightSource
	// Version grows with every change of a tensor; 0 means that it never changes. A tensor that does has a view, in memory of
	// [Arithmetic.Alloc], which is where the changes are made.
	Version(name string) uint64
	// Gradient returns where the gradient of a tensor is added up, nil when it has none.
	Gradient(name string) []float32
	// StartGradient says that a term is being added to a gradient. It reports whether that is the first one: what the memory holds
	// then means nothing.
	StartGradient(name string) (first bool)
}

// Backend runs plans on one device.
type Backend interface {
	Name() string
	// NewModel starts a set of packed weights that plans of the same model share. With [Parameters], plans see changes of tensors at
	// their next run, and may have gradients.
	NewModel(w WeightSource) Model
	// Peak is the measured rate of multiply-adds in GFLOPS, for estimates.
	Peak() float64
	Arithmetic
	Close()
}

// Arithmetic is what a backend does with the arenas of parameters in training. Results are the same bits for any number of
// threads, and for any division of an arena into calls.
type Arithmetic interface {
	// Alloc gives zeroed memory that kernels can work on. Pages that nobody touches take nothing.
	Alloc(n int) []float32
	// Free gives memory of Alloc back.
	Free(x []float32)
	// SumSquares is the sum of squares, in float64.
	SumSquares(x []float32) float64
	// Scale multiplies in place.
	Scale(f float32, x []float32)
	// Adam makes a step of the optimiser on values w with gradients g, moments m and v, and the running average.
	Adam(c Adam, w, g, m, v, average []float32)
}

// Adam is one step of AdamW (Loshchilov and Hutter 2019) with the arithmetic of PyTorch, fused with a running average:
//
//	w -= Rate*Decay*w
//	m += (1-Beta1)(g-m), v = Beta2*v + (1-Beta2)g*g
//	w -= Rate/(1-Beta1^Step) * m / (sqrt(v)/sqrt(1-Beta2^Step) + Eps)
//	average -= (1-Average)(average-w)
type Adam struct {
	Rate, Beta1, Beta2, Eps float64
	Decay                   float64 // 0 is Adam (Kingma and Ba 2015)
	Step                    int     // 1 for the first update
	Average                 float64 // decay of the running average; 0 leaves it alone
}

// Model holds the packed weights of one network on a device.
type Model interface {
	// Compile packs the weights that the plan needs and have not been packed yet, and allocates the arena.
	Compile(p *Plan) (Executable, error)
	// Bytes is the memory the packed weights take.
	Bytes() int64
	Close()
}

// Executable is a plan ready to run. It is not safe for concurrent use.
type Executable interface {
	// Run reads the inputs and writes the outputs, each row-major in the logical shape, in the order of the plan's ports.
	Run(in, out [][]float32) error
	Close()
}
