package extract

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/eval"
)

// Network makes features of prepared pictures.
type Network interface {
	// Identity says what scores must share to be compared.
	Identity() Identity
	// Taps are the features that it hands out, in the order of the lists of Features.
	Taps() []Tap
	// NewPreparer returns what makes inputs of pictures, for one goroutine.
	NewPreparer() (Preparer, error)
	// Inputs is the number of values of one input.
	Inputs() int
	// Features runs n inputs, one after the other, and returns n rows for each tap, row major.
	Features(inputs []float32, n int) ([][]float32, error)
	Close()
}

// Identity names a network and its weights.
type Identity struct {
	Name     string // "inception-v3-fid"
	SHA256   string // of the file of weights, hex
	Path     string // of that file
	Known    string // which published file it is; "" if none that is known
	Words    string // for people
	Resize   string // method by which pictures get to the input
	Protocol string // of the evaluation tool that is followed; "" for a network of this program's own
	FID      bool   // distances may be called FID
}

// Label is what a distance of the network's features is called, given its name for FID: "FID" or "FD(NAME)".
func (d Identity) Label(name string) string {
	if d.FID {
		return name
	}
	return fmt.Sprintf("FD(%s)", d.Name)
}

// Tap is one kind of features.
type Tap struct {
	Name string
	D    int // features of a row
}

// Preparer makes the input of one picture. It keeps scratch memory.
type Preparer interface {
	Prepare(dst []float32, p eval.Picture) error
}
