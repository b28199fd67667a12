package dataset

import (
	"crypto/sha256"
	"os"
)

// ArrowInfo is what an Arrow file or stream says of itself.
type ArrowInfo struct {
	Stream   bool // without a footer
	Ended    bool // false for a stream without an end mark, of which rows may be missing
	Rows     int64
	Batches  int
	Columns  []ArrowColumn
	Metadata [][2]string // of the schema, in its order
}

// ArrowColumn is a column of the schema.
type ArrowColumn struct {
	Name     string
	Type     string // as the Arrow library spells it
	Nullable bool
}

// DescribeArrow reads the schema of an Arrow file or stream, whatever its name, and the metadata of its messages. It reads no values, and
// trusts the file no more than [Open] does: errors of its content have a [Class].
func DescribeArrow(path string, lim Limits) (*ArrowInfo, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		return nil, err
	}
	a := &arrowFile{size: st.Size()}
	ended, err := a.index(r, st.Size(), lim.withDefaults(), sha256.New())
	if err != nil {
		return nil, data(at(err, path, -1, -1, ""))
	}
	info := &ArrowInfo{Ended: ended, Batches: len(a.batches)}
	for _, i := range a.batches {
		if info.Rows += a.messages[i].rows; a.messages[i].rows > 1<<48 || info.Rows > 1<<48 {
			return nil, data(at(corrupt("impossible row count %d", info.Rows), path, -1, -1, ""))
		}
	}
	head := make([]byte, len(arrowMagic))
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, err
	}
	info.Stream = string(head) != arrowMagic
	err = guard(func() error {
		schema, err := a.schema(r)
		if err != nil {
			return err
		}
		for _, f := range schema.Fields() {
			info.Columns = append(info.Columns, ArrowColumn{f.Name, f.Type.String(), f.Nullable})
		}
		md := schema.Metadata()
		for i, k := range md.Keys() {
			info.Metadata = append(info.Metadata, [2]string{k, md.Values()[i]})
		}
		return nil
	})
	if err != nil {
		return nil, data(at(err, path, -1, -1, ""))
	}
	return info, nil
}
