package export

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// maxName keeps names, with number and extension, below the 255 bytes of file systems and the 100 of plain tar headers.
const maxName = 72

// namer makes file names from row ids: portable characters only, no two equal even where case does not count.
type namer struct {
	seed maphash.Seed
	seen map[uint64]struct{}
}

func newNamer() *namer { return &namer{maphash.MakeSeed(), map[uint64]struct{}{}} }

// name returns the name of a row. Ids that become equal get the row's number, and so on the same input the same name.
func (n *namer) name(id string, row int64) string {
	base := sanitise(id)
	name := base
	for try := 0; !n.take(name); try++ {
		name = fmt.Sprintf("%s-%d", base, row)
		if try > 0 {
			name = fmt.Sprintf("%s-%d-%d", base, row, try)
		}
	}
	return name
}

func (n *namer) take(name string) bool {
	h := maphash.String(n.seed, strings.ToLower(name))
	if _, taken := n.seen[h]; taken {
		return false
	}
	n.seen[h] = struct{}{}
	return true
}

// sanitise keeps letters, digits, '-', '_' and inner dots of ASCII; everything else becomes '_'. The result starts with
// none of the characters that hide files or make options, and is none of the names that systems keep for devices.
func sanitise(id string) string {
	var b strings.Builder
	for _, r := range id {
		switch {
		case b.Len() >= maxName:
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.':
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	name := strings.TrimRight(b.String(), ".")
	stem, _, _ := strings.Cut(strings.ToLower(name), ".")
	switch {
	case name == "":
		return "row"
	case name[0] == '.', name[0] == '-', device(stem), stem == "failed":
		return "_" + name
	}
	return name
}

// device reports whether a name is kept for devices on some system.
func device(stem string) bool {
	switch stem {
	case "con", "prn", "aux", "nul":
		return true
	}
	return len(stem) == 4 && (strings.HasPrefix(stem, "com") || strings.HasPrefix(stem, "lpt"))
}
