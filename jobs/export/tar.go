package export

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/ldm-batch/ldm-batch/io/picture"
)

// tarSink writes one tar file in the habit of webdataset: the files of a row share the name and stand together. Times,
// owners and modes are fixed, so that equal runs give equal files.
type tarSink struct {
	w *tar.Writer
}

// sidecar is the .json of a row.
type sidecar struct {
	ID     string `json:"id"`
	Label  *int64 `json:"label,omitempty"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

func newTarSink(path string) (sink, func() error, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, nil, err
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	w := tar.NewWriter(buf)
	return &tarSink{w}, func() error { return errors.Join(w.Close(), buf.Flush(), f.Sync(), f.Close()) }, nil
}

func (s *tarSink) add(r record) error {
	if r.row.Image == nil {
		return nil
	}
	h, err := picture.Probe(r.row.Image, picture.DefaultLimits())
	if err != nil {
		return fmt.Errorf("row %s: %w", r.row.ID, err)
	}
	about := sidecar{ID: r.row.ID, Width: r.row.Width, Height: r.row.Height}
	if r.row.HasLabel {
		about.Label = &r.row.Label
	}
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	return errors.Join(s.file(r.name+extension(h.Format), r.row.Image), s.file(r.name+".json", append(text, '\n')))
}

func (s *tarSink) file(name string, data []byte) error {
	if err := s.w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err := s.w.Write(data)
	return err
}

func (s *tarSink) finish(failed []FailedRow) error {
	if len(failed) == 0 {
		return nil
	}
	list, err := failedLines(failed)
	if err != nil {
		return err
	}
	return s.file(failedName, list)
}
