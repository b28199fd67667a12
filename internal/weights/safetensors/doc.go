// Package safetensors reads and writes the safetensors format: an 8-byte little-endian header length, a JSON header that
// names each tensor's type, shape and byte range, and the values, little-endian and row-major.
//
// Concept: the format is simple enough to be checked completely, and is. The header is at most 100,000,000 bytes, begins
// with '{', is UTF-8 JSON padded with spaces only, and repeats no key; ranges start at 0, follow each other without hole or
// overlap and end with the file; shape times element size is the length of the range; metadata maps strings to strings.
// Data flow: header -> tensor descriptors over the file, nothing else is read. Writing streams: header first, then values.
// The writer gives the same bytes for the same input; making a file appear whole is the caller's business.
package safetensors
