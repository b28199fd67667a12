// Package atomicfile puts files on disk so that a name exists only when its content is complete and durable.
//
// Concept: every file is written under a temporary name on the same file system, synced, checked, renamed over its final
// name, and the folder that holds the name is synced. A crash at any point leaves either the old state or the new one,
// plus at most a file in the temporary folder.
//
// Data flow: [Writer.Replace] drives the steps through an [FS]; [OS] is the real one, package faultfs has one that fails,
// crashes or loses power at a chosen call.
//
// Ownership: the temporary folder belongs to the caller, who sweeps it when no other writer can be using it.
//
// Errors: the first error wins and the temporary file is removed; errors are wrapped with the path, the number of bytes
// written, and the size of the write that failed. The operating system's error stays reachable for errors.Is.
package atomicfile
