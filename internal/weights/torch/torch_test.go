package torch

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
	"github.com/ldm-batch/ldm-batch/internal/weights/mapped"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// rec is a record of an archive under construction.
type rec struct {
	name string
	data []byte
}

func archive(t testing.TB, method uint16, recs ...rec) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, r := range recs {
		f, err := w.CreateHeader(&zip.FileHeader{Name: r.name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(r.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Pieces of pickles.
func str(s string) string { return "X" + string([]byte{byte(len(s)), byte(len(s) >> 8), 0, 0}) + s }

func tensorOf(class, key string, numel byte, size, stride string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n((" + str("storage") + "ctorch\n" + class + "\n" + str(key) + str("cpu") +
		"K" + string([]byte{numel}) + "tQK\x00" + size + stride + "\x89ccollections\nOrderedDict\n)RtR"
}

func f32(key string) string { return tensorOf("FloatStorage", key, 2, "K\x02\x85", "K\x01\x85") }

func dict(pairs ...string) string {
	s := "}("
	for i := 0; i < len(pairs); i += 2 {
		s += str(pairs[i]) + pairs[i+1]
	}
	return s + "u"
}

// script is a module of a TorchScript archive.
func script(class string, attributes ...string) string {
	return "c__torch__" + class + "\n)\x81" + dict(attributes...) + "b"
}

var eight = []byte{0, 0, 128, 63, 0, 0, 0, 64} // 1, 2

func checkpoint(t testing.TB, root string, more ...rec) []byte {
	return archive(t, zip.Store, append([]rec{{"a/data.pkl", []byte("\x80\x02" + root + ".")}, {"a/data/0", eight}}, more...)...)
}

func names(c *Checkpoint) string {
	var s []string
	for _, t := range c.Tensors {
		s = append(s, t.Name)
	}
	return strings.Join(s, " ")
}

func TestZip(t *testing.T) {
	cases := []struct {
		name string
		file []byte
		want string // tensor names
	}{
		{"bare", checkpoint(t, dict("w", f32("0"))), "w"},
		{"wrapped", checkpoint(t, dict("epoch", "K\x07", "state_dict", dict("w", f32("0")))), "w"},
		{"shared", checkpoint(t, dict("a", f32("0"), "b", f32("0"))), "a b"},
		{"integer keys", checkpoint(t, dict("a", "}K\x05"+f32("0")+"s")), "a.5"},
		{"foreign key", checkpoint(t, dict("a", "}cm\nC\n"+f32("0")+"s", "b", f32("0"))), "b"},
		{"foreign value", checkpoint(t, dict("a", "cm\nC\n)R", "b", f32("0"))), "b"},
		{"old cuda class", checkpoint(t, dict("w", strings.ReplaceAll(f32("0"), "ctorch\nF", "ctorch.cuda\nF"))), "w"},
		{"no folder", archive(t, zip.Store, rec{"data.pkl", []byte("\x80\x02" + dict("w", f32("0")) + ".")}, rec{"data/0", eight}), "w"},
		{"byte order", checkpoint(t, dict("w", f32("0")), rec{"a/byteorder", []byte("little")}), "w"},
		{"broken tensor outside the state dict", checkpoint(t, dict("state_dict", dict("w", f32("0")), "x",
			tensorOf("FloatStorage", "0", 2, "K\x09\x85", "K\x01\x85"))), "w"},
		{"script", checkpoint(t, script("\nM", "training", "\x89", "conv", script(".a\nConv", "weight", f32("0"), "k", "K\x03"), "bias", f32("0")),
			rec{"a/constants.pkl", nil}, rec{"a/code/__torch__.py", []byte("x")}), "conv.weight bias"},
		{"pairs", checkpoint(t, "ccollections\nOrderedDict\n](]("+str("w")+f32("0")+"eea\x85R"), ""},
		{"python 2 pairs", checkpoint(t, "ccollections\nOrderedDict\n](]("+str("w")+f32("0")+"ee\x85R"), "w"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadZip(tensor.Memory(c.file), Limits{})
			if c.want == "" {
				if err == nil {
					t.Error("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if names(got) != c.want {
				t.Errorf("tensors %q, want %q", names(got), c.want)
			}
			for _, x := range got.Tensors {
				if v, err := x.Values(); err != nil || !slices.Equal(v, []float32{1, 2}) {
					t.Errorf("%s: %v, %v", x.Name, v, err)
				}
			}
		})
	}
}

func TestZipRefuses(t *testing.T) {
	w := dict("w", f32("0"))
	good := checkpoint(t, w)
	patch := func(old, repl string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%q is not in the file", old)
		}
		return bytes.Replace(good, []byte(old), []byte(repl), 1)
	}
	cases := []struct {
		name string
		file []byte
		want string
	}{
		{"compressed", archive(t, zip.Deflate, rec{"a/data.pkl", []byte("\x80\x02" + w + ".")}, rec{"a/data/0", eight}), "compressed"},
		{"record twice", archive(t, zip.Store, rec{"a/data.pkl", []byte("N.")}, rec{"a/data.pkl", []byte("N.")}), "twice"},
		{"two roots", archive(t, zip.Store, rec{"a/data.pkl", []byte("N.")}, rec{"b/data.pkl", []byte("N.")}), "more than one"},
		{"no pickle", archive(t, zip.Store, rec{"a/b", []byte("N.")}), "without data.pkl"},
		{"nothing", archive(t, zip.Store), "without data.pkl"},
		{"big-endian", checkpoint(t, w, rec{"a/byteorder", []byte("big")}), "byte order"},
		{"module without tensors", checkpoint(t, script("\nM", "training", "\x89")), "no tensor"},
		{"module in itself", checkpoint(t, "c__torch__\nM\n)\x81q\x00}"+str("x")+"h\x00s"+"b"), "contains itself"},
		{"object of another kind", checkpoint(t, "c__main__\nM\n)\x81}"+str("w")+f32("0")+"sb"), "in place of"},
		{"missing record", checkpoint(t, dict("w", f32("1"))), "missing"},
		{"key with a path", checkpoint(t, dict("w", f32("../0"))), "plain"},
		{"empty key", checkpoint(t, dict("w", f32(""))), "plain"},
		{"short record", checkpoint(t, dict("w", tensorOf("DoubleStorage", "0", 2, "K\x02\x85", "K\x01\x85"))), "8 bytes"},
		{"unknown storage", checkpoint(t, dict("w", tensorOf("ComplexFloatStorage", "0", 1, "K\x01\x85", "K\x01\x85"))), "not supported"},
		{"unknown tensor", checkpoint(t, dict("w", "ctorch._utils\n_rebuild_sparse_tensor\n)R")), "not supported"},
		{"tensor of nothing", checkpoint(t, dict("w", "ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR")), "arguments"},
		{"tensor of too little", checkpoint(t, dict("w", "ctorch._utils\n_rebuild_tensor_v2\n)R")), "arguments"},
		{"size is a string", checkpoint(t, dict("w", tensorOf("FloatStorage", "0", 2, str("a")+"\x85", "K\x01\x85"))), "size is a string"},
		{"parameter of a string", checkpoint(t, dict("w", "ctorch._utils\n_rebuild_parameter\n"+str("a")+"\x88N\x87R")), "not a tensor"},
		{"strange persistent id", checkpoint(t, dict("w", "NQ")), "persistent"},
		{"persistent bytes", checkpoint(t, dict("w", "(C\x01aNNNNtQ")), "persistent"},
		{"no tensor", checkpoint(t, "}"), "no tensor"},
		{"a tensor alone", checkpoint(t, f32("0")), "in place of"},
		{"twice", checkpoint(t, dict("a.b", f32("0"), "a", dict("b", f32("0")))), "twice"},
		{"contains itself", checkpoint(t, "}q\x00"+str("w")+f32("0")+"s"+str("x")+"h\x00s"), "contains itself"},
		{"laughs", checkpoint(t, laughter()), "too many"},
		{"damaged pickle", patch("_rebuild_tensor_v2", "_rebuild_tensor_v3"), "CRC"},
		{"damaged name", patch("a/data/0", "a/data/1"), "local header"},
		{"comment", append(slices.Clone(good), 0), "central directory"},
		{"cut", good[:len(good)-1], "central directory"},
		{"head only", good[:30], "central directory"},
		{"empty", nil, "central directory"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadZip(tensor.Memory(c.file), Limits{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q (%+v)", err, c.want, got)
			}
		})
	}
}

// laughter is a dict whose only entry is a list of ten times the list of ten times the list …, 30 levels down to a tensor-less list.
func laughter() string {
	s := str("x") + "]q\x00"
	for i := range 30 {
		s += "0](" + strings.Repeat("h"+string([]byte{byte(i)}), 10) + "eq" + string([]byte{byte(i + 1)})
	}
	return "}" + s + "s"
}

// TestDirectory alters single fields of the end record and of the directory.
func TestDirectory(t *testing.T) {
	good := checkpoint(t, dict("w", f32("0")))
	end := len(good) - endSize
	dir := int(binary.LittleEndian.Uint32(good[end+16:]))
	second := dir + bytes.Index(good[dir:], []byte("a/data/0")) - centralSize
	cases := []struct {
		name string
		at   int
		val  []byte
	}{
		{"volumes", end + 4, []byte{1, 0}},
		{"entries on this volume", end + 8, []byte{1, 0}},
		{"too many entries", end + 8, []byte{9, 0, 9, 0}},
		{"entries 64-bit", end + 10, []byte{0xff, 0xff}},
		{"directory size", end + 12, []byte{0xf0, 0xff, 0xff, 0x7f}},
		{"directory offset", end + 16, []byte{0xf0, 0xff, 0xff, 0x7f}},
		{"directory 64-bit", end + 16, []byte{0xff, 0xff, 0xff, 0xff}},
		{"signature", dir, []byte{0}},
		{"name length", dir + 28, []byte{0xff, 0xff}},
		{"encrypted", dir + 8, []byte{1}},
		{"size", second + 20, []byte{0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f}},
		{"sizes differ", second + 20, []byte{7}},
		{"header offset", second + 42, []byte{0xff, 0xff, 0xff, 0x7f}},
		{"header offset 64-bit", second + 42, []byte{0xff, 0xff, 0xff, 0xff}},
		{"header elsewhere", second + 42, []byte{0, 0, 0, 0}},
		{"name not UTF-8", second + centralSize, []byte{0xff}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := slices.Clone(good)
			copy(b[c.at:], c.val)
			if _, err := ReadZip(tensor.Memory(b), Limits{}); err == nil {
				t.Error("accepted")
			}
		})
	}
	for name, lim := range map[string]ZipLimits{"entries": {Entries: 1}, "directory": {Directory: 50}} {
		if _, err := ReadZip(tensor.Memory(good), Limits{Zip: lim}); err == nil {
			t.Errorf("limit %s has no effect", name)
		}
	}
	for name, lim := range map[string]tensor.Limits{"bytes": {Bytes: 7}, "total": {TotalBytes: 7}} {
		if _, err := ReadZip(tensor.Memory(good), Limits{Tensor: lim}); err == nil {
			t.Errorf("limit %s has no effect", name)
		}
	}
}

func TestOverlap(t *testing.T) {
	good := checkpoint(t, dict("w", f32("0")), rec{"a/data/1", eight})
	end := len(good) - endSize
	dir := int(binary.LittleEndian.Uint32(good[end+16:]))
	entry := dir + bytes.Index(good[dir:], []byte("a/data/0")) - centralSize
	n := binary.LittleEndian.Uint32(good[entry+24:]) + 20
	binary.LittleEndian.PutUint32(good[entry+20:], n)
	binary.LittleEndian.PutUint32(good[entry+24:], n)
	if _, err := ReadZip(tensor.Memory(good), Limits{}); err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Error(err)
	}
}

// TestZip64 reads a sparse archive of more than 4 GiB, with a hole for a record and 64-bit fields behind it.
func TestZip64(t *testing.T) {
	le := binary.LittleEndian
	const hole = 5 << 30
	path := filepath.Join(t.TempDir(), "big.ckpt")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pkl := []byte("\x80\x02" + dict("w", f32("1")) + ".")
	var central []byte
	pos := int64(0)
	for _, r := range []struct {
		name string
		data []byte
		size int64
	}{{"a/data.pkl", pkl, int64(len(pkl))}, {"a/data/0", nil, hole}, {"a/data/1", eight, 8}} {
		local := make([]byte, localSize)
		le.PutUint32(local, 0x04034b50)
		le.PutUint16(local[26:], uint16(len(r.name)))
		local = append(append(local, r.name...), r.data...)
		if _, err := f.WriteAt(local, pos); err != nil {
			t.Fatal(err)
		}
		c := make([]byte, centralSize)
		le.PutUint32(c, 0x02014b50)
		le.PutUint32(c[16:], crc32.ChecksumIEEE(r.data))
		for _, at := range []int{20, 24, 42} {
			le.PutUint32(c[at:], max32)
		}
		le.PutUint16(c[28:], uint16(len(r.name)))
		le.PutUint16(c[30:], 28)
		c = append(c, r.name...)
		c = le.AppendUint16(le.AppendUint16(c, 1), 24)
		c = le.AppendUint64(le.AppendUint64(le.AppendUint64(c, uint64(r.size)), uint64(r.size)), uint64(pos))
		central = append(central, c...)
		pos += localSize + int64(len(r.name)) + r.size
	}
	tail := slices.Clone(central)
	e := make([]byte, end64Size)
	le.PutUint32(e, 0x06064b50)
	le.PutUint64(e[32:], 3)
	le.PutUint64(e[40:], uint64(len(central)))
	le.PutUint64(e[48:], uint64(pos))
	tail = append(tail, e...)
	l := make([]byte, locatorSize)
	le.PutUint32(l, 0x07064b50)
	le.PutUint64(l[8:], uint64(pos)+uint64(len(central)))
	tail = append(tail, l...)
	z := make([]byte, endSize)
	le.PutUint32(z, 0x06054b50)
	for i := 8; i < 20; i++ {
		z[i] = 0xff
	}
	if _, err := f.WriteAt(append(tail, z...), pos); err != nil {
		t.Fatal(err)
	}
	m, err := mapped.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, err := ReadZip(m, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Tensors[0].Values(); err != nil || !slices.Equal(v, []float32{1, 2}) {
		t.Error(v, err)
	}
}

func legacy(object, keys string, storages ...string) []byte {
	s := "\x80\x02" + string(magic) + "\x80\x02M\xe9\x03.\x80\x02" + dict("little_endian", "\x88") + ".\x80\x02" + object + ".\x80\x02" + keys + "."
	return []byte(s + strings.Join(storages, ""))
}

func TestLegacy(t *testing.T) {
	count := func(n byte) string { return string([]byte{n, 0, 0, 0, 0, 0, 0, 0}) }
	object, keys := dict("w", f32("0")), "]"+str("0")+"a"
	view := "(" + str("1") + "K\x01K\x01t"
	viewed := dict("w", strings.Replace(tensorOf("FloatStorage", "0", 2, "K\x01\x85", "K\x01\x85"), "K\x02tQ", "K\x02"+view+"tQ", 1))
	cases := []struct {
		name string
		file []byte
		want []float32 // nil: refused
	}{
		{"plain", legacy(object, keys, count(2)+string(eight)), []float32{1, 2}},
		{"storage view", legacy(viewed, keys, count(2)+string(eight)), []float32{2}},
		{"view leaves its storage", bytes.Replace(legacy(viewed, keys, count(2)+string(eight)), []byte("K\x01K\x01t"), []byte("K\x02K\x01t"), 1), nil},
		{"big-endian", bytes.Replace(legacy(object, keys, count(2)+string(eight)), []byte("endian\x88"), []byte("endian\x89"), 1), nil},
		{"other protocol", bytes.Replace(legacy(object, keys, count(2)+string(eight)), []byte("M\xe9\x03"), []byte("M\xea\x03"), 1), nil},
		{"short data", legacy(object, keys, count(2)+string(eight[:7])), nil},
		{"short count", legacy(object, keys, count(2)[:7]), nil},
		{"other count", legacy(object, keys, count(1)+string(eight)), nil},
		{"negative count", legacy(object, keys, "\xff\xff\xff\xff\xff\xff\xff\xff"+string(eight)), nil},
		{"unknown key", legacy(object, "]"+str("1")+"a", count(2)+string(eight)), nil},
		{"repeated key", legacy(object, "]("+str("0")+str("0")+"e", count(2)+string(eight), count(2)+string(eight)), nil},
		{"key not listed", legacy(object, "]", count(2)+string(eight)), nil},
		{"keys are no list", legacy(object, "}", count(2)+string(eight)), nil},
		{"storage of two types", legacy(dict("w", f32("0"), "v", tensorOf("HalfStorage", "0", 2, "K\x01\x85", "K\x01\x85")), keys, count(2)+string(eight)), nil},
		{"no object", legacy(object, keys)[:20], nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if !IsLegacy(c.file[:15]) {
				t.Error("not recognised")
			}
			got, err := ReadLegacy(tensor.Memory(c.file), Limits{})
			if c.want == nil {
				if err == nil {
					t.Error("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if v, err := got.Tensors[0].Values(); err != nil || !slices.Equal(v, c.want) {
				t.Errorf("%v, %v", v, err)
			}
		})
	}
}

func TestMetadata(t *testing.T) {
	c, err := ReadZip(tensor.Memory(checkpoint(t, dict("epoch", "K\x07", "name", str("é"), "rate", "G\x3f\xd0\x00\x00\x00\x00\x00\x00",
		"flag", "\x88", "big", "\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00", "list", "]", "state_dict", dict("w", f32("0"), "x", "cm\nC\n)R")))), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(c.Metadata), "map[big:9223372036854775808 epoch:7 flag:true name:é rate:0.25]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(c.Skipped) != 1 || !strings.Contains(c.Skipped[0], `"m.C"`) {
		t.Errorf("skipped %v", c.Skipped)
	}
}

// TestNumpy reads arrays in both orders.
func TestNumpy(t *testing.T) {
	arr := func(code, order, shape, data string) string {
		return "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01" + shape + "cnumpy\ndtype\n" + str(code) +
			"\x89\x88\x87R(K\x03" + str("<") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + order + "C" + string([]byte{byte(len(data))}) + data + "tb"
	}
	cases := []struct {
		name, value string
		want        []float32 // nil: refused
	}{
		{"rows", arr("u1", "\x89", "K\x02K\x03\x86", "\x01\x02\x03\x04\x05\x06"), []float32{1, 2, 3, 4, 5, 6}},
		{"columns", arr("u1", "\x88", "K\x02K\x03\x86", "\x01\x04\x02\x05\x03\x06"), []float32{1, 2, 3, 4, 5, 6}},
		{"float64", arr("f8", "\x89", ")", "\x00\x00\x00\x00\x00\x00\xd0\x3f"), []float32{0.25}},
		{"short", arr("u1", "\x89", "K\x02K\x03\x86", "\x01"), nil},
		{"negative", arr("u1", "\x89", "J\xff\xff\xff\xff\x85", "\x01"), nil},
		{"shape of strings", arr("u1", "\x89", str("a")+"\x85", "\x01"), nil},
		{"overflow", arr("u1", "\x89", "J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x87", "\x01"), nil},
		{"other type", arr("O8", "\x89", "K\x01\x85", "\x01"), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadZip(tensor.Memory(checkpoint(t, dict("x", c.value))), Limits{})
			if c.want == nil {
				if err == nil {
					t.Errorf("accepted: %v", names(got))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if v, err := got.Tensors[0].Values(); err != nil || !slices.Equal(v, c.want) {
				t.Errorf("%v, %v", v, err)
			}
		})
	}
}

// FuzzRead takes any bytes as either container. Accepted tensors must be readable or give an error, within the limits.
func FuzzRead(f *testing.F) {
	f.Add(checkpoint(f, dict("epoch", "K\x07", "state_dict", dict("w", f32("0")))))
	f.Add(legacy(dict("w", f32("0")), "]"+str("0")+"a", "\x02\x00\x00\x00\x00\x00\x00\x00"+string(eight)))
	lim := Limits{Tensor: tensor.Limits{Bytes: 1 << 16, TotalBytes: 1 << 18}}
	lim.Pickle.Memory = 1 << 20
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func(Source, Limits) (*Checkpoint, error){ReadZip, ReadLegacy} {
			if len(b) < 15 {
				continue
			}
			c, err := read(tensor.Memory(b), lim)
			if err != nil {
				continue
			}
			for _, x := range c.Tensors {
				if _, err := x.Bytes(); err == nil {
					if err := x.Float32(make([]float32, x.NumElements())); err != nil {
						t.Errorf("%s: bytes, but no values: %v", x.Name, err)
					}
				}
			}
		}
	})
}

// TestLazy: opening a real checkpoint must cost what its directory takes, not its weights.
func TestLazy(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(golden.Dir(t, "ldm"), "*", "model.ckpt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for _, path := range paths {
		m, err := mapped.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := ReadZip(m, Limits{})
		runtime.ReadMemStats(&after)
		if err != nil || after.TotalAlloc-before.TotalAlloc > uint64(m.Size())/2 {
			t.Errorf("%s: %d bytes of %d allocated, %v", path, after.TotalAlloc-before.TotalAlloc, m.Size(), err)
		} else {
			t.Logf("%s: %d tensors, %d KiB allocated", path, len(c.Tensors), (after.TotalAlloc-before.TotalAlloc)>>10)
		}
		m.Close()
	}
}
