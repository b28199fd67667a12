// Package stats has the statistics of feature sets and the distances between them: mean and covariance, Fréchet distance
// (FID and its relatives) with its standard error and without its bias, kernel distance (KID), inception score, precision and
// recall, density and coverage, and the sliced distance (MIND).
//
// Concept: features are the rows of a [Features] matrix. [Moments] is what is kept of a set of any size; it takes rows in
// any order, in any batches, on any number of shards, and gives the same bits, because its sums are exact integers. Distances
// take the normal distribution of a set in factored form ([Normal]) or the features themselves.
//
// Exact sums: a feature is rounded once, to a multiple of 2^-60 (exact for every float32 of at least 2^-37), and must be below
// 2^16. It is split into four signed digits of 22 bits. Products of digits are integers of at most 2^42, so that sums over a
// block of rows are exact in double precision, whatever the order, and run at the speed of a matrix product; digits that a
// block does not have cost nothing. Blocks are added to integers of 192 bits. The state of 2048 features is 50 MB for any
// number of rows, and the covariance comes from n Sxy - Sx Sy in integers, without cancellation.
//
// The Fréchet distance needs Tr sqrt(S1 S2), which is the nuclear norm (the sum of the singular values) of F1' F2 for any
// factors S = F F'. This form has no square root of a rounding error: it is exact to about 1e-14 of the traces where the usual
// forms (matrix square root, eigenvalues of S1 S2) lose 1e-7 to 1e-5 as soon as there are fewer rows than features. With
// features at hand, factors are made of them directly (centered features, or their triangular factor), which also keeps what
// a covariance in double precision has lost. It is never negative and never complex.
//
// Data flow: features in, numbers out; nothing is read or written. Ownership: arguments are only read, and kept only where
// said. Work is spread over GOMAXPROCS; results do not depend on that.
//
// Errors: features that are not finite or outside the range name row and feature; sets that are too small say how many rows
// are needed. Nothing is replaced or dropped.
package stats
