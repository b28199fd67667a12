// Package mapped opens a file for random reads, memory-mapped where the system offers it.
//
// Concept: copies go through ReadAt (a file cut short by another process is then an error), zero-copy views go through
// [File.Slice] (there the same accident is a fault of the process, as with every mapping, so views suit files that are
// replaced by rename and never truncated in place).
// Ownership: slices handed out by Slice are read-only and end with [File.Close].
package mapped
