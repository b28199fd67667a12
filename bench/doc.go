// Package bench measures whole networks: `go test -bench . ./bench`, or `make bench`. The comparison with PyTorch is
// compare.py; README.md says how to run it.
//
// Weights are generated, since speed does not depend on them; sizes are those of published models.
package bench
