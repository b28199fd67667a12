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

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// hostileFile is a small file with many kinds of pages.
func hostileFile(t testing.TB, opts ...parquet.WriterOption) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.parquet")
	writeGenerated(t, path, genRecords(60), []int{25, 35}, append([]parquet.WriterOption{parquet.PageBufferSize(2000)}, opts...)...)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readBytes reads all of a file given as bytes.
func readBytes(t testing.TB, path string, b []byte, lim Limits) (rows int64, footer int64, err error) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := Open(context.Background(), Spec{Path: path, Columns: genColumns}, lim)
	if err != nil {
		return 0, 0, err
	}
	if _, err := d.MemoryNeed(context.Background()); err == nil && d.MemoryBound() < 0 {
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

// TestMutations damages files in their footers, page headers and bodies, and cuts them off. Reading must never panic, never
// deliver another number of rows without an error, and never allocate beyond the limit. A caught panic counts as a defect of the
// decoders here.
func TestMutations(t *testing.T) {
	const perFile = 128
	lim := Limits{Memory: 16 << 20}
	for name, codec := range genCodecs {
		t.Run(name, func(t *testing.T) {
			src := hostileFile(t, parquet.Compression(codec), parquet.DataPageVersion(1+len(name)%2))
			path := filepath.Join(t.TempDir(), "m.parquet")
			if n, _, err := readBytes(t, path, src, lim); err != nil || n != 60 {
				t.Fatalf("sound file: %d rows, %v", n, err)
			}
			footer := int(binary.LittleEndian.Uint32(src[len(src)-8:]))
			rnd := rand.New(rand.NewPCG(11, uint64(len(name))))
			var failed, read int
			for i := range perFile {
				b := bytes.Clone(src)
				for range 1 + rnd.IntN(3) {
					at := 4 + rnd.IntN(len(b)-4)
					switch i % 4 {
					case 0, 1:
						at = len(b) - 8 - 1 - rnd.IntN(footer)
					case 2:
						at = len(b) - 1 - rnd.IntN(8)
					}
					b[at] ^= 1 << rnd.IntN(8)
				}
				if i%16 == 15 {
					b = b[:rnd.IntN(len(b))]
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				rows, said, err := readBytes(t, path, b, lim)
				runtime.ReadMemStats(&after)
				if used := after.TotalAlloc - before.TotalAlloc; used > 256<<20 {
					t.Errorf("mutation %d allocates %d bytes", i, used)
				}
				switch {
				case err == nil && rows != said:
					t.Errorf("mutation %d: %d rows of %d and no error", i, rows, said)
				case err != nil && strings.Contains(err.Error(), "decoder panic"):
					t.Errorf("mutation %d: %v", i, err)
				case err != nil:
					failed++
					if ClassOf(err) == "" {
						t.Errorf("mutation %d: error without class: %v", i, err)
					}
				default:
					read++
				}
			}
			t.Logf("%d errors, %d read whole", failed, read)
			if failed == 0 || read == 0 {
				t.Error("mutations are too weak or too strong to say anything")
			}
		})
	}
}

// TestRowCountLies changes the row counts of a footer in ways that stay consistent within it.
func TestRowCountLies(t *testing.T) {
	src := hostileFile(t)
	footer := int(binary.LittleEndian.Uint32(src[len(src)-8:]))
	body := src[:len(src)-8-footer]
	for _, c := range []struct {
		name string
		lie  func(m *format.FileMetaData)
	}{
		{"more rows", func(m *format.FileMetaData) { lie(m, 1, 1) }},
		{"fewer rows", func(m *format.FileMetaData) { lie(m, 1, -1) }},
		{"no rows in the first group", func(m *format.FileMetaData) { lie(m, 0, -25) }},
		{"rows only in the file count", func(m *format.FileMetaData) { m.NumRows++ }},
		{"rows only in the group count", func(m *format.FileMetaData) { m.RowGroups[0].NumRows++ }},
		{"negative rows", func(m *format.FileMetaData) { m.RowGroups[0].NumRows = -5 }},
		{"rows beyond counting", func(m *format.FileMetaData) { lie(m, 0, 1<<62) }},
		{"a chunk before the file", func(m *format.FileMetaData) { m.RowGroups[0].Columns[0].MetaData.DataPageOffset = -8 }},
		{"a chunk behind the file", func(m *format.FileMetaData) { m.RowGroups[1].Columns[0].MetaData.DataPageOffset = 1 << 40 }},
		{"a chunk of overflowing size", func(m *format.FileMetaData) { m.RowGroups[1].Columns[0].MetaData.TotalCompressedSize = 1<<63 - 1 }},
		{"a column less", func(m *format.FileMetaData) { m.RowGroups[1].Columns = m.RowGroups[1].Columns[1:] }},
		{"children beyond the schema", func(m *format.FileMetaData) { m.Schema[0].NumChildren.V += 3 }},
		{"children short of the schema", func(m *format.FileMetaData) { m.Schema[0].NumChildren.V-- }},
	} {
		t.Run(c.name, func(t *testing.T) {
			meta := new(format.FileMetaData)
			if _, err := decodeThrift(src[len(body):], meta, 1<<20); err != nil {
				t.Fatal(err)
			}
			c.lie(meta)
			rows, said, err := readBytes(t, filepath.Join(t.TempDir(), "a.parquet"), withFooter(t, body, meta), Limits{})
			if err == nil {
				t.Errorf("%d rows of %d and no error", rows, said)
			} else if ClassOf(err) != FileCorrupt {
				t.Errorf("class %q: %v", ClassOf(err), err)
			}
		})
	}
}

// lie changes a row group's row count everywhere the footer says it.
func lie(m *format.FileMetaData, group int, by int64) {
	m.NumRows += by
	g := &m.RowGroups[group]
	g.NumRows += by
	for i := range g.Columns {
		g.Columns[i].MetaData.NumValues += by
	}
}

// withFooter puts a footer behind the pages of a file.
func withFooter(t testing.TB, body []byte, meta *format.FileMetaData) []byte {
	t.Helper()
	foot := marshalThrift(t, meta)
	b := append(bytes.Clone(body), foot...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(foot)))
	return append(b, magic...)
}

// TestThriftLists checks that a list's declared length never makes an allocation.
func TestThriftLists(t *testing.T) {
	huge := []byte{0x15, 0x02, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00} // version 1, a list of 2^31-1 structures
	file := append([]byte(magic), huge...)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(huge)))
	file = append(file, magic...)
	for _, b := range [][]byte{
		file,
		append(binary.LittleEndian.AppendUint32(append([]byte(magic), make([]byte, 1<<20)...), 1<<20), magic...),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := readFooter(bytes.NewReader(b), int64(len(b)), Limits{}.withDefaults())
		runtime.ReadMemStats(&after)
		if err == nil || after.TotalAlloc-before.TotalAlloc > 8<<20 {
			t.Errorf("%v, %d bytes allocated", err, after.TotalAlloc-before.TotalAlloc)
		}
	}
	many := append([]byte{0x19, 0xfc, 0x90, 0x4e}, make([]byte, 10001)...) // a list of 10,000 empty structures
	if _, err := structLen(many, 100); err != errThriftLarge {
		t.Errorf("10,000 structures of 100 allowed: %v", err)
	}
	if n, err := structLen(many, 1<<20); err != nil || n != len(many) {
		t.Errorf("structure of %d bytes is %d long, %v", len(many), n, err)
	}
	deep := bytes.Repeat([]byte{0x1c}, 1000)
	if _, err := structLen(deep, 1<<20); err != errThrift {
		t.Errorf("1000 levels: %v", err)
	}
}

