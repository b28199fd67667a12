// Package tree writes image files into a folder tree that mirrors the names of the input.
//
// Concept: a tree stands below DIR/images of an output folder. Whether a file in it counts is decided by the part that lists
// it with size and sha256, never by its existence; so files may be written again, by any process and in any order, with the
// same bytes.
//
// Data flow: [Names] turns the names of the whole input into names of files that every usual file system can hold, without
// collisions and without regard to order. [Writer.Write] puts one file under its name through package atomicfile and returns
// the [File] that goes into the part. [File.Check] and [File.Read] compare a file with what a part says of it.
//
// Ownership: a Writer may be used by many goroutines. Temporary files lie in a folder of the caller, who sweeps it.
//
// Errors: file errors name the path; a file that is not the listed one is class data; a name that [Names] would not give is
// class internal, so no name from outside can leave the tree.
package tree
