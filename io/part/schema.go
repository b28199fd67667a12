package part

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Format is the value of the schema metadata key ldm.format.
const Format = 1

// DType is the stored element type of a latent.
type DType string

// The element types. DuckDB refuses a table with a float16 column, so float32 is the default.
const (
	Float32 DType = "float32"
	Float16 DType = "float16"
)

// Layout is how a latent is stored.
type Layout string

// The layouts.
const (
	// List nests fixed-size lists, [C] of [H] of [W]: Hugging Face datasets, polars, DuckDB and pyarrow show the shape.
	List Layout = "list"
	// Tensor is the extension type arrow.fixed_shape_tensor over one flat fixed-size list: pyarrow reads it without a
	// copy; Hugging Face datasets cannot read a file that has one.
	Tensor Layout = "tensor"
	// Ragged is a list of variable length in row-major order beside the column latent_shape, for latents of many sizes.
	Ragged Layout = "ragged"
)

// Compression is the compression of record batch buffers.
type Compression string

// The compressions. Uncompressed files can be memory-mapped, and latents hardly compress.
const (
	NoCompression Compression = "none"
	Zstd          Compression = "zstd"
	LZ4           Compression = "lz4"
)

// Latent describes the latent column. C, H and W are elements; under [Ragged] H and W are 0.
type Latent struct {
	C, H, W int
	DType   DType  // "" means Float32
	Layout  Layout // "" means List
}

// Type is the type of an extra column.
type Type string

// The types of extra columns, with the Go type of their values in [Row.Extra].
const (
	String  Type = "string"  // string
	Int64   Type = "int64"   // int64
	Float64 Type = "float64" // float64
	Bool    Type = "bool"    // bool
	Binary  Type = "binary"  // []byte
	Vector  Type = "vector"  // []float32 of Column.Len finite values
)

// Column is an extra column passed through from the input.
type Column struct {
	Name string
	Type Type
	// Names are class names of an Int64 column; readers that know Hugging Face features show them.
	Names []string
	Len   int // of a Vector
}

// Meta goes into the schema metadata. Zero values are left out, Part except, which is written when Parts is set.
type Meta struct {
	JobFingerprint string  // ldm.job_fingerprint
	ModelSHA256    string  // ldm.model_sha256, hex
	ScaleFactor    float64 // ldm.scale_factor: stored latent = encoder output times this
	Part, Parts    int     // ldm.part, ldm.parts
}

// Schema describes a part. Latent, Image, Files or an extra column of type Vector are needed; Image and Files exclude each
// other. An OK row has all of them, vectors too.
type Schema struct {
	Latent     *Latent
	Image      bool
	Files      bool     // columns path, file_bytes, file_sha256 and reason: the images are files beside the part
	Label      bool     // column label
	LabelNames []string // class names of label; implies Label
	Sampling   bool     // columns seed, steps, guidance
	Extra      []Column
	Meta       Meta
	// Compression is not known of a schema that was read back from a file.
	Compression Compression // "" means NoCompression
}

// Status is the outcome of a row.
type Status string

// The outcomes.
const (
	OK      Status = "ok"
	Skipped Status = "skipped"
	Failed  Status = "failed"
)

// Row is one row. Payload fields are set if and only if Status is [OK].
type Row struct {
	ID       string
	Label    int64 // -1 is "no label" by the convention of Hugging Face datasets
	HasLabel bool  // false stores null
	// Latent is C x H x W in row-major order, finite. Under [Ragged] LatentShape gives C, H, W.
	Latent      []float32
	LatentShape [3]int
	// Image is an encoded image file; ImagePath is a name for it, never opened by anyone.
	Image     []byte
	ImagePath string
	// With Schema.Files ImagePath is the path of the image's file, relative to the output folder and with slashes, and these
	// are its size and the hex digits of its hash.
	FileBytes  int64
	FileSHA256 string
	// Width and Height are the size in pixels of the image: of the source image beside a latent. 0 stores null.
	Width, Height int
	Seed          uint64
	Steps         int
	Guidance      float32
	SourceSHA256  string // hex of the source image bytes; "" stores null
	Extra         []any  // one value per column of Schema.Extra, nil for null
	Status        Status
	Error         string // what went wrong, "" if and only if Status is OK
	// Reason is a short class of Error for counting, such as "truncated". It is stored in the row with Schema.Files only.
	// "" counts under Error up to its first colon.
	Reason string
}

