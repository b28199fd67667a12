// Package kernel computes the layers of diffusion networks on the CPU.
//
// Concept: a [Pool] is a set of threads bound to one instruction set ([ISA]). Its methods are the kernels: convolution,
// linear layers, attention, normalisation and the cheap rest. Weights are packed once ([PackConv], [PackLinear]) into the
// layout that the instruction set's inner loops want. The C sources are written once with vector extensions and compiled per
// instruction set; [Generic] is plain Go, is always there, and is what a build without cgo uses.
//
// Data flow: activations are float32, NHWC for images and row-major for everything else, and contiguous unless a stride is
// given. An output may be the same slice as the residual of its epilogue, and elementwise kernels may work in place; any other
// overlap is not allowed.
//
// Training: the gradients of the kernels are kernels too, named after them. Those of weights are sums over all rows of a batch; they
// and other long sums are cut at places that shapes alone give. Packed weights are packed again in place when they change.
//
// Determinism: every element of a result is computed by the same sequence of float operations whatever the number of threads,
// the number of samples, and the position of a sample in its batch. Different instruction sets differ in the last bits.
//
// Ownership: the caller owns activations ([Alloc] gives memory outside the Go heap; Go slices work too). Packed weights own
// their memory until Close. Scratch memory belongs to the pool, grows on demand and can be grown ahead with the Reserve
// methods. A pool serialises its kernels; weights may be shared by pools of the same instruction set.
//
// Errors: packing and pool creation return errors. A slice shorter than the shape says, or weights of another instruction set,
// is a bug in the caller and panics like an index out of range.
package kernel
