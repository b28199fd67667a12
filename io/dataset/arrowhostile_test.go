package dataset

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/klauspost/compress/zstd"
)

var arrowHostileColumns = append([]string{"label"}, arrowColumns...)

// readArrowBytes reads all of an Arrow file given as bytes.
func readArrowBytes(t testing.TB, path string, b []byte, lim Limits) (rows, said int64, err error) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := Open(context.Background(), Spec{Path: path, Image: "image", Images: []string{"mask"}, Columns: arrowHostileColumns}, lim)
	if err != nil {
		return 0, 0, err
	}
	if d.MemoryBound() < 0 {
		t.Fatal("negative bound")
	}
	for _, err := range d.Rows(context.Background(), 0, d.NumRows()) {
		if err != nil {
			return rows, d.NumRows(), err
		}
		rows++
	}
	return rows, d.NumRows(), nil
}

// checkArrowDamage reads damaged bytes: it must end, in an error with a class or in as many rows as the file says, and take little
// memory.
func checkArrowDamage(t *testing.T, path string, b []byte) bool {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rows, said, err := readArrowBytes(t, path, b, Limits{Memory: 16 << 20})
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 256<<20 {
		t.Errorf("reading allocates %d bytes", used)
	}
	if err == nil && rows != said {
		t.Errorf("%d rows of %d and no error", rows, said)
	}
	if err != nil && ClassOf(err) == "" {
		t.Errorf("error without class: %v", err)
	}
	return err == nil
}

// TestArrowMutations flips bits, writes numbers over others, and cuts files off everywhere.
func TestArrowMutations(t *testing.T) {
	for kind, opts := range arrowKinds {
		t.Run(kind, func(t *testing.T) {
			src := arrowBytes(t, kind[0] == 's', arrowTestSchema(t), []int{5, 4}, opts...)
			path := filepath.Join(t.TempDir(), "m.arrow")
			if rows, _, err := readArrowBytes(t, path, src, Limits{}); err != nil || rows != 9 {
				t.Fatalf("sound file: %d rows, %v", rows, err)
			}
			rnd := rand.New(rand.NewPCG(7, uint64(len(kind))))
			var read, failed int
			for i := range 120 {
				b := bytes.Clone(src)
				for range 1 + rnd.IntN(3) {
					switch at := rnd.IntN(len(b) - 8); i % 3 {
					case 0:
						b[at] ^= 1 << rnd.IntN(8)
					case 1: // a number of any size in place of one
						binary.LittleEndian.PutUint64(b[at&^7:], rnd.Uint64()>>rnd.IntN(64))
					case 2: // in the footer, or the end of the last body
						b[len(b)-1-rnd.IntN(min(2500, len(b)))] ^= 1 << rnd.IntN(8)
					}
				}
				if i%20 == 19 {
					b = b[:rnd.IntN(len(b))]
				}
				if checkArrowDamage(t, path, b) {
					read++
				} else {
					failed++
				}
			}
			t.Logf("%d errors, %d read whole", failed, read)
			if failed == 0 || read == 0 {
				t.Error("mutations are too weak or too strong to say anything")
			}
			for n := 0; n < len(src); n += 311 {
				_, said, err := readArrowBytes(t, path, src[:n], Limits{})
				if err == nil && (kind[0] == 'f' || said == 9 && n < len(src)-8) {
					t.Errorf("file cut off at %d of %d is read as %d rows", n, len(src), said)
				}
				if err != nil && ClassOf(err) == "" {
					t.Errorf("cut off at %d: %v", n, err)
				}
			}
		})
	}
}

// flatWriter writes a flatbuffer from its front: tables whose fields all take four bytes.
type flatWriter struct{ b []byte }

func (w *flatWriter) u32(x int) { w.b = binary.LittleEndian.AppendUint32(w.b, uint32(x)) }

// table writes a table with the fields of those numbers, and returns their places.
func (w *flatWriter) table(fields ...int) (at int, places map[int]int) {
	vtable, slots := len(w.b), 1+fields[len(fields)-1]
	offsets := make([]byte, 4+2*slots)
	binary.LittleEndian.PutUint16(offsets, uint16(len(offsets)))
	binary.LittleEndian.PutUint16(offsets[2:], uint16(4+4*len(fields)))
	places = map[int]int{}
	at = vtable + len(offsets)
	for i, f := range fields {
		binary.LittleEndian.PutUint16(offsets[4+2*f:], uint16(4+4*i))
		places[f] = at + 4 + 4*i
	}
	w.b = append(w.b, offsets...)
	w.u32(at - vtable)
	w.b = append(w.b, make([]byte, 4*len(fields))...)
	return at, places
}

func (w *flatWriter) refer(place, to int) {
	binary.LittleEndian.PutUint32(w.b[place:], uint32(to-place))
}

