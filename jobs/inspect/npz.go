package inspect

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Array is one array of an npz file.
type Array struct {
	Name  string `json:"name"`
	DType string `json:"dtype"` // in NumPy's spelling, such as <f8
	Shape []int  `json:"shape"`
}

// maxArrays and maxHeader bound what a hostile archive costs.
const maxArrays, maxHeader = 1000, 1 << 16

// isNPZ tells an npz from a checkpoint, which is a zip as well: every member is an .npy file.
func isNPZ(path string, head []byte) bool {
	if !bytes.HasPrefix(head, []byte("PK\x03\x04")) {
		return false
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		return false
	}
	defer z.Close()
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".npy") {
			return false
		}
	}
	return len(z.File) > 0
}

func openNPZ(path string) ([]Array, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", path, err))
	}
	defer z.Close()
	if len(z.File) > maxArrays {
		return nil, exitcode.Errorf(exitcode.Data, "%s: more than %d arrays", path, maxArrays)
	}
	var list []Array
	for _, f := range z.File {
		a, err := npyHeader(f)
		if err != nil {
			return nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %s: %w", path, f.Name, err))
		}
		list = append(list, a)
	}
	return list, nil
}

var (
	npyDescr = regexp.MustCompile(`'descr':\s*'([^']*)'`)
	npyShape = regexp.MustCompile(`'shape':\s*\(([0-9, ]*)\)`)
)

// npyHeader reads the text header of an array (NumPy's format, versions 1 to 3).
func npyHeader(f *zip.File) (Array, error) {
	r, err := f.Open()
	if err != nil {
		return Array{}, err
	}
	defer r.Close()
	var fixed [12]byte
	if _, err := io.ReadFull(r, fixed[:10]); err != nil {
		return Array{}, err
	}
	if string(fixed[:6]) != "\x93NUMPY" {
		return Array{}, fmt.Errorf("not an array")
	}
	n := int64(binary.LittleEndian.Uint16(fixed[8:]))
	if fixed[6] > 1 {
		if _, err := io.ReadFull(r, fixed[10:12]); err != nil {
			return Array{}, err
		}
		n = int64(binary.LittleEndian.Uint32(fixed[8:]))
	}
	text, err := io.ReadAll(io.LimitReader(r, min(n, maxHeader)))
	if err != nil {
		return Array{}, err
	}
	descr, shape := npyDescr.FindSubmatch(text), npyShape.FindSubmatch(text)
	if descr == nil || shape == nil {
		return Array{}, fmt.Errorf("header %.80q is not that of a plain array", text)
	}
	a := Array{Name: strings.TrimSuffix(f.Name, ".npy"), DType: string(descr[1]), Shape: []int{}}
	for _, d := range strings.FieldsFunc(string(shape[1]), func(r rune) bool { return r == ',' || r == ' ' }) {
		v, err := strconv.Atoi(d)
		if err != nil {
			return Array{}, fmt.Errorf("shape %q", shape[1])
		}
		a.Shape = append(a.Shape, v)
	}
	return a, nil
}
