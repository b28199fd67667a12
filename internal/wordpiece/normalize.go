package wordpiece

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// words normalises a text and splits it.
func words(text string) []string {
	var clean strings.Builder
	for _, r := range text {
		switch {
		case dropped(r):
		case unicode.IsSpace(r):
			clean.WriteByte(' ')
		case ideograph(r):
			clean.WriteByte(' ')
			clean.WriteRune(r)
			clean.WriteByte(' ')
		default:
			clean.WriteRune(r)
		}
	}
	var out []string
	var word strings.Builder
	end := func() {
		if word.Len() > 0 {
			out = append(out, word.String())
			word.Reset()
		}
	}
	for _, r := range norm.NFD.String(clean.String()) {
		switch {
		case unicode.Is(unicode.Mn, r):
		case r == ' ' || unicode.IsSpace(r):
			end()
		case punctuation(r):
			end()
			out = append(out, string(r))
		default:
			word.WriteString(lower(r))
		}
	}
	end()
	return out
}

// dropped says whether a character is none of the text: NUL, the replacement character (what is not UTF-8 among it), control
// and format characters and those of private use, but not tab and line ends.
func dropped(r rune) bool {
	switch r {
	case '\t', '\n', '\r':
		return false
	case utf8.RuneError:
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co)
}

// lower maps a character by itself, without regard to its place in the word.
func lower(r rune) string {
	if r == 'İ' {
		return "i̇" // the only one that becomes two
	}
	return string(unicode.ToLower(r))
}

// ideograph says whether a character is a CJK ideograph, each of which is a word. The ranges are those of the tokenizer.
func ideograph(r rune) bool {
	switch {
	case r < 0x3400:
		return false
	case r <= 0x4DBF, r >= 0x4E00 && r <= 0x9FFF, r >= 0xF900 && r <= 0xFAFF, r >= 0x20000 && r <= 0x2A6DF,
		r >= 0x2A700 && r <= 0x2B73F, r >= 0x2B740 && r <= 0x2B81F, r >= 0x2B920 && r <= 0x2CEAF, r >= 0x2F800 && r <= 0x2FA1F:
		return true
	}
	return false
}

// punctuation says whether a character is a word by itself: ASCII symbols too.
func punctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7F && !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
	}
	return unicode.Is(unicode.P, r)
}
