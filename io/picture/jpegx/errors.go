package jpegx

import (
	"errors"
	"fmt"
)

// The classes of error.
var (
	ErrTruncated   = errors.New("truncated")
	ErrCorrupt     = errors.New("corrupt")
	ErrUnsupported = errors.New("unsupported")
	ErrTooLarge    = errors.New("too large")
)

func truncated(format string, args ...any) error   { return wrap(ErrTruncated, format, args) }
func corrupt(format string, args ...any) error     { return wrap(ErrCorrupt, format, args) }
func unsupported(format string, args ...any) error { return wrap(ErrUnsupported, format, args) }

func wrap(class error, format string, args []any) error {
	return fmt.Errorf("%w: %s", class, fmt.Sprintf(format, args...))
}
