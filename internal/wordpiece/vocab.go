package wordpiece

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// The special tokens. [MASK] is special only where the vocabulary has it.
const (
	padToken     = "[PAD]"
	unknownToken = "[UNK]"
	firstToken   = "[CLS]"
	lastToken    = "[SEP]"
	maskToken    = "[MASK]"
)

const (
	inside   = "##"     // marks a token that continues a word
	maxFile  = 64 << 20 // bytes
	maxWord  = 100      // characters; longer words are unknown
	maxToken = 1024     // bytes of a line
)

// Vocab is a vocabulary.
type Vocab struct {
	ids      map[string]int
	size     int
	longest  int // bytes of the longest token
	special  []string
	pad, unk int
	cls, sep int
}

// Load reads a vocabulary from a file.
func Load(path string) (*Vocab, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("vocabulary: %w", err)
	}
	defer f.Close()
	return Parse(f, path)
}

// Parse reads a vocabulary; name is for messages.
func Parse(r io.Reader, name string) (*Vocab, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("vocabulary %s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, exitcode.Errorf(exitcode.Data, "vocabulary %s: larger than %d bytes", name, maxFile)
	}
	v := &Vocab{ids: map[string]int{}}
	lines := bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
	for i, line := range lines {
		line = bytes.TrimSuffix(line, []byte("\r"))
		token := string(line)
		switch {
		case len(line) == 0:
			return nil, exitcode.Errorf(exitcode.Data, "vocabulary %s: line %d is empty", name, i+1)
		case len(line) > maxToken:
			return nil, exitcode.Errorf(exitcode.Data, "vocabulary %s: line %d has %d bytes, not a token", name, i+1, len(line))
		case !utf8.Valid(line):
			return nil, exitcode.Errorf(exitcode.Data, "vocabulary %s: line %d is not UTF-8", name, i+1)
		}
		if first, ok := v.ids[token]; ok {
			return nil, exitcode.Errorf(exitcode.Data, "vocabulary %s: line %d repeats line %d, %q", name, i+1, first+1, token)
		}
		v.ids[token] = i
		v.longest = max(v.longest, len(token))
	}
	v.size = len(lines)
	for token, id := range map[string]*int{padToken: &v.pad, unknownToken: &v.unk, firstToken: &v.cls, lastToken: &v.sep} {
		n, ok := v.ids[token]
		if !ok {
			return nil, exitcode.Errorf(exitcode.Data, "vocabulary %s: no token %s", name, token)
		}
		*id = n
	}
	for _, s := range []string{padToken, unknownToken, firstToken, lastToken, maskToken} {
		if _, ok := v.ids[s]; ok {
			v.special = append(v.special, s)
		}
	}
	return v, nil
}

// Size is the number of tokens.
func (v *Vocab) Size() int { return v.size }

// ID is the id of a token.
func (v *Vocab) ID(token string) (int, bool) { id, ok := v.ids[token]; return id, ok }

// Encode returns exactly max ids, at least two: [CLS], the text, [SEP], and [PAD] for the rest. truncated says that tokens at
// the end of the text did not fit.
func (v *Vocab) Encode(text string, max int) (ids []int, truncated bool) {
	words := v.Tokenize(text)
	if room := max - 2; len(words) > room {
		words, truncated = words[:room], true
	}
	ids = append(append(make([]int, 0, max), v.cls), words...)
	ids = append(ids, v.sep)
	for len(ids) < max {
		ids = append(ids, v.pad)
	}
	return ids, truncated
}

// Tokenize returns the ids of a text alone. Special tokens are recognised in it as they are written, also inside words.
// Bytes that are not UTF-8 are ignored.
func (v *Vocab) Tokenize(text string) []int {
	var ids []int
	for text != "" {
		at, found := len(text), ""
		for _, s := range v.special {
			if i := strings.Index(text, s); i >= 0 && i < at {
				at, found = i, s
			}
		}
		for _, w := range words(text[:at]) {
			ids = v.word(ids, w)
		}
		if found != "" {
			ids = append(ids, v.ids[found])
		}
		text = text[at+len(found):]
	}
	return ids
}

// word adds the tokens of a word: the longest that match, from left to right, or the unknown token if any part has none.
func (v *Vocab) word(ids []int, w string) []int {
	if utf8.RuneCountInString(w) > maxWord {
		return append(ids, v.unk)
	}
	start := len(ids)
	buf := make([]byte, 0, len(inside)+len(w))
	for at := 0; at < len(w); {
		buf = buf[:0]
		if at > 0 {
			buf = append(buf, inside...)
		}
		prefix := len(buf)
		buf = append(buf, w[at:min(len(w), at+v.longest)]...)
		n := len(buf)
		for n > prefix {
			if id, ok := v.ids[string(buf[:n])]; ok {
				ids = append(ids, id)
				break
			}
			for n--; n > prefix && at+n-prefix < len(w) && !utf8.RuneStart(w[at+n-prefix]); n-- {
			}
		}
		if n == prefix {
			return append(ids[:start], v.unk)
		}
		at += n - prefix
	}
	return ids
}
