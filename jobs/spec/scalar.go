package spec

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as 512MiB, 8GiB or a plain number.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize reads a size.
func ParseSize(s string) (Size, error) {
	num, mul := strings.TrimSpace(s), int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(num, u.name); ok {
			num, mul = strings.TrimSpace(n), u.bytes
			break
		}
	}
	v, err := strconv.ParseFloat(num, 64)
	if err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) || v*float64(mul) > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is not a size such as 512MiB or 8GiB", s)
	}
	return Size(v * float64(mul)), nil
}

// String writes the largest binary unit that divides the size.
func (s Size) String() string {
	for _, u := range []int{3, 2, 1, 0} {
		if b := units[u].bytes; s != 0 && int64(s)%b == 0 {
			return strconv.FormatInt(int64(s)/b, 10) + units[u].name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Cells is a number of latent cells, or [Auto].
type Cells int

// Auto leaves a number to the program.
const Auto Cells = -1

// ParseCells reads a number, or auto.
func ParseCells(s string) (Cells, error) {
	if s == "auto" {
		return Auto, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 1<<16 {
		return 0, fmt.Errorf("%q is neither auto nor a number of latent cells such as 64", s)
	}
	return Cells(n), nil
}

func (c Cells) String() string {
	if c == Auto {
		return "auto"
	}
	return strconv.Itoa(int(c))
}

// MarshalText implements encoding.TextMarshaler.
func (c Cells) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Budget is how many rows may fail: a count, or a share of all rows.
type Budget struct {
	Count   int     // used when Percent is 0
	Percent float64 // of all rows
}

// ParseBudget reads 12 or 1.5%.
func ParseBudget(s string) (Budget, error) {
	if p, ok := strings.CutSuffix(strings.TrimSpace(s), "%"); ok {
		v, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil || !(v >= 0 && v <= 100) {
			return Budget{}, fmt.Errorf("%q is not a share such as 1%%", s)
		}
		return Budget{Percent: v}, nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < 0 {
		return Budget{}, fmt.Errorf("%q is not a number of rows such as 10, nor a share such as 1%%", s)
	}
	return Budget{Count: n}, nil
}

// Rows is the number of failed rows that the budget allows among total.
func (b Budget) Rows(total int64) int64 {
	if b.Percent > 0 {
		return int64(math.Floor(b.Percent / 100 * float64(total)))
	}
	return int64(b.Count)
}

func (b Budget) String() string {
	if b.Percent > 0 {
		return strconv.FormatFloat(b.Percent, 'g', -1, 64) + "%"
	}
	return strconv.Itoa(b.Count)
}

// MarshalText implements encoding.TextMarshaler.
func (b Budget) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Extent is height and width in pixels; a single number means a square, 0 the size of the picture or of the model.
type Extent struct{ H, W int }

// ParseExtent reads 256, 256x384 (height x width) or [256, 384].
func ParseExtent(s string) (Extent, error) {
	f := strings.FieldsFunc(strings.Trim(s, "[] "), func(r rune) bool { return r == 'x' || r == ',' || r == ' ' })
	var v []int
	for _, p := range f {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 1<<20 {
			return Extent{}, fmt.Errorf("%q is not a size in pixels such as 256 or [256, 384]", s)
		}
		v = append(v, n)
	}
	switch len(v) {
	case 1:
		return Extent{v[0], v[0]}, nil
	case 2:
		return Extent{v[0], v[1]}, nil
	}
	return Extent{}, fmt.Errorf("%q is not a size in pixels such as 256 or [256, 384]", s)
}

// MarshalJSON writes [height, width].
func (e Extent) MarshalJSON() ([]byte, error) { return json.Marshal([2]int{e.H, e.W}) }

func (e Extent) String() string {
	if e.H == e.W {
		return strconv.Itoa(e.H)
	}
	return fmt.Sprintf("[%d, %d]", e.H, e.W)
}

// ParseClasses reads a list of class numbers and ranges such as "0-9,15".
func ParseClasses(s string) ([]int, error) {
	var list []int
	seen := map[int]bool{}
	for _, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		from, to, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(strings.TrimSpace(from))
		b := a
		if err == nil && ranged {
			b, err = strconv.Atoi(strings.TrimSpace(to))
		}
		if err != nil || a < 0 || b < a || b-a >= 1<<20 || len(list)+b-a >= 1<<20 {
			return nil, fmt.Errorf("%q is not a class or a range of classes such as 0-9", part)
		}
		for c := a; c <= b; c++ {
			if seen[c] {
				return nil, fmt.Errorf("class %d is listed twice", c)
			}
			seen[c] = true
			list = append(list, c)
		}
	}
	return list, nil
}

// Margins are pixels added to the four sides of a picture.
type Margins struct{ Top, Right, Bottom, Left int }

// ParseMargins reads "64" for all sides or "0,64,0,64" for top, right, bottom and left.
func ParseMargins(s string) (Margins, error) {
	f := strings.Split(s, ",")
	v := make([]int, len(f))
	for i, p := range f {
		n, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil || n < 0 || n > 1<<16 {
			return Margins{}, fmt.Errorf("%q is not pixels for every side, such as 64, or for top, right, bottom and left, such as 0,64,0,64", s)
		}
		v[i] = n
	}
	switch len(v) {
	case 1:
		return Margins{v[0], v[0], v[0], v[0]}, nil
	case 4:
		return Margins{v[0], v[1], v[2], v[3]}, nil
	}
	return Margins{}, fmt.Errorf("%q has %d numbers, want one or four", s, len(v))
}

// ParseColor reads a colour such as #ffffff.
func ParseColor(s string) (rgb [3]uint8, err error) {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "#"))
	if err != nil || len(b) != 3 || s[0] != '#' {
		return rgb, fmt.Errorf("%q is not a color such as #ffffff", s)
	}
	return [3]uint8(b), nil
}

// ParseInterval reads two fractions such as "0.2,0.8"; an empty text is 0, 0.
func ParseInterval(s string) (from, to float64, err error) {
	if s == "" {
		return 0, 0, nil
	}
	a, b, ok := strings.Cut(s, ",")
	from, err = strconv.ParseFloat(strings.TrimSpace(a), 64)
	if err == nil {
		to, err = strconv.ParseFloat(strings.TrimSpace(b), 64)
	}
	if !ok || err != nil || !(0 <= from && from < to && to <= 1) {
		return 0, 0, fmt.Errorf("%q is not two rising fractions such as 0.2,0.8", s)
	}
	return from, to, nil
}
