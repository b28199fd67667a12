// Package resize resizes pictures with the exact arithmetic of the libraries that the field's data sets and metrics were made
// with: Pillow, torch, TensorFlow 1, OpenCV and MATLAB.
//
// Concept: "bicubic" means something else in every library (kernel parameter, widening when shrinking, pixel centres, order
// of the two passes, rounding between them), and published numbers depend on it. So a method here is a library plus a filter,
// written like pil-bicubic, and each library has one file that follows that library's arithmetic.
//
// Data flow: a [Resizer] is made for one method by [New]. A call takes a picture with interleaved channels (HWC, row major)
// and writes another one into the caller's buffer. Coefficients are computed once per (input length, output length) and kept;
// scratch memory is kept too, so that a steady stream of equal shapes allocates nothing.
//
// Ownership: sources are only read, destinations are written in full, neither is kept. A Resizer is for one goroutine.
//
// Errors: unknown names list the known ones; shapes that do not fit their buffers and sample types that the library has no
// kernel for are errors. Nothing is clipped, rounded or replaced unless the library does it.
package resize
