package picture

import (
	"errors"
	"fmt"

	"github.com/ldm-batch/ldm-batch/io/picture/jpegx"
)

// Kind classes a failure for error rows.
type Kind string

// The kinds of failure.
const (
	KindTruncated     Kind = "truncated"      // the data end before the picture does
	KindUnsupported   Kind = "unsupported"    // a valid variant that is not decoded here
	KindCorrupt       Kind = "corrupt"        // the data contradict the format
	KindTooLarge      Kind = "too large"      // over the Limits
	KindUnknownFormat Kind = "unknown format" // no known signature
	KindEmpty         Kind = "empty"          // no bytes
)

// Sentinels for errors.Is; only the kind counts.
var (
	ErrTruncated     = &Error{Kind: KindTruncated}
	ErrUnsupported   = &Error{Kind: KindUnsupported}
	ErrCorrupt       = &Error{Kind: KindCorrupt}
	ErrTooLarge      = &Error{Kind: KindTooLarge}
	ErrUnknownFormat = &Error{Kind: KindUnknownFormat}
	ErrEmpty         = &Error{Kind: KindEmpty}
)

// Error is a picture that cannot be used.
type Error struct {
	Kind   Kind
	Format string // "jpeg", "png", ...; empty if unknown
	Msg    string
}

func (e *Error) Error() string {
	s := string(e.Kind)
	if e.Format != "" {
		s = e.Format + ": " + s
	}
	if e.Msg != "" {
		s += ": " + e.Msg
	}
	return s
}

// Is reports whether target is the sentinel of the same kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Format == "" && t.Msg == ""
}

func truncated(format string, args ...any) error {
	return &Error{Kind: KindTruncated, Msg: fmt.Sprintf(format, args...)}
}

func corrupt(format string, args ...any) error {
	return &Error{Kind: KindCorrupt, Msg: fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return &Error{Kind: KindUnsupported, Msg: fmt.Sprintf(format, args...)}
}

// classify gives any decoder's error its format and a kind.
func classify(err error, format string) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		c := *e
		c.Format = format
		return &c
	}
	for _, k := range []struct {
		class error
		kind  Kind
	}{
		{jpegx.ErrTruncated, KindTruncated}, {jpegx.ErrUnsupported, KindUnsupported}, {jpegx.ErrTooLarge, KindTooLarge},
	} {
		if errors.Is(err, k.class) {
			return &Error{Kind: k.kind, Format: format, Msg: trimClass(err, k.class)}
		}
	}
	return &Error{Kind: KindCorrupt, Format: format, Msg: trimClass(err, jpegx.ErrCorrupt)}
}

// trimClass drops the class from the front of a message that repeats it.
func trimClass(err, class error) string {
	s, p := err.Error(), class.Error()+": "
	if len(s) > len(p) && s[:len(p)] == p {
		return s[len(p):]
	}
	return s
}
