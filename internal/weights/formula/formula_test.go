package formula

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

func TestSplitmix(t *testing.T) {
	if got := splitmix64(0); got != 0xe220a8397b1dcdaf {
		t.Errorf("%#x", got)
	}
}

// TestDefinition compares every rule with the definition written out, operation by operation.
func TestDefinition(t *testing.T) {
	shape := []int{7, 5, 3, 3}
	for kind := Weight; kind <= Image; kind++ {
		got := make([]float32, 315)
		Fill(got, "café/x.weight", kind, shape, 0.7)
		for i, g := range got {
			u := float64(splitmix64(Hash("café/x.weight")+uint64(i))>>40) / 16777216
			s := 2*u - 1
			scale := 0.7 * math.Sqrt(6/45.0)
			want := map[Kind]float64{Weight: s * scale, Bias: s * 0.1, NormWeight: 0.5 + u, NormBias: s * 0.2,
				RunningMean: s * 0.2, RunningVar: 0.5 + u, Zero: 0, NonNegative: u * 0.1, Image: s}[kind]
			if g != float32(want) {
				t.Fatalf("kind %d, element %d: %v, want %v", kind, i, g, float32(want))
			}
		}
	}
}

// TestPage compares with the check values of the page that defines the formula, read from its tables.
func TestPage(t *testing.T) {
	f, err := os.Open(filepath.Join(golden.Dir(t), "formula.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kinds := map[string]Kind{"conv": Weight, "linear": Weight, "bias": Bias, "norm weight": NormWeight, "norm bias": NormBias,
		"running_mean": RunningMean, "running_var": RunningVar, "nonneg": NonNegative, "image": Image}
	hashes, tensors := 0, 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		cells := strings.Split(sc.Text(), "|")
		switch {
		case len(cells) == 6 && strings.HasPrefix(cells[1], " `") && len(cells[2]) == 20: // name, hash, r, u
			name := strings.Trim(cells[1], " `")
			h := Hash(name)
			if want := strings.Trim(cells[2], " `"); fmt.Sprintf("%016x", h) != want {
				t.Errorf("hash of %q: %016x, want %s", name, h, want)
			}
			us := strings.Fields(cells[4])
			for i, r := range strings.Fields(cells[3]) {
				got := splitmix64(h + uint64(i))
				if fmt.Sprintf("`%016x`", got) != r || strconv.FormatUint(got>>40, 10) != us[i] {
					t.Errorf("%q, element %d: %016x %d, want %s %s", name, i, got, got>>40, r, us[i])
				}
			}
			hashes++
		case len(cells) == 5 && strings.Contains(cells[1], "["): // kind `name` [shape], values, bits
			parts := strings.SplitN(cells[1], "`", 3)
			kind, ok := kinds[strings.TrimSpace(parts[0])]
			if !ok {
				t.Errorf("unknown kind in %q", cells[1])
				continue
			}
			dims, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(parts[2]), "["), "]")
			shape, n := []int{}, 1
			for _, d := range strings.Split(dims, ",") {
				v, err := strconv.Atoi(d)
				if err != nil {
					t.Fatal(err)
				}
				shape, n = append(shape, v), n*v
			}
			gain := 1.0
			if strings.Contains(rest, "gain 0.7") {
				gain = 0.7
			}
			got := make([]float32, n)
			Fill(got, parts[1], kind, shape, gain)
			var bits []string
			for _, v := range got[:4] {
				bits = append(bits, fmt.Sprintf("%08x", math.Float32bits(v)))
			}
			if want := strings.Trim(cells[3], " `"); strings.Join(bits, " ") != want {
				t.Errorf("%s: %s, want %s", cells[1], bits, want)
			}
			tensors++
		}
	}
	if hashes < 6 || tensors < 10 {
		t.Errorf("%d hashes and %d tensors found on the page", hashes, tensors)
	}
}

