// Package ir writes networks once, as expression graphs, and differentiates them.
//
// Concept: a [Graph] is a gorgonia expression graph whose operations are all of one type of ours, so that a network is plain
// data: a [Kind], a few integers and two numbers per operation. Gorgonia supplies the graph, the type check and the reverse
// walk of the symbolic differentiation; none of its built-in operations, constants, machines or solvers is used.
//
// Data flow: constructors ([Conv2D], [Linear], ...) add nodes to a graph; [Grad] adds the gradients of a scalar as further
// nodes of the same kind; [Graph.Program] exports what given outputs need as a [Program], which is free of gorgonia and is
// what executors lower. [Evaluate] computes a program with the slow reference kernels that define every kind.
//
// Shapes are logical and row-major: images (N,C,H,W), tokens (N,T,C). The memory layout is the executor's choice.
//
// Ownership: a Graph owns its tensors and is for one goroutine; a Program is immutable and may be shared. No weight value
// enters a graph: leaves are names and shapes, values are given to the executor.
//
// Errors: constructors panic with a *[BuildError] that names the operation, its tensors, their shapes and the reason;
// [Build] turns that panic into an error. Everything else returns errors.
package ir
