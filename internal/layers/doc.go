// Package layers holds the rules that no compiler checks: which package may import which, where each library is used, and
// what the files of the repository may not say. It has no code but its tests; the table of allowed imports is at the top of
// layers_test.go.
package layers
