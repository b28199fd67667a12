package table

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// Row is one image.
type Row struct {
	ID            string
	Image         []byte // encoded; nil stores null
	Path          string // a name for the image
	Label         *int64 // nil stores null
	Width, Height int    // in pixels
	Status, Error string
	Scene         *Scene // written if Options.Scene asks for it
}

// Options describe the columns.
type Options struct {
	Label      bool     // write the column label
	LabelNames []string // its class names; they imply Label
	Scene      bool     // write the columns of [Scene], and label
}

// Row groups are cut by rows and by bytes, so that a reader holds little at a time.
const (
	groupRows  = 100
	groupBytes = 64 << 20
)

// image is the storage of a Hugging Face image. Encoded images do not compress.
type image struct {
	Bytes []byte `parquet:"bytes,optional,plain,uncompressed"`
	Path  string `parquet:"path,optional,plain,snappy"`
}

type bare struct {
	ID     string `parquet:"id,plain,snappy"`
	Image  *image `parquet:"image,optional"`
	Width  int32  `parquet:"width,plain,snappy"`
	Height int32  `parquet:"height,plain,snappy"`
	Status string `parquet:"status,dict,snappy"`
	Error  string `parquet:"error,plain,snappy"`
}

type labelled struct {
	ID     string `parquet:"id,plain,snappy"`
	Image  *image `parquet:"image,optional"`
	Label  *int64 `parquet:"label,optional,plain,snappy"`
	Width  int32  `parquet:"width,plain,snappy"`
	Height int32  `parquet:"height,plain,snappy"`
	Status string `parquet:"status,dict,snappy"`
	Error  string `parquet:"error,plain,snappy"`
}

// sink hides the record type.
type sink interface {
	append(Row) error
	flush() error
	close() error
}

// Writer writes one Parquet file. After an error it is of no use, and neither is what was written.
type Writer struct {
	sink  sink
	rows  int64
	held  int   // rows of the open row group
	bytes int64 // their images
}

// NewWriter starts a file on w.
func NewWriter(w io.Writer, o Options) (*Writer, error) {
	features, err := metadata(o)
	if err != nil {
		return nil, err
	}
	options := []parquet.WriterOption{parquet.CreatedBy("ldm-batch", "1", ""), parquet.KeyValueMetadata("huggingface", features)}
	if o.Scene {
		return &Writer{sink: newSink(w, options, sceneOf)}, nil
	}
	if o.Label || len(o.LabelNames) > 0 {
		return &Writer{sink: newSink(w, options, func(r Row) labelled {
			return labelled{r.ID, r.image(), r.Label, int32(r.Width), int32(r.Height), r.Status, r.Error}
		})}, nil
	}
	return &Writer{sink: newSink(w, options, func(r Row) bare {
		return bare{r.ID, r.image(), int32(r.Width), int32(r.Height), r.Status, r.Error}
	})}, nil
}

func (r Row) image() *image {
	if r.Image == nil {
		return nil
	}
	return &image{r.Image, r.Path}
}

// metadata is the footer entry that Hugging Face datasets reads. Columns that it leaves out are inferred.
func metadata(o Options) (string, error) {
	features := map[string]any{"image": map[string]any{"_type": "Image"}}
	if len(o.LabelNames) > 0 {
		features["label"] = map[string]any{"_type": "ClassLabel", "names": o.LabelNames}
	}
	if o.Scene {
		features["mask"], features["segmentation"] = features["image"], features["image"]
	}
	b, err := json.Marshal(map[string]any{"info": map[string]any{"features": features}})
	return string(b), err
}

// Append adds a row. It copies what it keeps.
func (w *Writer) Append(r Row) error {
	if w.held > 0 && (w.held == groupRows || w.bytes+int64(len(r.Image)) > groupBytes) {
		if err := w.sink.flush(); err != nil {
			return err
		}
		w.held, w.bytes = 0, 0
	}
	if err := w.sink.append(r); err != nil {
		return fmt.Errorf("row %d: %w", w.rows, err)
	}
	w.rows, w.held, w.bytes = w.rows+1, w.held+1, w.bytes+int64(len(r.Image))
	return nil
}

// Close writes the footer.
func (w *Writer) Close() error { return w.sink.close() }

type typed[T any] struct {
	w       *parquet.GenericWriter[T]
	convert func(Row) T
	one     [1]T
}

func newSink[T any](w io.Writer, options []parquet.WriterOption, convert func(Row) T) sink {
	return &typed[T]{w: parquet.NewGenericWriter[T](w, options...), convert: convert}
}

func (t *typed[T]) append(r Row) (err error) {
	defer caught(&err)
	t.one[0] = t.convert(r)
	_, err = t.w.Write(t.one[:])
	return err
}

func (t *typed[T]) flush() (err error) {
	defer caught(&err)
	return t.w.Flush()
}

func (t *typed[T]) close() (err error) {
	defer caught(&err)
	return t.w.Close()
}

// caught turns a panic of the Parquet library into an error.
func caught(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("parquet: %v", r)
	}
}