// The names of fixed columns.
const (
	colID          = "id"
	colLabel       = "label"
	colLatent      = "latent"
	colLatentShape = "latent_shape"
	colImage       = "image"
	colPath        = "path"
	colFileBytes   = "file_bytes"
	colFileSHA256  = "file_sha256"
	colReason      = "reason"
	colWidth       = "width"
	colHeight      = "height"
	colSeed        = "seed"
	colSteps       = "steps"
	colGuidance    = "guidance"
	colSource      = "source_sha256"
	colStatus      = "status"
	colError       = "error"
)

var reserved = map[string]bool{
	colID: true, colLabel: true, colLatent: true, colLatentShape: true, colImage: true, colWidth: true, colHeight: true,
	colSeed: true, colSteps: true, colGuidance: true, colSource: true, colStatus: true, colError: true,
}

// fileColumns are reserved where they exist, with Schema.Files; else they are names like others.
var fileColumns = map[string]bool{colPath: true, colFileBytes: true, colFileSHA256: true, colReason: true}

// Fixed reports whether a name cannot be an extra column because it is a column of the format.
func (s Schema) Fixed(name string) bool { return reserved[name] || s.Files && fileColumns[name] }

// maxElements bounds one latent, so that a row stays below the 2 GiB that list offsets can address.
const maxElements = 1 << 28

func (s Schema) withDefaults() Schema {
	if s.Latent != nil {
		l := *s.Latent
		if l.DType == "" {
			l.DType = Float32
		}
		if l.Layout == "" {
			l.Layout = List
		}
		s.Latent = &l
	}
	if len(s.LabelNames) > 0 {
		s.Label = true
	}
	if s.Compression == "" {
		s.Compression = NoCompression
	}
	return s
}

// Validate reports the first thing wrong with s, as class usage.
func (s Schema) Validate() error {
	return exitcode.With(exitcode.Usage, s.withDefaults().validate())
}

func (s Schema) validate() error {
	if s.Latent == nil && !s.Image && !s.Files && !slices.ContainsFunc(s.Extra, func(c Column) bool { return c.Type == Vector }) {
		return fmt.Errorf("part schema: neither latents nor images nor vectors")
	}
	if s.Image && s.Files {
		return fmt.Errorf("part schema: images both in the part and in files")
	}
	if l := s.Latent; l != nil {
		if err := l.validate(); err != nil {
			return err
		}
	}
	switch s.Compression {
	case NoCompression, Zstd, LZ4:
	default:
		return fmt.Errorf("part schema: compression %q is not none, zstd or lz4", s.Compression)
	}
	if f := s.Meta.ScaleFactor; math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("part schema: scale factor %v", f)
	}
	seen := map[string]bool{}
	for _, c := range s.Extra {
		switch {
		case c.Name == "" || !utf8.ValidString(c.Name) || strings.ContainsRune(c.Name, 0):
			return fmt.Errorf("part schema: column name %q", c.Name)
		case s.Fixed(c.Name):
			return fmt.Errorf("part schema: column name %q is taken by the format", c.Name)
		case seen[c.Name]:
			return fmt.Errorf("part schema: column %q is listed twice", c.Name)
		case len(c.Names) > 0 && c.Type != Int64:
			return fmt.Errorf("part schema: column %q of type %s has class names", c.Name, c.Type)
		case c.Type == Vector && (c.Len < 1 || c.Len > maxElements) || c.Type != Vector && c.Len != 0:
			return fmt.Errorf("part schema: column %q of type %s has length %d", c.Name, c.Type, c.Len)
		}
		switch c.Type {
		case String, Int64, Float64, Bool, Binary, Vector:
		default:
			return fmt.Errorf("part schema: column %q has type %q, not string, int64, float64, bool, binary or vector", c.Name, c.Type)
		}
		seen[c.Name] = true
	}
	return nil
}

func (l Latent) validate() error {
	switch l.DType {
	case Float32, Float16:
	default:
		return fmt.Errorf("part schema: latent dtype %q is not float32 or float16", l.DType)
	}
	switch l.Layout {
	case List, Tensor:
		_, err := elements(l.C, l.H, l.W)
		return err
	case Ragged:
		if l.C <= 0 || l.H != 0 || l.W != 0 {
			return fmt.Errorf("part schema: ragged latents have C > 0 and H = W = 0, got %d x %d x %d", l.C, l.H, l.W)
		}
		return nil
	}
	return fmt.Errorf("part schema: latent layout %q is not list, tensor or ragged", l.Layout)
}

// elements returns c*h*w, or an error that spells the product out.
func elements(c, h, w int) (int, error) {
	n := 1
	for _, d := range []int{c, h, w} {
		if d <= 0 || d > maxElements || n > maxElements/d {
			return 0, fmt.Errorf("latent of %d x %d x %d elements is not between 1 and %d elements", c, h, w, maxElements)
		}
		n *= d
	}
	return n, nil
}
