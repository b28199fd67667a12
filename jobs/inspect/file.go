package inspect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Kind is what a file is.
type Kind string

// The kinds.
const (
	KindCheckpoint Kind = "checkpoint"
	KindParquet    Kind = "parquet"
	KindPart       Kind = "arrow-part"
	KindConfig     Kind = "config"
	KindArrays     Kind = "arrays"     // NumPy's npz: statistics and reference batches
	KindArrow      Kind = "arrow"      // a file or stream of another program, or a part without its journal
	KindStatistics Kind = "statistics" // of features, as evaluations write them
)

// Options say what may be opened.
type Options struct {
	TrustInput bool // read all rows of an Arrow part that no journal vouches for
}

// File is what a file holds; one of the pointers is set.
type File struct {
	Schema     string      `json:"schema"` // ldm-batch/inspect/v1
	Path       string      `json:"path"`
	Kind       Kind        `json:"kind"`
	Bytes      int64       `json:"bytes"` // 0 for a folder
	Checkpoint *Checkpoint `json:"checkpoint,omitempty"`
	Parquet    *Parquet    `json:"parquet,omitempty"`
	Part       *Part       `json:"part,omitempty"`
	Config     *Config     `json:"config,omitempty"`
	Arrays     []Array     `json:"arrays,omitempty"`
	Arrow      *Arrow      `json:"arrow,omitempty"`
	Statistics *Statistics `json:"statistics,omitempty"`
}

// Open finds out what the file or folder at path holds.
func Open(ctx context.Context, path string, o Options) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	f := &File{Schema: "ldm-batch/inspect/v1", Path: path}
	if st.IsDir() {
		if _, err := os.Stat(filepath.Join(path, ".ldm-batch")); err == nil {
			return nil, exitcode.Errorf(exitcode.Usage, "%s is an output folder; use ldm-batch status", path)
		}
		f.Kind = KindParquet
		f.Parquet, err = openParquet(ctx, path, "")
		return f, err
	}
	f.Bytes = st.Size()
	head, err := readHead(path)
	if err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte("PAR1")):
		f.Kind = KindParquet
		f.Parquet, err = openParquet(ctx, path, path)
	case bytes.HasPrefix(head, []byte("ARROW1")), bytes.HasPrefix(head, []byte("\xff\xff\xff\xff")), bytes.HasPrefix(head, []byte("FEA1")):
		err = f.openArrow(ctx, o.TrustInput)
	case isNPZ(path, head):
		f.Kind = KindArrays
		f.Arrays, err = openNPZ(path)
	case isText(head):
		f.Kind = KindConfig
		f.Config, err = openConfig(path)
	default:
		f.Kind = KindCheckpoint
		f.Checkpoint, err = openCheckpoint(path)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 1024))
	if err == nil && len(head) == 0 {
		return nil, exitcode.Errorf(exitcode.Data, "%s: is empty", path)
	}
	return head, err
}

// isText tells a configuration from binary files: those all have a zero byte or a control character early on.
func isText(head []byte) bool {
	for len(head) > 0 && !utf8.RuneStart(head[len(head)-1]) {
		head = head[:len(head)-1] // a rune that was cut
	}
	if n := len(head); n > 0 && head[n-1] >= utf8.RuneSelf {
		head = head[:n-1]
	}
	return utf8.Valid(head) && !bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\r\n", r) })
}

// Write prints the file for people.
func (f *File) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", f.Path, f.Kind)
	if f.Bytes > 0 {
		fmt.Fprintf(&b, ", %d bytes", f.Bytes)
	}
	b.WriteByte('\n')
	switch {
	case f.Checkpoint != nil:
		f.Checkpoint.write(&b)
	case f.Parquet != nil:
		f.Parquet.write(&b)
	case f.Part != nil:
		f.Part.write(&b)
	case f.Config != nil:
		f.Config.write(&b)
	case f.Arrow != nil:
		f.Arrow.write(&b)
	case f.Statistics != nil:
		f.Statistics.write(&b)
	}
	for _, a := range f.Arrays {
		fmt.Fprintf(&b, "%s  %s %v\n", a.Name, a.DType, a.Shape)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
