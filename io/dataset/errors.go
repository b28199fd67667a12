package dataset

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Class names a kind of problem. Row classes appear in [Row.Err] and [Row.LabelErr], the others in returned errors.
type Class string

// The classes. Their names are stable; job reports count by them.
const (
	RowNull        Class = "row.null"         // image is null, or its bytes and path both are
	RowEmpty       Class = "row.empty"        // image has zero bytes
	RowTooLarge    Class = "row.too_large"    // image has more bytes than Limits.MaxImageBytes
	RowPathRefused Class = "row.path_refused" // only a path or URL, and paths are not allowed or lead out of the root
	RowPathMissing Class = "row.path_missing" // a path inside the root with no file behind it
	RowLabel       Class = "row.label"        // label outside the class list, or null
	RowID          Class = "row.id"           // id is null
	RowUnreadable  Class = "row.unreadable"   // a file of a folder or an archive is there and cannot be read
	RowAmbiguous   Class = "row.ambiguous"    // several files could be the paired image
	RowFailed      Class = "row.failed"       // the row stands in the results of a job, which did not make its image

	SchemaNoImage     Class = "schema.no_image"    // no column holds images
	SchemaAmbiguous   Class = "schema.ambiguous"   // several columns could be the image and none was named
	SchemaUnsupported Class = "schema.unsupported" // the column's type cannot be read for its purpose
	SchemaNoColumn    Class = "schema.no_column"   // a named column does not exist
	SchemaMismatch    Class = "schema.mismatch"    // files of one data set disagree

	FileNotParquet  Class = "file.not_parquet" // the file is something else
	FileNotArrow    Class = "file.not_arrow"   // the same of a file with an Arrow name
	FileNotArchive  Class = "file.not_archive" // the same of a file with the name of an archive
	FileDuplicate   Class = "file.duplicate"   // two files of one name in an archive
	FileTruncated   Class = "file.truncated"   // starts as what it is but the end is missing
	FileCorrupt     Class = "file.corrupt"     // damage, or counts that disagree
	FileEncrypted   Class = "file.encrypted"   // encrypted; there is no key
	FileEmpty       Class = "file.empty"       // zero bytes
	FileUnsupported Class = "file.unsupported" // a codec or encoding that cannot be read
	FileTooLarge    Class = "file.too_large"   // a page or footer needs more than Limits.Memory
	FileChanged     Class = "file.changed"     // the file is not the one that was opened
)

// Error is a classed problem with its place. Unknown parts of the place are -1 or "".
type Error struct {
	Class    Class
	File     string // FileInfo.Name
	RowGroup int    // within the file
	Row      int64  // within the file
	Column   string // dotted path
	Err      error
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		fmt.Fprintf(&b, "%s: ", e.File)
	}
	if e.RowGroup >= 0 {
		fmt.Fprintf(&b, "row group %d: ", e.RowGroup)
	}
	if e.Row >= 0 {
		fmt.Fprintf(&b, "row %d: ", e.Row)
	}
	if e.Column != "" {
		fmt.Fprintf(&b, "column %q: ", e.Column)
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf returns the class of err, or "" when it has none.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// errorf makes a classed error without a place.
func errorf(c Class, format string, args ...any) error {
	return &Error{Class: c, RowGroup: -1, Row: -1, Err: fmt.Errorf(format, args...)}
}

func corrupt(format string, args ...any) error { return errorf(FileCorrupt, format, args...) }

// at adds a place to an error where it has none yet. An error of the file system stays without a class.
func at(err error, file string, rowGroup int, row int64, column string) error {
	if err == nil {
		return nil
	}
	out := Error{RowGroup: -1, Row: -1, Err: err}
	var e *Error
	if errors.As(err, &e) {
		out = *e
	}
	if out.File == "" {
		out.File = file
	}
	if out.RowGroup < 0 {
		out.RowGroup = rowGroup
	}
	if out.Row < 0 {
		out.Row = row
	}
	if out.Column == "" {
		out.Column = column
	}
	return &out
}

// data gives a returned error its exit code; errors of the file system keep theirs.
func data(err error) error {
	if ClassOf(err) != "" {
		return exitcode.With(exitcode.Data, err)
	}
	return err
}

// guard turns a panic of f, on this goroutine, into an error of class file.corrupt: decoders of foreign bytes, ours or a
// library's, may meet a case nobody thought of, and a batch job must report it and live.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = corrupt("decoder panic: %v at %s", r, panicSite())
		}
	}()
	return f()
}

// panicSite names the function below the panic, for the report.
func panicSite() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "panic(") && i+2 < len(lines) {
			return strings.TrimSpace(lines[i+2])
		}
	}
	return "unknown place"
}
