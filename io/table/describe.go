package table

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Column is a leaf of a file's schema.
type Column struct {
	Name     string `json:"name"` // dotted
	Type     string `json:"type"`
	Optional bool   `json:"optional,omitempty"`
	Repeated bool   `json:"repeated,omitempty"`
}

// Info describes a file.
type Info struct {
	Rows      int64    `json:"rows"`
	RowGroups int      `json:"row_groups"`
	CreatedBy string   `json:"created_by,omitempty"`
	Columns   []Column `json:"columns"`
}

// maxFooter bounds the footer that Describe reads; those of real files are below a few megabytes.
const maxFooter = 256 << 20

// Describe reads the footer of a Parquet file. It reads no values.
func Describe(path string) (info *Info, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		if err != nil {
			info, err = nil, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", path, err))
		}
	}()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkTail(f, st.Size()); err != nil {
		return nil, err
	}
	file, err := parquet.OpenFile(f, st.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, err
	}
	info = &Info{Rows: file.NumRows(), RowGroups: len(file.RowGroups()), CreatedBy: file.Metadata().CreatedBy}
	for _, leaf := range file.Schema().Columns() {
		c, ok := file.Schema().Lookup(leaf...)
		if !ok {
			return nil, fmt.Errorf("column %s is not in the schema", strings.Join(leaf, "."))
		}
		info.Columns = append(info.Columns, Column{
			Name: strings.Join(leaf, "."), Type: strings.ToLower(c.Node.Type().String()), Optional: c.MaxDefinitionLevel > c.MaxRepetitionLevel, Repeated: c.MaxRepetitionLevel > 0,
		})
	}
	return info, nil
}

// checkTail refuses a footer that is longer than the file or than any real one, before the library allocates for it.
func checkTail(f io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < 12 {
		return fmt.Errorf("%d bytes are no Parquet file", size)
	}
	if _, err := f.ReadAt(tail[:], size-8); err != nil {
		return err
	}
	length := int64(tail[0]) | int64(tail[1])<<8 | int64(tail[2])<<16 | int64(tail[3])<<24
	if string(tail[4:]) != "PAR1" || length > size-12 || length > maxFooter {
		return fmt.Errorf("no Parquet footer: the end is missing, or the file is something else")
	}
	return nil
}
