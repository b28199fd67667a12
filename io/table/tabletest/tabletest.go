// Package tabletest writes Parquet files for tests of whole jobs. The columns are the fields of a struct, named by their tags
// as the Parquet library reads them: `parquet:"caption,optional"`. It is imported by tests only.
package tabletest

import (
	"os"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// Image is an image column in the layout of Hugging Face datasets: `parquet:"image,optional"`.
type Image struct {
	Bytes []byte `parquet:"bytes,optional"`
	Path  string `parquet:"path,optional"`
}

// Write writes rows to a new file. Errors end the test.
func Write[T any](t testing.TB, path string, rows []T) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := parquet.NewGenericWriter[T](f)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
