package preprocess

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/io/resize"
)

// Degradation names how the reference super-resolution data set makes its low-resolution pictures. pil_* widens the filter
// when shrinking, cv_* does not (but for cv_area).
type Degradation string

// degradations maps the reference's names to resize methods.
var degradations = []struct {
	name   Degradation
	method resize.Method
}{
	{"pil_nearest", "pil-nearest"},
	{"pil_bilinear", "pil-bilinear"},
	{"pil_bicubic", "pil-bicubic"},
	{"pil_box", "pil-box"},
	{"pil_hamming", "pil-hamming"},
	{"pil_lanczos", "pil-lanczos"},
	{"cv_nearest", "cv-nearest"},
	{"cv_bilinear", "cv-linear"},
	{"cv_bicubic", "cv-cubic"},
	{"cv_area", "cv-area"},
	{"cv_lanczos", "cv-lanczos4"},
}

// Degradations returns every name.
func Degradations() []Degradation {
	names := make([]Degradation, len(degradations))
	for i, d := range degradations {
		names[i] = d.name
	}
	return names
}

// Method returns the resize method behind a degradation, or an error that lists the known names.
func (d Degradation) Method() (resize.Method, error) {
	for _, e := range degradations {
		if e.name == d {
			return e.method, nil
		}
	}
	return "", fmt.Errorf("unknown degradation %q, want one of %s", string(d), join(Degradations()))
}
