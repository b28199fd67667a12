package wordpiece

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

func load(t testing.TB) *Vocab {
	t.Helper()
	v, err := Load("testdata/vocab.txt")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestCases compares with what the tokenizers library gives.
func TestCases(t *testing.T) {
	data, err := os.ReadFile("testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text string
		IDs  []int
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 100 {
		t.Fatalf("%d cases", len(cases))
	}
	v := load(t)
	for _, c := range cases {
		got, _ := v.Encode(c.Text, 77)
		if len(got) != 77 {
			t.Errorf("%q: %d ids", c.Text, len(got))
		}
		for len(c.IDs) < 77 {
			c.IDs = append(c.IDs, v.pad)
		}
		if !slices.Equal(got, c.IDs) {
			t.Errorf("%q:\n got %v\nwant %v", c.Text, got, c.IDs)
		}
	}
}

// small is a vocabulary for cases worked out by hand.
const small = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nun\n##aff\n##able\ncat\n'\n##t\ndon\nt\n中\ncafe\n!\n1\n##2\n"

func TestTokenize(t *testing.T) {
	v, err := Parse(strings.NewReader(small), "small")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"unaffable", "un ##aff ##able"},
		{"Unaffable  CAT!", "un ##aff ##able cat !"},
		{"unaffablex", "[UNK]"},
		{"don't", "don ' t"},
		{"Café", "cafe"},
		{"cat中cat", "cat 中 cat"},
		{"ca\u0000t c\u200bat", "cat cat"},
		{"12 122", "1 ##2 1 ##2 ##2"},
		{"cat\u00a0cat\u3000cat", "cat cat cat"},
		{"😀 cat", "[UNK] cat"},
		{"cat[SEP]cat", "cat [SEP] cat"},
		{"\xffcat\xff", "cat"},
		{strings.Repeat("1", 101), "[UNK]"},
		{"[MASK]", "[UNK] [UNK] [UNK]"}, // not special here
	} {
		want := []int{}
		for _, w := range strings.Fields(c.want) {
			id, ok := v.ID(w)
			if !ok {
				t.Fatalf("no token %s", w)
			}
			want = append(want, id)
		}
		if got := v.Tokenize(c.text); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v (%s)", c.text, got, want, c.want)
		}
	}
}

func TestEncode(t *testing.T) {
	v, err := Parse(strings.NewReader(small), "small")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text      string
		max       int
		want      []int
		truncated bool
	}{
		{"cat", 5, []int{2, 7, 3, 0, 0}, false},
		{"cat cat cat", 5, []int{2, 7, 7, 7, 3}, false},
		{"cat cat cat !", 5, []int{2, 7, 7, 7, 3}, true},
		{"unaffable", 4, []int{2, 4, 5, 3}, true},
		{"cat", 2, []int{2, 3}, true},
		{"", 3, []int{2, 3, 0}, false},
	} {
		if got, cut := v.Encode(c.text, c.max); !slices.Equal(got, c.want) || cut != c.truncated {
			t.Errorf("%q in %d: %v %t, want %v %t", c.text, c.max, got, cut, c.want, c.truncated)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"", "line 1 is empty"},
		{"[PAD]\n\n[UNK]\n", "line 2 is empty"},
		{"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n[PAD]\n", "line 6 repeats line 1"},
		{"[PAD]\n\xff\n", "line 2 is not UTF-8"},
		{"[PAD]\n" + strings.Repeat("x", 2000), "line 2 has 2000 bytes"},
		{"[PAD]\n[UNK]\n[CLS]\na\n", "no token [SEP]"},
	} {
		_, err := Parse(strings.NewReader(c.file), "v")
		if err == nil || !strings.Contains(err.Error(), c.want) || exitcode.Of(err) != exitcode.Data {
			t.Errorf("%q: %v, want %q", c.file, err, c.want)
		}
	}
	if _, err := Load("testdata/none"); exitcode.Of(err) != exitcode.NoInput {
		t.Errorf("missing file: %v", err)
	}
	if v, err := Parse(strings.NewReader("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\na"), "v"); err != nil || v.Size() != 5 {
		t.Errorf("line ends of another system: %v", err)
	}
}

func FuzzTokenize(f *testing.F) {
	for _, s := range []string{"", "don't [SEP] ünaffable", "中a😀", "\xff\x00[", "##a ##"} {
		f.Add(s)
	}
	v := load(f)
	f.Fuzz(func(t *testing.T, text string) {
		for _, w := range words(text) {
			if w == "" || !utf8.ValidString(w) {
				t.Fatalf("%q: word %q", text, w)
			}
		}
		for _, id := range v.Tokenize(text) {
			if id < 0 || id >= v.Size() {
				t.Fatalf("%q: id %d", text, id)
			}
		}
		if ids, _ := v.Encode(text, 77); len(ids) != 77 {
			t.Fatalf("%q: %d ids", text, len(ids))
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("[PAD]\r\n\n\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := Parse(strings.NewReader(string(data)), "v"); err == nil {
			v.Encode("the cat", 8)
		}
	})
}
