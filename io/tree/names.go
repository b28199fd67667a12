package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a name in bytes. File systems hold 255 a component; a temporary file adds up to 40.
const (
	maxComponent = 200
	maxName      = 1000
)

// extensions are those of image files, in lower case; a name's own is replaced by the output's.
var extensions = []string{".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".pnm",
	".pbm", ".pgm", ".ppm"}

// Extension is that of files of a format, "png" or "jpeg".
func Extension(format string) string {
	if format == "jpeg" {
		return ".jpg"
	}
	return "." + format
}

// Names returns the output names, with slashes and relative to the tree, of all inputs of a job. A name depends on the set
// of the input names, not on their order, except for equal names, which are numbered in the order of the list.
//
//   - Folders stay. Empty components and "." are dropped; ".." and whatever some file system forbids or changes (control
//     characters, <>:"|?*\, bytes that are not UTF-8, a dot or space at the end, names of devices, a percent sign before two
//     hex digits) is spelled %XX, which [Unescape] undoes.
//   - The extension of an image file is replaced by the format's; to another name it is added.
//   - Names that would be equal, in any case of their letters, keep their own extension: a.png and a.jpg become a.png.png and
//     a.jpg.png. If that does not tell them apart, or a file has the name of a folder, a hash of the input name is added:
//     a~0123456789ab.png. The second of two equal input names ends in ~2.
//   - A component of more than 200 bytes is cut and ends in a hash; of a name above 1000 bytes the folders become one hash.
func Names(list []string, format string) []string {
	ext := Extension(format)
	out := make([]string, len(list))
	level, copies := make([]int, len(list)), make([]int, len(list))
	seen := make(map[string]int, len(list))
	for i, name := range list {
		seen[name]++
		copies[i] = seen[name]
		out[i] = spell(name, ext, 0, copies[i])
	}
	// Whoever is in a conflict gets the next spelling, all at once, until there is none.
	for {
		conflicts := conflicting(out)
		settled := true
		for _, i := range conflicts {
			if level[i] < lastLevel {
				level[i]++
				out[i] = spell(list[i], ext, level[i], copies[i])
				settled = false
			}
		}
		if settled {
			return out
		}
	}
}

// conflicting lists the names that are equal, but for case, to another one or to a folder of another one.
func conflicting(names []string) []int {
	files := make(map[string]int, len(names)) // how often
	folders := map[string]bool{}
	folded := make([]string, len(names))
	for i, n := range names {
		folded[i] = fold(n)
		files[folded[i]]++
		for dir := path.Dir(folded[i]); dir != "." && !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	var out []int
	for i, n := range folded {
		if files[n] > 1 || folders[n] {
			out = append(out, i)
		}
	}
	return out
}

// fold makes names equal that a file system without case takes for one.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// lastLevel is the spelling that nothing short of a collision of SHA-256 makes equal to another.
const lastLevel = 3

// spell gives an input name its output name: level 0 with its extension replaced, 1 with the extension kept, 2 with a short
// hash, 3 with a whole one.
func spell(name, ext string, level, copy int) string {
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
	parts = slices.DeleteFunc(parts, func(p string) bool { return p == "." })
	last := "_" // of an input without a name
	if len(parts) > 0 {
		last, parts = parts[len(parts)-1], parts[:len(parts)-1]
	}
	if level != 1 {
		if e := path.Ext(last); len(e) < len(last) && slices.Contains(extensions, strings.ToLower(e)) {
			last = last[:len(last)-len(e)]
		}
	}
	tail := ext
	switch level {
	case 2:
		tail = "~" + hash(name)[:12] + ext
	case 3:
		tail = "~" + hash(name) + ext
	}
	if copy > 1 {
		tail = "~" + strconv.Itoa(copy) + tail
	}
	for i, p := range parts {
		parts[i] = component(p, "")
	}
	dir := strings.Join(parts, "/")
	last = component(last, tail)
	if len(dir)+1+len(last) > maxName {
		dir = "~" + hash(dir)[:16]
	}
	return path.Join(dir, last)
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// component escapes one component, adds the tail and cuts what is too long.
func component(s, tail string) string {
	e := escape(s, tail)
	if len(e)+len(tail) <= maxComponent {
		return e + tail
	}
	mark := "~" + hash(s)[:16]
	cut := maxComponent - len(tail) - len(mark)
	for cut > 0 && !utf8.RuneStart(e[cut]) {
		cut--
	}
	if k := strings.LastIndexByte(e[:cut], '%'); k > cut-3 && k >= 0 { // not within an escape
		cut = k
	}
	return e[:cut] + mark + tail
}

// forbidden are the characters that Windows does not allow in a name. A slash does not occur in a component.
const forbidden = `<>:"|?*\`

// escape spells what cannot stand in a component as %XX. tail is what will follow.
func escape(s, tail string) string {
	device := isDevice(s)
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		bad := r < 0x20 || r == 0x7f || r == utf8.RuneError && n == 1 || strings.ContainsRune(forbidden, r)
		bad = bad || r == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])
		bad = bad || i == 0 && (device || s == "..")
		bad = bad || i+n == len(s) && tail == "" && (r == '.' || r == ' ') // Windows drops it
		if bad {
			for _, c := range []byte(s[i : i+n]) {
				const digits = "0123456789ABCDEF"
				b.Write([]byte{'%', digits[c>>4], digits[c&15]})
			}
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// Unescape returns the text that was spelled with %XX.
func Unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			v, _ := strconv.ParseUint(s[i+1:i+3], 16, 8) // two hex digits
			b.WriteByte(byte(v))
			i += 2
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

// isDevice reports whether Windows takes a name for a device, whatever its extension.
func isDevice(s string) bool {
	stem, _, _ := strings.Cut(strings.ToLower(s), ".")
	stem = strings.TrimRight(stem, " ")
	switch stem {
	case "con", "prn", "aux", "nul", "conin$", "conout$":
		return true
	}
	for _, port := range []string{"com", "lpt"} {
		if n, ok := strings.CutPrefix(stem, port); ok && slices.Contains([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "¹", "²", "³"}, n) {
			return true
		}
	}
	return false
}
