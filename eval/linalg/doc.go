// Package linalg has the dense double-precision algebra that distances between feature sets need: products, factors of
// covariances, singular values, and the polar factor.
//
// Concept: all of it rests on one blocked matrix product, in C where cgo and fused multiply-add are there and in plain Go
// otherwise, with the same sequence of fused operations for every element, so that both give the same product bit for bit.
// Singular values are found in two stages (dense to band to bidiagonal, Großer and Lang 1999), since the usual one-stage
// reduction spends half of its time on matrix-vector products that wait for memory.
//
// Data flow: a [Matrix] is row major with a stride; views share memory. Functions write into their destination or, where
// they say so, into their argument.
//
// Ownership: nothing is kept after a call. Functions may run on different goroutines as long as no memory is written by two.
//
// Errors: shapes that do not fit are a programming error and panic, as an index out of range does; what depends on values
// (a singular matrix, an iteration without end) is an error.
package linalg
