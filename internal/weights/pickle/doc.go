// Package pickle reads the subset of Python's pickle language (protocols 2 to 4) that tensor checkpoints are written in.
//
// Concept: a pickle is a program for a stack machine, and a hostile one is a program that calls what it likes. Here nothing
// is ever imported or called: a global is a name. The few names on the caller's allow-list ([Options.Call]) are given a Go
// function; every other global is an opaque [Global], and calling, instantiating or filling it gives an opaque [Object].
// Opcodes outside the subset (text opcodes, INST, OBJ, extension registry) are refused.
// Limits are checked before anything is allocated: declared lengths against the bytes that are left, every value against
// a memory budget, containers against a depth. Containers can still be shared and, through the memo, contain themselves:
// whoever walks a value must bound depth and number of visits.
//
// Values: nil, bool, int64, *big.Int, float64, string, [Bytes], *[Tuple], *[List], *[Dict], *[Set], *[Global], *[Object],
// and whatever the caller's functions return.
package pickle
