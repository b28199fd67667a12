package pickle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func decode(s string, opt Options) (any, error) {
	v, _, err := Decode(strings.NewReader(s), 0, int64(len(s)), opt)
	return v, err
}

// show prints a value so that tests can compare it; depth bounds values that contain themselves.
func show(v any, depth int) string {
	if depth > 8 {
		return "…"
	}
	list := func(open string, items []any, end string) string {
		parts := make([]string, len(items))
		for i, x := range items {
			parts[i] = show(x, depth+1)
		}
		return open + strings.Join(parts, " ") + end
	}
	switch v := v.(type) {
	case *Tuple:
		return list("(", v.Items, ")")
	case *List:
		return list("[", v.Items, "]")
	case *Set:
		return list("<", v.Items, ">")
	case *Dict:
		s := "{"
		for i := range v.Keys {
			s += show(v.Keys[i], depth+1) + ":" + show(v.Values[i], depth+1) + ";"
		}
		if v.State != nil {
			s += "|" + show(v.State, depth+1)
		}
		return s + "}"
	case *Object:
		s := "obj " + show(v.Class, depth+1) + show(v.Args, depth+1)
		if v.State != nil {
			s += "|" + show(v.State, depth+1)
		}
		return s
	case string:
		return fmt.Sprintf("%q", v)
	case Bytes:
		return fmt.Sprintf("b%q", string(v))
	case *big.Int:
		return v.String() + "L"
	}
	return fmt.Sprint(v)
}

