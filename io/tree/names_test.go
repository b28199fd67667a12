package tree

import (
	"fmt"
	"io/fs"
	"math/rand"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("é", 150)
	for _, c := range []struct {
		name     string
		in, want []string
	}{
		{"replaced and kept", []string{"a.jpg", "b/c.PNG", "b/d.v2", "photo", "x.tar.gif", ".png", "b/.webp"},
			[]string{"a.png", "b/c.png", "b/d.v2.png", "photo.png", "x.tar.png", ".png.png", "b/.webp.png"}},
		{"two formats", []string{"a.png", "a.jpg", "b.jpg"}, []string{"a.png.png", "a.jpg.png", "b.png"}},
		{"case", []string{"a.png", "A.jpg"}, []string{"a.png.png", "A.jpg.png"}},
		{"case alone", []string{"a.png", "A.png"}, []string{"a~" + hash("a.png")[:12] + ".png", "A~" + hash("A.png")[:12] + ".png"}},
		{"taken by another", []string{"a.png", "a.jpg", "a.jpg.png"}, []string{"a.png.png", "a~" + hash("a.jpg")[:12] + ".png", "a.jpg.png.png"}},
		{"equal", []string{"a.png", "a.png", "b/a.png", "a.png"}, []string{"a.png", "a~2.png", "b/a.png", "a~3.png"}},
		{"a file like a folder", []string{"a.png/x.gif", "a.jpg"}, []string{"a.png/x.png", "a.jpg.png"}},
		{"out of the tree", []string{"../a.png", "/etc/b.png", "c/../../d.png", "./e.png", "f//g.png", "..", "/", ""},
			[]string{"%2E%2E/a.png", "etc/b.png", "c/%2E%2E/%2E%2E/d.png", "e.png", "f/g.png", "%2E..png", "_.png", "_~" + hash("")[:12] + ".png"}},
		{"forbidden", []string{"a\x00b.png", `c\d:e.png`, "con/nul.png", "COM1.txt", "com10.png", "x /y./z .png", "100%.png", "50%25.png", "\xff.png", "tab\t.png"},
			[]string{"a%00b.png", "c%5Cd%3Ae.png", "%63on/%6Eul.png", "%43OM1.txt.png", "com10.png", "x%20/y%2E/z .png", "100%.png", "50%2525.png", "%FF.png", "tab%09.png"}},
		{"long", []string{long + "/" + long + ".jpg"},
			[]string{strings.Repeat("é", 91) + "~" + hash(long)[:16] + "/" + strings.Repeat("é", 89) + "~" + hash(long)[:16] + ".png"}},
		{"deep", []string{strings.Repeat("abcdefgh/", 200) + "a.jpg"}, []string{"~" + hash(strings.TrimSuffix(strings.Repeat("abcdefgh/", 200), "/"))[:16] + "/a.png"}},
	} {
		got := Names(c.in, "png")
		if c.name == "out of the tree" { // both are without a name
			c.want[6] = "_~" + hash("/")[:12] + ".png"
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q\nwant %q", c.name, got, c.want)
		}
		wantSound(t, c.in, got)
	}
	if got := Names([]string{"a.png"}, "jpeg"); got[0] != "a.jpg" {
		t.Errorf("jpeg: %v", got)
	}
}

// wantSound checks what every list of names must be.
func wantSound(t *testing.T, in, got []string) {
	t.Helper()
	if len(got) != len(in) {
		t.Fatalf("%d names of %d", len(got), len(in))
	}
	files := map[string]bool{}
	for i, n := range got {
		if !fs.ValidPath(n) || !utf8.ValidString(n) || len(n) > maxName {
			t.Errorf("%q gives %q", in[i], n)
		}
		if files[fold(n)] {
			t.Errorf("%q gives %q, as another does", in[i], n)
		}
		files[fold(n)] = true
		for c := range strings.SplitSeq(n, "/") {
			if len(c) > maxComponent || c == ".." || isDevice(c) || strings.ContainsAny(c, forbidden+"\x00\x1f\x7f") || strings.HasSuffix(c, ".") || strings.HasSuffix(c, " ") {
				t.Errorf("%q gives %q with the component %q", in[i], n, c)
			}
		}
	}
	for _, n := range got {
		for dir := path.Dir(n); dir != "."; dir = path.Dir(dir) {
			if files[fold(dir)] {
				t.Errorf("%q is a file and a folder", dir)
			}
		}
	}
}

// TestNamesOrder shuffles a list full of conflicts.
func TestNamesOrder(t *testing.T) {
	var in []string
	for i := range 40 {
		for _, e := range []string{".png", ".PNG", ".jpg", "", ".png.png", ".jpg.png", "/a.png", "~2.png"} {
			in = append(in, fmt.Sprintf("d/%c%s", 'a'+i%20+i/20*('A'-'a'), e))
		}
	}
	want := map[string]string{}
	for i, n := range Names(in, "png") {
		want[in[i]] = n
	}
	rng := rand.New(rand.NewSource(1))
	for range 10 {
		rng.Shuffle(len(in), func(i, j int) { in[i], in[j] = in[j], in[i] })
		got := Names(in, "png")
		wantSound(t, in, got)
		for i, n := range got {
			if n != want[in[i]] {
				t.Fatalf("%q gives %q, in another order %q", in[i], n, want[in[i]])
			}
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add("a.png\na.jpg\n../A.PNG\ncon\nx/\x00", "a.jpg.png")
	f.Add(strings.Repeat("%41", 80)+"/"+strings.Repeat("ä", 120), "a/b/../c. ")
	f.Add(strings.Repeat("d/", 600), "lpt¹.gif\n\xff\xfe")
	f.Fuzz(func(t *testing.T, a, b string) {
		in := append(strings.Split(a, "\n"), b)
		got := Names(in, "png")
		wantSound(t, in, got)
		back := slices.Clone(in)
		slices.Reverse(back)
		again := Names(back, "png")
		slices.Reverse(again)
		distinct := slices.Sorted(slices.Values(in))
		if len(slices.Compact(distinct)) == len(in) && !slices.Equal(got, again) {
			t.Errorf("%q: %q, in the other order %q", in, got, again)
		}
		if e := escape(b, ""); Unescape(e) != b {
			t.Errorf("%q is spelled %q, which is %q", b, e, Unescape(e))
		}
	})
}

func BenchmarkNames(b *testing.B) {
	in := make([]string, 100000)
	for i := range in {
		in[i] = fmt.Sprintf("train/n%04d/image-%08d.jpeg", i%1000, i)
	}
	for b.Loop() {
		Names(in, "png")
	}
}
