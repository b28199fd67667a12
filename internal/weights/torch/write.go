package torch

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// Entry is one tensor to write.
type Entry struct {
	Name  string
	DType tensor.DType
	Shape []int
	// Data opens the raw values, little-endian and row-major. It is called twice, since a record's checksum comes before it.
	Data func() io.Reader
}

// root is the folder of the records that are written, as PyTorch names it.
const root = "archive/"

// align is the alignment of storages in the file, as PyTorch keeps it.
const align = 64

// WriteZip writes the zip container: a dictionary of whole numbers beside "state_dict", which holds the entries in their order,
// each with a storage of its own. PyTorch loads it with weights_only. The same entries give the same bytes.
func WriteZip(w io.Writer, entries []Entry, numbers map[string]int64) error {
	pickled, err := pickleOf(entries, numbers)
	if err != nil {
		return fmt.Errorf("torch: %w", err)
	}
	out := &position{w: w}
	z := zip.NewWriter(out)
	add := func(name string, size int64, data func() io.Reader) error {
		if err := addRecord(z, out, name, size, data); err != nil {
			return fmt.Errorf("torch, record %s: %w", name, err)
		}
		return nil
	}
	text := func(name, s string) error {
		return add(name, int64(len(s)), func() io.Reader { return bytes.NewReader([]byte(s)) })
	}
	if err := add("data.pkl", int64(len(pickled)), func() io.Reader { return bytes.NewReader(pickled) }); err != nil {
		return err
	}
	if err := text("byteorder", "little"); err != nil {
		return err
	}
	for i, e := range entries {
		n, _ := tensor.NumElements(e.Shape) // checked by pickleOf
		if err := add(fmt.Sprint("data/", i), int64(n)*int64(e.DType.Size()), e.Data); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	if err := text("version", "3\n"); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("torch: %w", err)
	}
	return nil
}

// addRecord stores one record, its data aligned, with its size and checksum in the header before it.
func addRecord(z *zip.Writer, out *position, name string, size int64, data func() io.Reader) error {
	if size > math.MaxUint32-1 {
		return errors.New("more than 4 GiB; write safetensors")
	}
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, data())
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes in place of %d", n, size)
	}
	if err != nil {
		return err
	}
	if err := z.Flush(); err != nil {
		return err
	}
	h := &zip.FileHeader{Name: root + name, Method: zip.Store, CRC32: sum.Sum32(), CompressedSize64: uint64(size), UncompressedSize64: uint64(size)}
	const field = 4 // of an extra field: its id and length
	pad := int(-(out.n+localSize+int64(len(h.Name))+field)%align+align) % align
	h.Extra = append([]byte{'F', 'B', byte(pad), 0}, bytes.Repeat([]byte{'Z'}, pad)...)
	dst, err := z.CreateRaw(h)
	if err != nil {
		return err
	}
	n, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{data()}, make([]byte, 1<<20))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes in place of %d", n, size)
	}
	return err
}

// position counts what was written.
type position struct {
	w io.Writer
	n int64
}

func (p *position) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.n += int64(n)
	return n, err
}

// storageNames are PyTorch's classes of storages.
var storageNames = map[tensor.DType]string{
	tensor.F64: "DoubleStorage", tensor.F32: "FloatStorage", tensor.F16: "HalfStorage", tensor.BF16: "BFloat16Storage",
	tensor.I64: "LongStorage", tensor.I32: "IntStorage", tensor.I16: "ShortStorage", tensor.I8: "CharStorage",
	tensor.U8: "ByteStorage", tensor.Bool: "BoolStorage",
}

// pickleOf is the pickle of the dictionary, protocol 2. It uses no memo: nothing is shared.
func pickleOf(entries []Entry, numbers map[string]int64) ([]byte, error) {
	b := &pickler{}
	b.WriteString("\x80\x02}(")
	for _, k := range slices.Sorted(maps.Keys(numbers)) {
		b.text(k)
		b.integer(numbers[k])
	}
	b.text("state_dict")
	b.WriteString(emptyDict)
	b.WriteByte('(')
	seen := map[string]bool{}
	for i, e := range entries {
		n, err := tensor.NumElements(e.Shape)
		class, known := storageNames[e.DType]
		switch {
		case err != nil:
		case !known:
			err = fmt.Errorf("no storage for %v", e.DType)
		case seen[e.Name] || !utf8.ValidString(e.Name):
			err = errors.New("name is taken or not UTF-8")
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", e.Name, err)
		}
		seen[e.Name] = true
		b.text(e.Name)
		b.WriteString("ctorch._utils\n_rebuild_tensor_v2\n((")
		b.text("storage")
		b.WriteString("ctorch\n" + class + "\n")
		b.text(fmt.Sprint(i))
		b.text("cpu")
		b.integer(int64(n))
		b.WriteString("tQ") // the persistent id of the storage
		b.integer(0)        // offset
		strides := make([]int, len(e.Shape))
		step := 1
		for j := len(strides) - 1; j >= 0; j-- {
			strides[j] = step
			step *= max(e.Shape[j], 1)
		}
		b.tuple(e.Shape)
		b.tuple(strides)
		b.WriteString("\x89" + emptyDict + "tR") // requires no gradient, has no hooks
	}
	b.WriteString("uu.")
	return b.Bytes(), nil
}

// emptyDict makes an ordered dictionary, as state dicts are.
const emptyDict = "ccollections\nOrderedDict\n)R"

type pickler struct{ bytes.Buffer }

func (b *pickler) text(s string) {
	b.WriteByte('X')
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	b.WriteString(s)
}

func (b *pickler) integer(v int64) {
	if v >= math.MinInt32 && v <= math.MaxInt32 {
		b.WriteByte('J')
		b.Write(binary.LittleEndian.AppendUint32(nil, uint32(int32(v))))
		return
	}
	b.WriteString("\x8a\x08")
	b.Write(binary.LittleEndian.AppendUint64(nil, uint64(v)))
}

func (b *pickler) tuple(v []int) {
	b.WriteByte('(')
	for _, x := range v {
		b.integer(int64(x))
	}
	b.WriteByte('t')
}
