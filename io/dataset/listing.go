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
	names      naming
	members    []member // the pictures, in the order of rows
	texts      map[string]member
	keyed      map[string]bool // names up to their first dot of files that are no pictures
	hidden     int             // files whose names, or those of their folders, begin with _ or .
	other      int             // files that are not pictures
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

// add takes a file into the listing, in case it is a picture or holds the value of a column.
func (l *listing) add(name string, m member) error {
	clean := path.Clean(name)
	for part := range strings.SplitSeq(clean, "/") {
		if hidden(part) && part != ".." {
			l.hidden++
			return nil
		}
	}
	picture := l.names.picture(clean)
	if !picture {
		if l.keyed == nil {
			l.keyed, l.texts = map[string]bool{}, map[string]member{}
		}
		if key, _ := splitKey(clean); !l.keyed[key] {
			l.keyed[key] = true
			l.memory += memberMemory + int64(len(key))
		}
		if !hasColumn(clean, l.names.texts) {
			l.other++
			return l.bounded()
		}
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
	l.memory += memberMemory + 2*int64(len(m.name))
	if picture {
		l.members = append(l.members, m)
	} else {
		l.texts[m.name] = m
	}
	return l.bounded()
}

func (l *listing) bounded() error {
	if l.limit > 0 && l.memory > l.limit {
		return errorf(FileTooLarge, "the list of %d pictures is over the memory limit of %d bytes", len(l.members), l.limit)
	}
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
