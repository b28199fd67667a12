package stats

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/part"
)

var meta = Meta{"clean-fid", "pil-bicubic", "inception", "ab", "2 classes, sha256 cd", ""}

func example() []Set {
	class := int64(7)
	return []Set{
		{"2048", 2, nil, 5, []float64{1, 2}, []float64{3, 4, 5}, []byte{1, 2, 3}},
		{"2048", 2, &class, 1, []float64{1, 2}, nil, nil},
		{"64", 1, &class, 0, nil, nil, []byte{}},
		{"64", 1, nil, 2, []float64{7}, []float64{8}, nil},
	}
}

func seq(sets ...Set) iter.Seq2[Set, error] {
	return func(yield func(Set, error) bool) {
		for _, s := range sets {
			if !yield(s, nil) {
				return
			}
		}
	}
}

func written(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, meta, seq(example()...)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.arrow")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRoundTrip(t *testing.T) {
	b := written(t)
	if !bytes.Equal(b, written(t)) {
		t.Error("the same sets gave other bytes")
	}
	h := sha256.Sum256(b)
	path, want := file(t, b), part.Expect{Size: int64(len(b)), SHA256: hex.EncodeToString(h[:])}
	for _, w := range []*part.Expect{nil, &want} {
		f, err := Read(path, w)
		if err != nil {
			t.Fatal(err)
		}
		if f.Meta != meta || !reflect.DeepEqual(f.Sets, example()) {
			t.Errorf("read %+v, wrote %+v", f, example())
		}
	}
	b[len(b)/2] ^= 1
	if _, err := Read(file(t, b), &want); exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for _, f := range meta.fields() {
		o := meta
		for _, g := range o.fields() {
			if g.key == f.key {
				*g.value = "other"
			}
		}
		err := meta.Check(o)
		if f.compare != (err != nil) || err != nil && (!strings.Contains(err.Error(), f.key) || exitcode.Of(err) != exitcode.Data) {
			t.Errorf("%s differs: %v", f.key, err)
		}
	}
	if err := meta.Check(Meta{Protocol: "clean-fid"}); err != nil {
		t.Error(err)
	}
	if u := (Meta{Protocol: "adm"}).Unknown(); !reflect.DeepEqual(u, []string{"extractor", "extractor_sha256", "resize"}) {
		t.Errorf("unknown %v", u)
	}
}

type failing struct{ left int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	for n := 0; ; n++ {
		err := Write(&failing{n}, meta, seq(example()...))
		if err == nil {
			if n < 5 {
				t.Errorf("only %d writes", n)
			}
			break
		}
		if !errors.Is(err, errFull) {
			t.Errorf("write %d: %v", n, err)
		}
	}
	for name, s := range map[string]Set{
		"mean":              {Features: 2, Rows: 2, Mean: []float64{1}, Covariance: []float64{1, 2, 3}},
		"no mean":           {Features: 2, Rows: 2, Covariance: []float64{1, 2, 3}},
		"covariance":        {Features: 2, Rows: 2, Mean: []float64{1, 2}, Covariance: []float64{1, 2, 3, 4}},
		"covariance of one": {Features: 2, Rows: 1, Mean: []float64{1, 2}, Covariance: []float64{1, 2, 3}},
		"no features":       {},
		"rows are negative": {Features: 2, Rows: -1},
	} {
		if err := Write(io.Discard, meta, seq(s)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	failed := errors.New("no more")
	if err := Write(io.Discard, meta, func(yield func(Set, error) bool) { yield(Set{}, failed) }); !errors.Is(err, failed) {
		t.Errorf("a failed set: %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	b := written(t)
	for name, b := range map[string][]byte{"empty": nil, "text": []byte("mu, sigma"), "cut": b[:len(b)-9],
		"format": bytes.ReplaceAll(b, []byte("statistics/1"), []byte("statistics/9")), "column": bytes.ReplaceAll(b, []byte("features"), []byte("featurez"))} {
		if _, err := Read(file(t, b), nil); exitcode.Of(err) != exitcode.Data {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClassTable(t *testing.T) {
	a, b := ClassTable([]string{"cat", "dog"}), ClassTable([]string{"catd", "og"})
	if a == b || !strings.HasPrefix(a, "2 classes") || ClassTable(nil) != "" || a != ClassTable([]string{"cat", "dog"}) {
		t.Errorf("%q, %q", a, b)
	}
}