// TestDecompressBombs checks that a page that unpacks to more than its header says is refused by every codec, without writing
// beyond the buffer.
func TestDecompressBombs(t *testing.T) {
	for name, codec := range genCodecs {
		if name == "none" {
			continue
		}
		packed, err := codec.Encode(nil, make([]byte, 4<<20))
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 1000, 4<<20 - 1, 4<<20 + 1, 8 << 20} {
			if err := decompress(codec.CompressionCodec(), make([]byte, size), packed); ClassOf(err) != FileCorrupt {
				t.Errorf("%s: 4 MiB into %d bytes: %v", name, size, err)
			}
		}
		if err := decompress(codec.CompressionCodec(), make([]byte, 4<<20), packed); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, c := range []format.CompressionCodec{format.LZO, format.Lz4, 99} {
		if err := decompress(c, make([]byte, 1), nil); ClassOf(err) != FileUnsupported {
			t.Errorf("codec %d: %v", c, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add(hostileFile(f))
	f.Add(hostileFile(f, parquet.Compression(&parquet.Zstd), parquet.DataPageVersion(1)))
	f.Add([]byte(magic + magic))
	path := filepath.Join(f.TempDir(), "f.parquet")
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, said, err := readBytes(t, path, b, Limits{Memory: 16 << 20})
		if err == nil && rows != said {
			t.Errorf("%d rows of %d and no error", rows, said)
		}
		if err != nil && strings.Contains(err.Error(), "decoder panic") {
			t.Error(err)
		}
	})
}

// FuzzValues decodes foreign bytes as a page of every type and encoding.
func FuzzValues(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 'a', 'b', 1, 0, 0, 0, 'c'}, uint8(format.Plain), uint8(format.ByteArray), uint16(2))
	f.Add([]byte{128, 1, 4, 3, 2, 2, 0, 0, 0, 0}, uint8(format.DeltaBinaryPacked), uint8(format.Int64), uint16(3))
	f.Add([]byte{128, 1, 4, 2, 2, 0, 0, 0, 0, 0, 'a', 'b'}, uint8(format.DeltaLengthByteArray), uint8(format.ByteArray), uint16(2))
	f.Add([]byte{1, 3, 0xaa}, uint8(format.RLEDictionary), uint8(format.ByteArray), uint16(8))
	f.Fuzz(func(t *testing.T, b []byte, enc, kind uint8, n uint16) {
		typ, err := newLeafType(&node{SchemaElement: format.SchemaElement{Type: nullOf(format.Type(kind % 8)), TypeLength: nullOf(int32(3))}})
		if err != nil {
			t.Fatal(err)
		}
		dict := &values{n: 2, start: []uint32{0, 1}, size: []uint32{1, 0}, data: []byte("x")}
		var v values
		if v.decode(typ, format.Encoding(enc%10), b, int(n), dict, 1<<20) != nil {
			return
		}
		for i := range int(n) {
			_ = v.at(i)
		}
	})
}
