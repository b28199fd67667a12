package preprocess

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/io/resize"
)

// Config is the preprocess block of a job file.
type Config struct {
	Size   Size          `yaml:"size"`   // output size in pixels; 0 keeps the picture's
	Crop   Crop          `yaml:"crop"`   // how the picture's shape is brought to the output's
	Resize resize.Method `yaml:"resize"` // library and filter, or none
	Flip   bool          `yaml:"flip"`   // mirror left and right with probability one half
}

// Default is the training preprocessing of the reference models.
func Default() Config {
	return Config{Size: Square(256), Crop: Center, Resize: "pil-bicubic"}
}

// Crop names how a picture is brought to the shape of the output.
type Crop string

// The crops.
const (
	Center Crop = "center" // resize until the output fits inside, keeping the shape; cut the middle
	Random Crop = "random" // the same resize; cut at a random place
	LSUN   Crop = "lsun"   // cut the middle square of the shorter side; resize that
	NoCrop Crop = "none"   // resize to the output size, whatever that does to the shape
)

var crops = []Crop{Center, Random, LSUN, NoCrop}

// maxSide bounds the configured size.
const maxSide = 1 << 16

// Validate reports every field that is wrong, with the values it allows.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf("preprocess: "+format, args...)) }
	if s := c.Size; s.H < 0 || s.W < 0 || s.H > maxSide || s.W > maxSide || (s.H == 0) != (s.W == 0) {
		fail("size: %v is not 0, or one or two numbers in 1..%d", s, maxSide)
	}
	if !slices.Contains(crops, c.Crop) {
		fail("crop: unknown %q, want one of %s", c.Crop, join(crops))
	}
	if _, err := resize.ParseMethod(string(c.Resize)); err != nil {
		fail("resize: %w", err)
	}
	switch {
	case c.Size.keep() && (c.Crop == Center || c.Crop == Random):
		fail("crop: %s needs a size; size 0 goes with none or lsun", c.Crop)
	case c.Crop == LSUN && c.Size.H != c.Size.W:
		fail("size: crop lsun makes squares, not %v", c.Size)
	}
	return errors.Join(errs...)
}

func join[T ~string](names []T) string {
	s := make([]string, len(names))
	for i, n := range names {
		s[i] = string(n)
	}
	return strings.Join(s, ", ")
}

// Size is a height and a width in pixels, written as one number or as [height, width].
type Size struct{ H, W int }

// Square returns the size n x n.
func Square(n int) Size { return Size{n, n} }

func (s Size) keep() bool { return s == Size{} }

func (s Size) String() string {
	if s.H == s.W {
		return fmt.Sprint(s.H)
	}
	return fmt.Sprintf("[%d, %d]", s.H, s.W)
}

// UnmarshalYAML reads a number or [height, width].
func (s *Size) UnmarshalYAML(unmarshal func(any) error) error {
	var n int
	if unmarshal(&n) == nil {
		*s = Square(n)
		return nil
	}
	var pair []int
	if err := unmarshal(&pair); err != nil || len(pair) != 2 {
		return errors.New("size: want a number or [height, width]")
	}
	*s = Size{pair[0], pair[1]}
	return nil
}

// MarshalYAML writes what [Size.UnmarshalYAML] reads.
func (s Size) MarshalYAML() (any, error) {
	if s.H == s.W {
		return s.H, nil
	}
	return []int{s.H, s.W}, nil
}
