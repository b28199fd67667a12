// Package plan lowers a model graph to a static list of steps.
//
// Concept: an [ir.Program] says what is computed, in the logical shapes of the paper's code (images NCHW, tokens N,T,C).
// A [Plan] says how: fused steps in order, every value with its place in memory. Nothing in it is an address or a CPU
// instruction; operations, layouts and offsets are described, and a [Backend] turns the description into something that runs.
//
// Data flow: [Lower] imports the program and applies the passes listed in passes.go, in that order. Physical layout is
// NHWC for images and row-major for everything else, so that images and token sequences share memory without copies.
// Values live in one arena whose offsets come from their lifetimes; parameters are referred to by name.
//
// Training plans add the gradients among their outputs to those that [Parameters] keep, and may compute values of the forward pass
// again rather than keep them until the backward pass reads them.
//
// Ownership: a Plan is immutable once lowered and may be compiled by several backends at the same time.
//
// Errors: a program with an operation that no pass lowers is an error naming the operation; shapes were checked when the
// graph was built, so a mismatch here is a bug and reported as one.
package plan
