package part

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Stats describes a finished part.
type Stats struct {
	Rows    int64  `json:"rows"`
	OK      int64  `json:"ok"`
	Skipped int64  `json:"skipped"`
	Failed  int64  `json:"failed"`
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"` // hex
	// FileBytes adds up the image files that the rows name.
	FileBytes int64    `json:"file_bytes,omitempty"`
	Reasons   []Reason `json:"reasons,omitempty"`
}

// Reason counts skipped and failed rows of one kind.
type Reason struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// Caps on the reasons: what is listed, what is told apart, how long one is, and where the rest goes.
const (
	maxReasons     = 20
	maxDistinct    = 1000
	maxReasonBytes = 120
	otherReasons   = "other"
)

// tally counts outcomes. Its result depends on the rows and their order only.
type tally struct {
	Stats
	reasons map[string]int64
}

func (t *tally) add(r *Row) {
	t.Rows++
	switch r.Status {
	case OK:
		t.OK++
		t.FileBytes += r.FileBytes
		return
	case Skipped:
		t.Skipped++
	case Failed:
		t.Failed++
	}
	why := reasonOf(r)
	if t.reasons == nil {
		t.reasons = map[string]int64{}
	}
	if _, ok := t.reasons[why]; !ok && len(t.reasons) >= maxDistinct {
		why = otherReasons
	}
	t.reasons[why]++
}

// reasonOf is the class of a row's error; "" if it has none.
func reasonOf(r *Row) string {
	why := r.Reason
	if why == "" {
		why, _, _ = strings.Cut(r.Error, ":")
	}
	return clip(validUTF8(why), maxReasonBytes)
}

// stats returns the counts, reasons by falling count, then by name.
func (t *tally) stats() Stats { s := t.Stats; s.Reasons = MergeReasons(toReasons(t.reasons)); return s }

func toReasons(m map[string]int64) []Reason {
	var rs []Reason
	for k, n := range m {
		rs = append(rs, Reason{k, n})
	}
	return rs
}

// MergeReasons adds up lists of reasons and keeps the most frequent twenty; the others are counted as "other".
func MergeReasons(lists ...[]Reason) []Reason {
	sum := map[string]int64{}
	for _, l := range lists {
		for _, r := range l {
			sum[r.Reason] += r.Count
		}
	}
	other := sum[otherReasons]
	delete(sum, otherReasons)
	rs := toReasons(sum)
	slices.SortFunc(rs, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	if len(rs) > maxReasons {
		for _, r := range rs[maxReasons:] {
			other += r.Count
		}
		rs = rs[:maxReasons]
	}
	if other > 0 {
		rs = append(rs, Reason{otherReasons, other})
	}
	return rs
}

// clip shortens s to at most n bytes at a character border.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// validUTF8 returns s with each invalid byte spelled as \xNN, since Arrow strings are UTF-8 and two different ids must
// stay different.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	const hexDigits = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[s[i]>>4])
			b.WriteByte(hexDigits[s[i]&15])
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}
