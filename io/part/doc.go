// Package part writes and reads the Arrow IPC files ("parts") that hold the results of a job.
//
// Concept: a part is one Arrow IPC file with one row per input row, in input order. A row that was skipped or failed stays
// in its place with its status and error and a null payload. The payload is a latent (float32 or float16, C x H x W in row
// major order), an encoded image in the struct<bytes, path> layout of Hugging Face datasets, or both; in place of the image
// there may be path, size and sha256 of a file beside the part. The bytes of a part
// depend on the schema and the rows alone: no clock, host, version or thread count goes in, and record batches are cut by
// row count and size only. The layout is described byte by byte in docs/format.md.
//
// Data flow: [NewWriter] takes a [Schema], [Writer.Append] takes rows, [Writer.Finish] writes the footer and returns the
// [Stats], with size and sha256 counted while writing. [Open] checks size and sha256 before it parses anything, since the
// Arrow library is not safe on damaged files (a flipped bit can ask for terabytes); [OpenTrusted] does not.
//
// Ownership: Append copies what it keeps. Rows from [Reader.Rows] share memory with their record batch and must not be
// modified; they stay valid.
//
// Errors: a writer keeps its first error and returns it from then on, Finish included; nothing that a failed writer left
// behind may be published. Bad rows are class data, non-finite latents class internal, see internal/exitcode. No panic of
// the Arrow library leaves the package.
package part
