// Package npz reads and writes numpy's array files: .npy, one array with a short text header, and .npz, a zip of those. It is
// how the field exchanges samples (arr_0, uint8 NHWC), statistics (mu, sigma) and features.
//
// Concept: a [File] lists its arrays; an [Array] is a header, checked against the bytes that are there before anything is
// allocated, and a stream of values in the file's order. Numbers of every size and byte order are read; arrays of objects are
// pickles, that is programs, and are refused, as are text, records and complex numbers.
//
// Data flow: [Open] or [Read] -> [File.Array] -> [Array.Float64s] and its like for a whole array, row major whatever the order
// in the file, or [Array.Read] for the bytes of large ones, piece by piece. [NewWriter] writes; its bytes depend on the
// arrays alone.
//
// Ownership: what is returned is the caller's. A File is for one goroutine at a time.
//
// Errors: a bad file is an error of class data that names file and array, found at the latest when an array has been read to
// its end, where the checksum is compared. Memory grows with the bytes read, never with what a header claims.
package npz
