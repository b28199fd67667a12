package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"
)

// listing is what a folder tree or an archive holds.
type listing struct {
	members    []member // the pictures, in the order of rows
	hidden     int      // files whose names, or those of their folders, begin with _ or .
	other      int      // files that are not pictures
	store      store
	hash       hash.Hash // of what tells whether the content has changed
	seen       map[string]bool
	memory     int64 // bytes that members take
	limit      int64
	imageLimit int64
}

// memberMemory is about what a member takes beside its name, with its place in the set of names.
const memberMemory = 256

var errName = errors.New("name")

// add takes a file into the listing, in case it is a picture.
func (l *listing) add(name string, m member) error {
	clean := path.Clean(name)
	for part := range strings.SplitSeq(clean, "/") {
		if hidden(part) && part != ".." {
			l.hidden++
			return nil
		}
	}
	if !isPicture(clean) {
		l.other++
		return nil
	}
	m.name = clean
	if !fs.ValidPath(clean) || !utf8.ValidString(clean) || strings.ContainsAny(clean, "\\\x00") {
		// Such a name is no path below the top; what is delivered in its place cannot be that of another member.
		m.name, m.bad = strconv.Quote(clean), errorf(RowPathRefused, "file %s of the archive has an impossible %w", shorten(clean), errName)
	}
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	if l.seen[m.name] {
		return errorf(FileDuplicate, "there are two files %s", shorten(m.name))
	}
	l.seen[m.name] = true
	if l.memory += memberMemory + 2*int64(len(m.name)); l.limit > 0 && l.memory > l.limit {
		return errorf(FileTooLarge, "the list of %d pictures is over the memory limit of %d bytes", len(l.members), l.limit)
	}
	l.members = append(l.members, m)
	return nil
}

// digest is the hash of what tells whether the content has changed.
func (l *listing) digest() hash.Hash {
	if l.hash == nil {
		l.hash = sha256.New()
	}
	return l.hash
}

func (l *listing) sum() string { return hex.EncodeToString(l.digest().Sum(nil)) }
