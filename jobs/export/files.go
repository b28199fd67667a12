package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ldm-batch/ldm-batch/io/picture"
)

// failedName lists the rows without image, one JSON object a line. No generated name is equal to it.
const failedName = "failed.jsonl"

// fileSink writes a folder of image files.
type fileSink struct {
	root    *os.Root
	format  Format
	quality int
	decoder picture.Decoder
}

func newFileSink(path string, o Options) (sink, func() error, error) {
	if err := os.Mkdir(path, 0o777); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, nil, err
	}
	return &fileSink{root: root, format: o.Format, quality: o.Quality}, root.Close, nil
}

func (s *fileSink) add(r record) error {
	if r.row.Image == nil {
		return nil
	}
	data, err := s.encode(r.row.Image)
	if err != nil {
		return fmt.Errorf("row %s: %w", r.row.ID, err)
	}
	return createIn(s.root, r.name+extension(string(s.format)), data)
}

// encode returns the image in the sink's format: the stored bytes where they have it already.
func (s *fileSink) encode(data []byte) ([]byte, error) {
	h, err := picture.Probe(data, picture.DefaultLimits())
	if err != nil {
		return nil, err
	}
	if h.Format == string(s.format) {
		return data, nil
	}
	img, err := s.decoder.Decode(data, picture.DefaultOptions())
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if s.format == JPEG {
		err = picture.EncodeJPEG(&b, img, s.quality)
	} else {
		err = picture.EncodePNG(&b, img, picture.PNGOptions{})
	}
	return b.Bytes(), err
}

func (s *fileSink) finish(failed []FailedRow) error {
	if len(failed) == 0 {
		return nil
	}
	list, err := failedLines(failed)
	if err != nil {
		return err
	}
	return createIn(s.root, failedName, list)
}

// createIn writes a new file below the root, which cannot be left.
func createIn(root *os.Root, name string, data []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func failedLines(failed []FailedRow) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, f := range failed {
		if err := enc.Encode(f); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// extension is the usual one of a format.
func extension(format string) string {
	if format == picture.JPEG {
		return ".jpg"
	}
	return "." + format
}
