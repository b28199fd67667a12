package dataset

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// byPath reads an image that is given only by its path below root; a nil root refuses it.
func byPath(root *os.Root, path string, limit int64) ([]byte, error) {
	switch {
	case root == nil && isBase64(path):
		return nil, errorf(RowPathRefused, "text in place of image bytes is taken as a path, which is not allowed; it looks like base64 of an image: decode it first")
	case strings.Contains(path, "://"):
		return nil, errorf(RowPathRefused, "image is given only by the address %s: it must be fetched and stored first", shorten(path))
	case root == nil:
		return nil, errorf(RowPathRefused, "image is given only by the path %s, and paths are not allowed", shorten(path))
	case path == "":
		return nil, errorf(RowPathRefused, "image is given only by a path, which is empty")
	case strings.ContainsRune(path, 0) || !filepath.IsLocal(path):
		return nil, errorf(RowPathRefused, "path %s leads out of the root of image paths", shorten(path))
	}
	// Without O_NONBLOCK, opening a named pipe would wait for its writer.
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, pathError(path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, pathError(path, err)
	case !st.Mode().IsRegular():
		return nil, errorf(RowPathMissing, "path %s is no file", shorten(path))
	case st.Size() > limit:
		return nil, errorf(RowTooLarge, "file %s of %d bytes is over the limit of %d", shorten(path), st.Size(), limit)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, pathError(path, err)
	}
	return b, nil
}

// pathError classes what opening a path below the root gave. os.Root has no exported error for a link that leads out of it, so
// every error but "not there" is a refusal.
func pathError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err // its path is foreign and may be long
	}
	for _, missing := range []error{fs.ErrNotExist, syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.ENXIO} {
		if errors.Is(err, missing) {
			return errorf(RowPathMissing, "path %s: %w", shorten(path), err)
		}
	}
	return errorf(RowPathRefused, "path %s: %w", shorten(path), err)
}

// shorten quotes foreign text for a message.
func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

// isBase64 guesses whether text is an image in base64, by the first bytes of common formats.
func isBase64(s string) bool {
	if len(s) < 64 {
		return false
	}
	b, err := base64.StdEncoding.DecodeString(s[:16])
	if err != nil {
		return false
	}
	for _, p := range []string{"\xff\xd8\xff", "\x89PNG", "GIF8", "RIFF", "BM"} {
		if strings.HasPrefix(string(b), p) {
			return true
		}
	}
	return false
}
