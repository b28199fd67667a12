package picture

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

type storedImage struct {
	Bytes []byte `parquet:"bytes,optional"`
	Path  string `parquet:"path,optional"`
}

// TestStoredFormats decodes a data set of real pictures in many storage forms; the set holds the reference pixels.
func TestStoredFormats(t *testing.T) {
	type row struct {
		Image  storedImage `parquet:"image,optional"`
		Width  int64       `parquet:"width,optional"`
		Height int64       `parquet:"height,optional"`
		RGB    []byte      `parquet:"rgb,optional"`
	}
	rows, err := parquet.ReadFile[row](filepath.Join(golden.Data(t, "odd"), "formats.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) == 0 {
		t.Fatal("no row")
	}
	var d Decoder
	equal := 0
	for _, r := range rows {
		img, err := d.Decode(r.Image.Bytes, DefaultOptions())
		if err != nil {
			t.Errorf("%s: %v", r.Image.Path, err)
			continue
		}
		if img.W != int(r.Width) || img.H != int(r.Height) {
			t.Errorf("%s: %dx%d, reference %dx%d", r.Image.Path, img.W, img.H, r.Width, r.Height)
			continue
		}
		var c tally
		if diff, beyond := c.add(img.Pix, r.RGB); diff != 0 {
			t.Errorf("%s: differs by up to %d, %d of %d samples, %.2f %% by more than 1", r.Image.Path, diff, c.off1, c.samples, 100*beyond)
			continue
		}
		equal++
	}
	t.Logf("%d of %d pictures equal", equal, len(rows))
}

// TestStoredDamage checks that damaged pictures are refused with the expected class.
func TestStoredDamage(t *testing.T) {
	dir := golden.Data(t, "odd")
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected struct {
		Files []struct {
			Path    string
			BadRows []struct {
				Row   int
				Class json.RawMessage
				Name  string
			} `json:"bad_rows"`
		}
	}
	if err := json.Unmarshal(b, &expected); err != nil {
		t.Fatal(err)
	}
	type row struct {
		Image storedImage `parquet:"image,optional"`
	}
	kinds := map[string][]Kind{
		"row.truncated": {KindTruncated}, "row.decode": {KindCorrupt, KindUnknownFormat},
		"row.too_large": {KindTooLarge}, "row.unsupported": {KindUnsupported}, "row.empty": {KindEmpty},
	}
	n := 0
	for _, f := range expected.Files {
		if f.Path != "broken_images.parquet" && f.Path != "formats_optional.parquet" {
			continue
		}
		rows, err := parquet.ReadFile[row](filepath.Join(dir, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range f.BadRows {
			n++
			var classes []string
			if json.Unmarshal(bad.Class, &classes) != nil {
				classes = []string{""}
				if err := json.Unmarshal(bad.Class, &classes[0]); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Decode(rows[bad.Row].Image.Bytes, DefaultOptions())
			t.Logf("%s: %v", rows[bad.Row].Image.Path, err)
			if err == nil {
				if !slices.Contains(classes, "ok") && !slices.Contains(classes, "row.unsupported") {
					t.Errorf("%s row %d (%s): decoded, want %v", f.Path, bad.Row, bad.Name, classes)
				}
				continue
			}
			var e *Error
			ok := false
			for _, c := range classes {
				ok = ok || errors.As(err, &e) && slices.Contains(kinds[c], e.Kind)
			}
			if !ok {
				t.Errorf("%s row %d (%s): %v, want %v", f.Path, bad.Row, bad.Name, err, classes)
			}
		}
	}
	if n == 0 {
		t.Fatal("no bad row")
	}
}