// vector writes a vector and returns the places of its elements.
func (w *flatWriter) vector(n int) (at int, places []int) {
	at = len(w.b)
	w.u32(n)
	for range n {
		places = append(places, len(w.b))
		w.u32(0)
	}
	return at, places
}

// TestArrowSchemaBomb makes schemas in which few bytes stand for very many fields, or for long texts.
func TestArrowSchemaBomb(t *testing.T) {
	for name, c := range map[string]struct{ depth, children, text int }{"fields": {20, 4, 1}, "depth": {60, 1, 1}, "texts": {1, 3000, 60000}} {
		w := &flatWriter{b: make([]byte, 4)}
		root, message := w.table(messageKind, messageHeader)
		w.refer(0, root)
		w.b[message[messageKind]] = arrowSchema
		schema, places := w.table(schemaFields)
		w.refer(message[messageHeader], schema)
		from, names := places[schemaFields], []int{}
		for level := range c.depth { // every field is the child of the one before, many times
			vector, children := w.vector(c.children)
			w.refer(from, vector)
			present := []int{fieldName, fieldType, fieldTypeTable}
			if level < c.depth-1 {
				present = append(present, fieldChildren)
			}
			field, places := w.table(present...)
			for _, child := range children {
				w.refer(child, field)
			}
			w.b[places[fieldType]] = 13 // struct
			empty, _ := w.table(0)
			w.refer(places[fieldTypeTable], empty)
			names, from = append(names, places[fieldName]), places[fieldChildren]
		}
		for _, place := range names {
			w.refer(place, len(w.b))
		}
		w.u32(c.text)
		w.b = append(w.b, bytes.Repeat([]byte("x"), c.text)...)
		out := binary.LittleEndian.AppendUint32([]byte{255, 255, 255, 255}, uint32(len(w.b)))
		out = append(append(out, w.b...), 255, 255, 255, 255, 0, 0, 0, 0)
		path := writeFile(t, out, t.TempDir(), "a.arrow")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Open(context.Background(), Spec{Path: path}, Limits{})
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; ClassOf(err) != FileCorrupt || !strings.Contains(err.Error(), "fields") || used > 32<<20 {
			t.Errorf("%s: %d bytes allocated, %v", name, used, err)
		}
	}
}

// TestArrowBombs says in a batch that little unpacks to much.
func TestArrowBombs(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "image", Type: arrow.BinaryTypes.Binary, Nullable: true}}, nil)
	src := arrowBytes(t, true, schema, []int{200}, ipc.WithZstd())
	frame := bytes.Index(src, []byte{0x28, 0xb5, 0x2f, 0xfd})
	if frame < 8 {
		t.Fatal("no zstd frame")
	}
	var h zstd.Header
	if err := h.Decode(src[frame:]); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		length uint64
		class  Class
	}{{1 << 62, FileCorrupt}, {1 << 40, FileTooLarge}, {1 << 63, FileCorrupt}, {8 << 20, FileCorrupt}, {1, FileCorrupt}} {
		b := bytes.Clone(src)
		binary.LittleEndian.PutUint64(b[frame-8:], c.length)
		path := writeFile(t, b, t.TempDir(), "a.arrow")
		if r := readAll(Spec{Path: path}); r.class != c.class {
			t.Errorf("length %d: %v, want %s", c.length, r.err, c.class)
		}
		checkArrowDamage(t, path, b)
	}
	if _, err := Open(context.Background(), Spec{Path: writeFile(t, src, t.TempDir(), "a.arrow")}, Limits{Memory: 500}); ClassOf(err) != FileTooLarge {
		t.Errorf("over the memory limit: %v", err)
	}
}

func FuzzArrow(f *testing.F) {
	schema := arrow.NewSchema(arrowFields[:6], nil)
	f.Add(arrowBytes(f, false, schema, []int{3, 2}))
	f.Add(arrowBytes(f, true, schema, []int{3}, ipc.WithZstd()))
	f.Add(arrowBytes(f, true, arrow.NewSchema(arrowFields[:9], nil), []int{2, 2}, ipc.WithLZ4()))
	path := filepath.Join(f.TempDir(), "f.arrow")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		d, err := Open(context.Background(), Spec{Path: path, Columns: []string{"text"}}, Limits{Memory: 16 << 20})
		if err != nil {
			if ClassOf(err) == "" {
				t.Errorf("error without class: %v", err)
			}
			return
		}
		var rows int64
		for _, err = range d.Rows(context.Background(), 0, min(d.NumRows(), 1<<16)) {
			if err == nil {
				rows++
			}
		}
		if err == nil && rows != min(d.NumRows(), 1<<16) {
			t.Errorf("%d rows of %d and no error", rows, d.NumRows())
		}
	})
}
