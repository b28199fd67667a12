package torch

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/weights/pickle"
	"github.com/ldm-batch/ldm-batch/internal/weights/tensor"
)

// Checkpoint is what a file holds.
type Checkpoint struct {
	Tensors  []*tensor.Tensor  // of the state dict, in its order; nested names are joined by dots
	Metadata map[string]string // numbers and short strings beside the state dict, such as "epoch" and "global_step"
	Skipped  []string          // state dict entries left out because they are opaque objects, at most 10
}

// IsZip reports whether a file that starts with head can be a zip container.
func IsZip(head []byte) bool {
	return bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, []byte("PK\x05\x06"))
}

// magic is the pickled magic number of the legacy container behind its protocol byte.
var magic = []byte("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")

// IsLegacy reports whether a file that starts with head can be a legacy container. 15 bytes are enough.
func IsLegacy(head []byte) bool {
	return len(head) > 2 && head[0] == 0x80 && bytes.HasPrefix(head[2:], magic)
}

// ReadZip reads the zip container.
func ReadZip(src Source, lim Limits) (*Checkpoint, error) {
	records, err := readDirectory(src, lim.Zip)
	if err != nil {
		return nil, err
	}
	root, err := findRoot(records)
	if err != nil {
		return nil, err
	}
	if r := records[root+"byteorder"]; r != nil {
		order := make([]byte, min(r.size, 16))
		if err := readFull(r, order, 0); err != nil {
			return nil, err
		}
		if s := strings.TrimSpace(string(order)); s != "little" {
			return nil, fmt.Errorf("byte order %q is not supported", s)
		}
	}
	find := func(key string, d tensor.DType, numel int64) (tensor.Storage, error) {
		if !plainKey(key) {
			return nil, fmt.Errorf("storage key %.50q is not a plain name", key)
		}
		r := records[root+"data/"+key]
		if r == nil {
			return nil, fmt.Errorf("the record of storage %q is missing", key)
		}
		if r.compressed {
			return nil, r.verify()
		}
		if numel > r.size/int64(d.Size()) {
			return nil, fmt.Errorf("storage %q of %d elements of %v, its record has %d bytes", key, numel, d, r.size)
		}
		return r, nil
	}
	data := records[root+"data.pkl"]
	if err := data.verify(); err != nil {
		return nil, err
	}
	v, _, err := pickle.Decode(src, data.off, data.off+data.size, pickle.Options{Limits: lim.Pickle, Call: calls,
		Persistent: func(id any) (any, error) { return persistentID(id, find) }})
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", data.name, err)
	}
	return stateDict(v, lim)
}

// findRoot returns the folder of data.pkl, with its slash.
func findRoot(records map[string]*record) (string, error) {
	root, found := "", false
	for name := range records {
		r, ok := strings.CutSuffix(name, "data.pkl")
		if !ok || strings.Count(r, "/") > 1 || r != "" && !strings.HasSuffix(r, "/") {
			continue
		}
		if found {
			return "", errors.New("zip archive with more than one data.pkl")
		}
		root, found = r, true
	}
	if !found {
		return "", errors.New("zip archive without data.pkl: not a PyTorch checkpoint")
	}
	return root, nil
}

func plainKey(key string) bool {
	for _, c := range []byte(key) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' {
			return false
		}
	}
	return key != ""
}

// ReadLegacy reads the legacy container.
func ReadLegacy(src Source, lim Limits) (*Checkpoint, error) {
	storages := map[string]*section{}
	sizes := map[string]int64{} // element counts
	types := map[string]tensor.DType{}
	find := func(key string, d tensor.DType, numel int64) (tensor.Storage, error) {
		if s, ok := storages[key]; ok {
			if sizes[key] != numel || types[key] != d {
				return nil, fmt.Errorf("storage %.50q is described twice, differently", key)
			}
			return s, nil
		}
		size := numel * int64(d.Size())
		if size > src.Size() {
			return nil, fmt.Errorf("storage %.50q of %d elements of %v, the file has %d bytes", key, numel, d, src.Size())
		}
		s := &section{src: src, size: size}
		storages[key], sizes[key], types[key] = s, numel, d
		return s, nil
	}
	pos := int64(2 + len(magic))
	next := func(what string, opt pickle.Options) (v any, err error) {
		opt.Limits = lim.Pickle
		if v, pos, err = pickle.Decode(src, pos, src.Size(), opt); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return v, nil
	}
	v, err := next("protocol", pickle.Options{})
	if err != nil {
		return nil, err
	}
	if v != any(int64(1001)) {
		return nil, errors.New("legacy container of an unknown protocol")
	}
	if v, err = next("system information", pickle.Options{}); err != nil {
		return nil, err
	}
	if d, ok := v.(*pickle.Dict); ok {
		if little, ok := d.Get("little_endian"); ok && little != any(true) {
			return nil, errors.New("big-endian storages are not supported")
		}
	}
	object, err := next("object", pickle.Options{Call: calls,
		Persistent: func(id any) (any, error) { return persistentID(id, find) }})
	if err != nil {
		return nil, err
	}
	if v, err = next("storage keys", pickle.Options{}); err != nil {
		return nil, err
	}
	keys, ok := v.(*pickle.List)
	if !ok {
		return nil, fmt.Errorf("storage keys are a %s", pickle.Describe(v))
	}
	if err := place(src, pos, keys.Items, storages, sizes); err != nil {
		return nil, err
	}
	return stateDict(object, lim)
}

// ReadPickle reads a pickled dictionary of NumPy arrays, which no container is around.
func ReadPickle(src Source, lim Limits) (*Checkpoint, error) {
	v, _, err := pickle.Decode(src, 0, src.Size(), pickle.Options{Limits: lim.Pickle, Call: calls})
	if err != nil {
		return nil, err
	}
	return stateDict(v, lim)
}

// place finds the storages behind the pickles: an int64 element count and the data of each key.
func place(src Source, pos int64, keys []any, storages map[string]*section, sizes map[string]int64) error {
	placed := 0
	for _, k := range keys {
		key, _ := k.(string)
		s, ok := storages[key]
		if !ok || s.placed {
			return fmt.Errorf("storage key %.50q is unknown or repeated", key)
		}
		var head [8]byte
		if err := readFull(src, head[:], pos); err != nil {
			return fmt.Errorf("storage %.50q: %w", key, err)
		}
		n := int64(0)
		for i := 7; i >= 0; i-- {
			n = n<<8 | int64(head[i])
		}
		pos += 8
		if n != sizes[key] {
			return fmt.Errorf("storage %.50q has %d elements, its description says %d", key, n, sizes[key])
		}
		if s.size > src.Size()-pos {
			return fmt.Errorf("storage %.50q of %d bytes: the file is cut short", key, s.size)
		}
		s.off, s.placed = pos, true
		pos += s.size
		placed++
	}
	if placed != len(storages) {
		return fmt.Errorf("%d storages are used, %d are listed", len(storages), placed)
	}
	return nil
}