func TestDecode(t *testing.T) {
	opt := Options{
		Call: map[string]func([]any) (any, error){
			"collections.OrderedDict": func([]any) (any, error) { return NewDict(), nil },
			"m.sum": func(args []any) (any, error) {
				n := int64(0)
				for _, a := range args {
					n += a.(int64)
				}
				return n, nil
			},
		},
		Persistent: func(id any) (any, error) { return "persistent " + show(id, 0), nil },
	}
	cases := []struct{ name, in, want string }{
		{"none", "\x80\x02N.", "<nil>"},
		{"booleans", "\x80\x02\x88\x89\x86.", "(true false)"},
		{"integers", "\x80\x02K\xffM\xff\xffJ\xff\xff\xff\xff\x87.", "(255 65535 -1)"},
		{"long", "\x80\x02\x8a\x00\x8a\x01\xff\x8a\x02\xff\x00\x87.", "(0 -1 255)"},
		{"long of 8 bytes", "\x80\x02\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", "-9223372036854775808"},
		{"long of 9 bytes", "\x80\x02\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00.", "9223372036854775808L"},
		{"long4", "\x80\x02\x8b\x01\x00\x00\x00\x05.", "5"},
		{"float", "\x80\x02G\xbf\xe0\x00\x00\x00\x00\x00\x00.", "-0.5"},
		{"strings", "\x80\x04\x8c\x02\xc3\xa9X\x01\x00\x00\x00a\x8d\x01\x00\x00\x00\x00\x00\x00\x00b\x87.", `("é" "a" "b")`},
		{"surrogate", "\x80\x02X\x03\x00\x00\x00\xed\xa0\x80.", `"\xed\xa0\x80"`},
		{"python 2 strings", "\x80\x02U\x01\xffT\x01\x00\x00\x00b\x86.", `("\xff" "b")`},
		{"bytes", "\x80\x03C\x01aB\x01\x00\x00\x00b\x8e\x01\x00\x00\x00\x00\x00\x00\x00c\x87.", `(b"a" b"b" b"c")`},
		{"tuple", "\x80\x02()K\x01\x85K\x02K\x03\x86(K\x04tt.", "(() (1) (2 3) (4))"},
		{"lists", "\x80\x02](K\x01K\x02eK\x03a(K\x04la.", "[1 2 3 [4]]"},
		{"dict", "\x80\x02}(X\x01\x00\x00\x00aK\x01K\x02NuX\x01\x00\x00\x00aK\x05s.", `{"a":5;2:<nil>;}`},
		{"dict from mark", "\x80\x02(K\x01K\x02d.", "{1:2;}"},
		{"sets", "\x80\x04\x8f(K\x01K\x02\x90(K\x03\x91\x86.", "(<1 2> <3>)"},
		{"memo", "\x80\x02]q\x05(h\x05K\x01er\x00\x01\x00\x000j\x00\x01\x00\x00.", "[[[[[[[[[… …] 1] 1] 1] 1] 1] 1] 1] 1]"},
		{"memoize", "\x80\x04K\x07\x94K\x08\x940h\x01\x86.", "(7 8)"},
		{"duplicate", "\x80\x02K\x012\x86.", "(1 1)"},
		{"pop mark", "\x80\x02K\x01(K\x02K\x031.", "1"},
		{"frame", "\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00N.", "<nil>"},
		{"global", "\x80\x02cos\nsystem\n.", "os.system"},
		{"opaque call", "\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R.", `obj os.system("x")`},
		{"opaque call by stack global", "\x80\x04\x8c\x02os\x8c\x06system\x93)R.", "obj os.system()"},
		{"opaque result called", "\x80\x02cos\nsystem\n)R)R.", "obj obj os.system()()"},
		{"opaque instance", "\x80\x02cm\nC\n)\x81}K\x01K\x02sb.", "obj m.C()|{1:2;}"},
		{"opaque instance with keywords", "\x80\x04cm\nC\n)}\x92.", "obj m.C()"},
		{"opaque container", "\x80\x02cm\nC\n)R(K\x01eK\x02a(K\x01K\x02uK\x03K\x04s.", "obj m.C()"},
		{"allowed call", "\x80\x02cm\nsum\nK\x01K\x02\x86R.", "3"},
		{"allowed name as a class stays opaque", "\x80\x02cm\nsum\nK\x01K\x02\x86\x81.", "obj m.sum(1 2)"},
		{"ordered dict with state", "\x80\x02ccollections\nOrderedDict\n)RK\x01K\x02s}K\x03K\x04sb.", "{1:2;|{3:4;}}"},
		{"persistent", "\x80\x02K\x07Q.", `"persistent 7"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v, err := decode(c.in, opt)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(v, 0); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	allowed := Options{Call: map[string]func([]any) (any, error){
		"m.bad": func([]any) (any, error) { return nil, errors.New("bad arguments") }}}
	cases := []struct {
		name, in string
		opt      Options
	}{
		{"empty", "", Options{}},
		{"no stop", "\x80\x02N", Options{}},
		{"stop without a value", "\x80\x02.", Options{}},
		{"stop at a mark", "\x80\x02(.", Options{}},
		{"values left", "\x80\x02NN.", Options{}},
		{"protocol 0", "\x80\x00N.", Options{}},
		{"protocol 9", "\x80\x09N.", Options{}},
		{"text integer", "I1\n.", Options{}},
		{"inst", "(ios\nsystem\n.", Options{}},
		{"obj", "(cos\nsystem\no.", Options{}},
		{"extension", "\x82\x01.", Options{}},
		{"text persistent id", "P0\n.", Options{}},
		{"next buffer", "\x97.", Options{}},
		{"string beyond the end", "\x80\x02X\xff\xff\xff\x7fab.", Options{}},
		{"string of 2^63", "\x80\x04\x8d\x00\x00\x00\x00\x00\x00\x00\x80.", Options{}},
		{"bytes of 2^64-1", "\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", Options{}},
		{"string is not UTF-8", "\x80\x02X\x01\x00\x00\x00\xff.", Options{}},
		{"long beyond the end", "\x80\x02\x8b\xff\xff\xff\x7f.", Options{}},
		{"long of -1 bytes", "\x80\x02\x8b\xff\xff\xff\xff.", Options{}},
		{"frame beyond the end", "\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00N.", Options{}},
		{"underflow", "\x80\x020.", Options{}},
		{"tuple underflow", "\x80\x02N\x86.", Options{}},
		{"tuple across a mark", "\x80\x02N(N\x86.", Options{}},
		{"no mark", "\x80\x02Nt.", Options{}},
		{"memo never written", "\x80\x02h\x00.", Options{}},
		{"memo of a mark", "\x80\x02(q\x00.", Options{}},
		{"key without a value", "\x80\x02}(Nu.", Options{}},
		{"list as a key", "\x80\x02}]Ns.", Options{}},
		{"entries of a list", "\x80\x02]NNs.", Options{}},
		{"items of a dict", "\x80\x02}Na.", Options{}},
		{"call of a string", "\x80\x02X\x01\x00\x00\x00a)R.", Options{}},
		{"arguments not a tuple", "\x80\x02cos\nsystem\nNR.", Options{}},
		{"state of a tuple", "\x80\x02)}b.", Options{}},
		{"global by numbers", "\x80\x04K\x01K\x02\x93.", Options{}},
		{"endless name", "\x80\x02c" + strings.Repeat("a", 4000) + "\nb\n.", Options{}},
		{"unfinished name", "\x80\x02cabc", Options{}},
		{"persistent id", "\x80\x02NQ.", Options{}},
		{"allowed function refuses", "\x80\x02cm\nbad\n)R.", allowed},
		{"deep lists", "\x80\x02" + strings.Repeat("]", 66) + strings.Repeat("a", 65) + ".", Options{}},
		{"deep tuples", "\x80\x02)" + strings.Repeat("\x85", 64) + ".", Options{}},
		{"deep dicts", "\x80\x02" + strings.Repeat("}N", 66) + strings.Repeat("s", 66) + ".", Options{}},
		{"deep objects", "\x80\x02cm\nC\n" + strings.Repeat(")R", 66) + ".", Options{}},
		{"opcodes", "\x80\x02" + strings.Repeat("N0", 50) + "N.", Options{Limits: Limits{Ops: 50}}},
		{"memo entries", "\x80\x04N\x94\x94\x94.", Options{Limits: Limits{Memo: 2}}},
		{"string limit", "\x80\x02X\x05\x00\x00\x00abcde.", Options{Limits: Limits{String: 4}}},
		{"integer limit", "\x80\x02\x8a\x03\x01\x02\x03.", Options{Limits: Limits{Int: 2}}},
		{"memory", "\x80\x02](" + strings.Repeat("N", 100) + "e.", Options{Limits: Limits{Memory: 1000}}},
		{"depth limit", "\x80\x02)\x85.", Options{Limits: Limits{Depth: 1}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if v, err := decode(c.in, c.opt); err == nil {
				t.Errorf("accepted: %s", show(v, 0))
			}
		})
	}
}

func TestDepthAtLimit(t *testing.T) {
	if _, err := decode("\x80\x02)"+strings.Repeat("\x85", 63)+".", Options{}); err != nil {
		t.Error(err)
	}
}

// TestOffsets decodes one of several pickles in a row.
func TestOffsets(t *testing.T) {
	s := "xx\x80\x02K\x01.\x80\x02K\x02.tail"
	v, next, err := Decode(strings.NewReader(s), 2, int64(len(s)), Options{})
	if err != nil || v != any(int64(1)) {
		t.Fatal(v, err)
	}
	v, next, err = Decode(strings.NewReader(s), next, int64(len(s)), Options{})
	if err != nil || v != any(int64(2)) || s[next:] != "tail" {
		t.Fatal(v, next, err)
	}
	if _, _, err := Decode(strings.NewReader(s), 2, 4, Options{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the end is not kept: %v", err)
	}
}

// TestLong crosses the read window inside names and strings.
func TestLong(t *testing.T) {
	text := strings.Repeat("abc", window)
	s := "\x80\x02(X" + string([]byte{byte(len(text)), byte(len(text) >> 8), byte(len(text) >> 16), 0}) + text
	s += "c" + strings.Repeat("m", 900) + "\nname\nt."
	v, err := decode(s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	items := v.(*Tuple).Items
	if items[0] != any(text) || !reflect.DeepEqual(items[1], &Global{strings.Repeat("m", 900), "name"}) {
		t.Error("differs")
	}
}

type brokenReader struct{}

var errRead = errors.New("read error")

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, errRead }

func TestReadError(t *testing.T) {
	if _, _, err := Decode(brokenReader{}, 0, 100, Options{}); !errors.Is(err, errRead) {
		t.Error(err)
	}
}

// TestMemory: hostile pickles cost what the limit says, not what they declare.
func TestMemory(t *testing.T) {
	copying := map[string]func([]any) (any, error){"m.copy": func(args []any) (any, error) { return Bytes(args[0].(string)), nil }}
	for name, s := range map[string]string{
		"copied by calls": "\x80\x02X\x00\x00\x10\x00" + strings.Repeat("x", 1<<20) + "\x85q\x000cm\ncopy\nq\x010(" +
			strings.Repeat("h\x01h\x00R", 200) + "l.",
		"declared string": "\x80\x02X\xff\xff\xff\x7f",
		"memo index":      "\x80\x02}r\xff\xff\xff\xff.",
		"many dicts":      "\x80\x02(" + strings.Repeat("}", 200_000) + "l.",
		"copied lists":    "\x80\x02]q\x00(" + strings.Repeat("h\x00", 1000) + strings.Repeat("e(", 1000) + ".",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = decode(s, Options{Limits: Limits{Memory: 4 << 20}, Call: copying})
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00b](K\x02K\x03eu.",
		"\x80\x02ccollections\nOrderedDict\n)R}K\x01K\x02sb.",
		"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x8c\x06system\x93)R.",
		"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ.",
		"\x80\x03\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00C\x01a\x86.",
	} {
		f.Add([]byte(s))
	}
	opt := Options{
		Limits:     Limits{Memory: 1 << 20, Ops: 10_000},
		Call:       map[string]func([]any) (any, error){"collections.OrderedDict": func([]any) (any, error) { return NewDict(), nil }},
		Persistent: func(id any) (any, error) { return id, nil },
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, next, err := Decode(bytes.NewReader(b), 0, int64(len(b)), opt)
		if next < 0 || next > int64(len(b)) {
			t.Fatalf("end at %d of %d", next, len(b))
		}
		if err == nil {
			_ = Describe(v)
		}
	})
}
