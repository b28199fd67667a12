package dataset

import (
	"errors"
	"fmt"
	"strings"
)

// Spec says what to read.
type Spec struct {
	Path    string   // file, glob, folder, or a comma-separated list of these: tables, or pictures and archives of pictures
	Image   string   // image column; "" detects it; of pictures the extension of those that are rows, such as "jpg"
	NoImage bool     // rows need no image: none is looked for in tables whose Image is "", and Row.Image is nil without an error
	Images  []string // further image columns, for example "mask"; of pictures NAME_mask.* or NAME.mask.*, for "mask.png" NAME.mask.png
	ID      string   // column of ids; "" makes "<file name>#<row in file>"
	Label   string   // label column; "" takes the class label of the file's features, or a column named label, if any; of pictures files NAME.cls, or folders as classes
	Columns []string // further columns to deliver in Row.Values; of pictures "txt" is the text of NAME.txt
	Limit   int64    // read at most this many rows; 0 is all

	// AllowPaths is the root folder under which images given only by a path may be opened; paths are relative to it. "" refuses
	// such images. Nothing outside the root is opened, through ".." or links neither.
	AllowPaths string
}

// Validate reports the first impossible setting.
func (s Spec) Validate() error {
	switch {
	case strings.TrimSpace(s.Path) == "":
		return errors.New("input path is empty")
	case strings.ContainsRune(s.Path, 0):
		return errors.New("input path holds a NUL byte")
	case s.Limit < 0:
		return fmt.Errorf("input limit %d is negative", s.Limit)
	}
	for _, list := range [][]string{s.Images, s.Columns} {
		seen := map[string]bool{}
		for _, c := range list {
			if c == "" || seen[c] {
				return fmt.Errorf("input column %q is empty or named twice", c)
			}
			seen[c] = true
		}
	}
	for _, c := range s.Images {
		if c == s.Image {
			return fmt.Errorf("input column %q is named as image twice", c)
		}
	}
	return nil
}

// Limits bound what a hostile or damaged file can make the reader allocate.
type Limits struct {
	Memory        int64 // bytes one page, decompressed and indexed, or one footer may take; 0 is 2 GiB
	MaxImageBytes int64 // bytes of one encoded image; 0 is 1 GiB
}

func (l Limits) withDefaults() Limits {
	if l.Memory <= 0 {
		l.Memory = 2 << 30
	}
	if l.MaxImageBytes <= 0 {
		l.MaxImageBytes = 1 << 30
	}
	return l
}
