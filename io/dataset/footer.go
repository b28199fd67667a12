package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go/format"
)

const (
	magic          = "PAR1"
	magicEncrypted = "PARE"
	minFileSize    = 12 // two magics and the footer length

	// bytesPerStruct is what one decoded structure of a footer takes at most, about the size of a column chunk.
	bytesPerStruct = 1 << 10

	// minFooterMemory is granted to a footer under any limit; footers of real files take far less.
	minFooterMemory = 64 << 20
)

// readFooter reads and checks the footer of a Parquet file of the given size, and returns it with the sha256 of its bytes.
func readFooter(r io.ReaderAt, size int64, lim Limits) (*format.FileMetaData, [32]byte, error) {
	var sum [32]byte
	if size == 0 {
		return nil, sum, errorf(FileEmpty, "file has zero bytes")
	}
	head := make([]byte, min(size, 512))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, sum, err
	}
	switch {
	case bytes.HasPrefix(head, []byte(magicEncrypted)):
		return nil, sum, errorf(FileEncrypted, "parquet file with an encrypted footer, and there is no key")
	case !bytes.HasPrefix(head, []byte(magic)):
		return nil, sum, errorf(FileNotParquet, "not a parquet file: %s", looksLike(head))
	case size < minFileSize:
		return nil, sum, errorf(FileTruncated, "parquet file of only %d bytes", size)
	}
	tail := make([]byte, 8)
	if _, err := r.ReadAt(tail, size-8); err != nil && !errors.Is(err, io.EOF) {
		return nil, sum, err
	}
	length := int64(binary.LittleEndian.Uint32(tail))
	memory := max(lim.Memory, minFooterMemory)
	fits := length <= size-minFileSize
	switch end := string(tail[4:]); {
	case end == magicEncrypted:
		return nil, sum, errorf(FileEncrypted, "parquet file with an encrypted footer, and there is no key")
	case end == magic && !fits:
		return nil, sum, corrupt("footer of %d bytes in a file of %d bytes", length, size)
	case end != magic && !fits:
		return nil, sum, errorf(FileTruncated, "starts as parquet but does not end with %q: the file is cut off", magic)
	case length > memory:
		return nil, sum, errorf(FileTooLarge, "footer of %d bytes is over the memory limit of %d bytes", length, memory)
	}
	buf := make([]byte, length)
	if _, err := r.ReadAt(buf, size-8-length); err != nil && !errors.Is(err, io.EOF) {
		return nil, sum, err
	}
	meta := new(format.FileMetaData)
	n, err := decodeThrift(buf, meta, memory/bytesPerStruct)
	if string(tail[4:]) != magic {
		if err != nil || n != len(buf) {
			return nil, sum, errorf(FileTruncated, "starts as parquet but does not end with %q: the file is cut off", magic)
		}
		return nil, sum, errorf(FileNotParquet, "not a parquet file: ends with %q in place of %q", tail[4:], magic)
	}
	switch {
	case errors.Is(err, errThriftLarge):
		return nil, sum, errorf(FileTooLarge, "footer: %w", err)
	case err != nil:
		return nil, sum, corrupt("footer: %w", err)
	case meta.EncryptionAlgorithm.Value != nil:
		return nil, sum, errorf(FileEncrypted, "parquet file with encrypted columns, and there is no key")
	case n != len(buf):
		return nil, sum, corrupt("footer has %d bytes after its end", len(buf)-n)
	}
	return meta, sha256.Sum256(buf), checkFooter(meta)
}

// checkFooter checks what the footer says about counts; places of chunks are checked when they are read.
func checkFooter(m *format.FileMetaData) error {
	var rows int64
	for i, g := range m.RowGroups {
		if g.NumRows < 0 || g.NumRows > 1<<48 {
			return at(corrupt("impossible row count %d", g.NumRows), "", i, -1, "")
		}
		rows += g.NumRows
	}
	if rows != m.NumRows {
		return corrupt("footer counts %d rows, its row groups %d", m.NumRows, rows)
	}
	return nil
}

// looksLike says what the first bytes of a file look like, for the message to a user who has the wrong file.
func looksLike(head []byte) string {
	for _, k := range []struct{ prefix, what string }{
		{"version https://git-lfs", "it is a Git LFS pointer (fetch the data with \"git lfs pull\")"},
		{"ARROW1", "it looks like an Arrow IPC file"},
		{"\xff\xff\xff\xff", "it looks like an Arrow IPC stream"},
		{"\x1f\x8b", "it looks like a gzip file (unpack it first)"},
		{"\x28\xb5\x2f\xfd", "it looks like a zstd file (unpack it first)"},
		{"PK\x03\x04", "it looks like a zip file"},
		{"ORC", "it looks like an ORC file"},
		{"Obj\x01", "it looks like an Avro file"},
		{"\x89HDF", "it looks like an HDF5 file"},
		{"SQLite format 3", "it looks like an SQLite database"},
		{"\x89PNG", "it is a PNG picture"},
		{"\xff\xd8\xff", "it is a JPEG picture"},
		{"RIFF", "it is a RIFF file, perhaps a WebP picture"},
	} {
		if bytes.HasPrefix(head, []byte(k.prefix)) {
			return k.what
		}
	}
	text := bytes.TrimSpace(head)
	lower := bytes.ToLower(text)
	switch {
	case len(bytes.Trim(head, "\x00")) == 0:
		return "it starts with zeros"
	case bytes.HasPrefix(lower, []byte("<!doctype")) || bytes.HasPrefix(lower, []byte("<html")):
		return "it looks like an HTML page, as a download that needs a login gives"
	case bytes.HasPrefix(text, []byte("{")) || bytes.HasPrefix(text, []byte("[")):
		return "it looks like JSON"
	case !utf8.Valid(head[:max(0, len(head)-utf8.UTFMax)]) || bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' }):
		return fmt.Sprintf("it starts with %q", head[:min(4, len(head))])
	case bytes.ContainsAny(firstLine(text), ",;\t"):
		return "it looks like CSV text"
	}
	return fmt.Sprintf("it looks like text that starts with %q", head[:min(16, len(head))])
}

func firstLine(b []byte) []byte {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line
}