func TestDigest(t *testing.T) {
	shape := []int{64, 32, 3, 3}
	v := make([]float32, 64*32*9)
	Fill(v, "sha.weight", Weight, shape, 1)
	h := sha256.New()
	for _, x := range v {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
		h.Write(b[:])
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != "a2cf7b55c19accb10ed655f81da2d95f6069b66711804121d7b846b8697b1bc0" {
		t.Error(got)
	}
	if got := Label("y", 10, 6); !slices.Equal(got, []int{8, 5, 7, 2, 5, 1}) {
		t.Errorf("labels %v", got)
	}
}

// TestParallel: the split must not show.
func TestParallel(t *testing.T) {
	n := 1<<20 + 7
	a := make([]float32, n)
	Fill(a, "x", Bias, []int{n}, 1)
	for _, i := range []int{0, n / 2, n/2 - 1, n - 1} {
		u := float64(splitmix64(Hash("x")+uint64(i))>>40) / 16777216
		if a[i] != float32((2*u-1)*0.1) {
			t.Errorf("element %d", i)
		}
	}
}

func TestKindOf(t *testing.T) {
	ranks := map[string]int{"n.weight": 1, "c.weight": 4, "l.weight": 2}
	rank := func(n string) (int, bool) { r, ok := ranks[n]; return r, ok }
	cases := []struct {
		name string
		rank int
		want Kind
	}{
		{"n.weight", 1, NormWeight}, {"n.bias", 1, NormBias}, {"c.weight", 4, Weight}, {"c.bias", 1, Bias}, {"l.bias", 1, Bias},
		{"alone.bias", 1, Bias}, {"b.running_mean", 1, RunningMean}, {"b.running_var", 1, RunningVar},
		{"b.num_batches_tracked", 0, Zero}, {"logvar", 0, Bias}, {"weight", 1, NormWeight}, {"emb.weight", 2, Weight},
	}
	for _, c := range cases {
		if got := KindOf(c.name, c.rank, rank); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestSource(t *testing.T) {
	keys, err := ParseKeys(strings.NewReader("# a comment\nn.weight 4\nn.bias 4\nc.weight 2x3x1x1\nb.num_batches_tracked scalar\n\nx\t[2, 2]\ns\t[]\n"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Source{Prefix: "case/", Gain: 0.7}.File(keys)
	if err != nil {
		t.Fatal(err)
	}
	b, err := weights.Bind(f, keys, weights.BindOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i, kind := range []Kind{NormWeight, NormBias, Weight, Zero, Weight, Bias} {
		x := b.Tensors[keys[i].Name]
		want := make([]float32, x.NumElements())
		Fill(want, "case/"+keys[i].Name, kind, keys[i].Shape, 0.7)
		got, err := x.Values()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v (%v)", x.Name, got, want, err)
		}
	}
	if b.Tensors[keys[3].Name].DType != weights.I64 {
		t.Error("a counter is not an integer")
	}
}

func TestParseKeysRefuses(t *testing.T) {
	for _, s := range []string{"name", "name 1xx2", "name -1", "name [1, 2]x", "name\t[1,2]", " 3", "name\t[1"} {
		if k, err := ParseKeys(strings.NewReader(s)); err == nil {
			t.Errorf("%q: %v", s, k)
		}
	}
}

// TestGoldenKeys reads the list of every case of the reference vectors.
func TestGoldenKeys(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(golden.Dir(t), "*", "*", "keys.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d lists, %v", len(files), err)
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := ParseKeys(f)
		f.Close()
		if err != nil || len(keys) == 0 {
			t.Errorf("%s: %d keys, %v", path, len(keys), err)
			continue
		}
		if _, err := (Source{}).File(keys); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func BenchmarkFill(b *testing.B) {
	dst := make([]float32, 1<<22)
	b.SetBytes(int64(4 * len(dst)))
	for b.Loop() {
		Fill(dst, "w", Weight, []int{1 << 11, 1 << 11}, 1)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("a.weight 2x3\n# c\nb\t[4, 5]\ns scalar\n")
	f.Fuzz(func(t *testing.T, s string) {
		keys, err := ParseKeys(strings.NewReader(s))
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.Name == "" || slices.ContainsFunc(k.Shape, func(n int) bool { return n < 0 }) {
				t.Fatalf("%+v", k)
			}
		}
		_, _ = Source{}.File(keys) // names may repeat and sizes overflow: an error, no panic
	})
}
