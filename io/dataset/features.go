package dataset

import (
	"encoding/json"
	"fmt"

	"github.com/parquet-go/parquet-go/format"
)

// features is what the Hugging Face libraries note in the footer about top-level columns.
type features struct {
	image   map[string]bool     // columns of type Image
	classes map[string][]string // names of ClassLabel columns
	warning string              // why the note could not be read
}

// featuresKey is the key of the note in the metadata of a file.
const featuresKey = "huggingface"

func newFeatures() features {
	return features{image: map[string]bool{}, classes: map[string][]string{}}
}

// readFeatures reads the note in a Parquet footer.
func readFeatures(meta *format.FileMetaData) features {
	f := newFeatures()
	for _, kv := range meta.KeyValueMetadata {
		if kv.Key == featuresKey {
			f.read(kv.Value)
		}
	}
	return f
}

// read takes in a note. It only hints: a note that cannot be read is a warning.
func (f *features) read(text string) {
	var note struct {
		Info struct {
			Features map[string]json.RawMessage `json:"features"`
		} `json:"info"`
	}
	if err := json.Unmarshal([]byte(text), &note); err != nil {
		f.warning = fmt.Sprintf("footer key %q cannot be read, going by the schema: %v", featuresKey, err)
		return
	}
	for name, raw := range note.Info.Features {
		var feature struct {
			Type  string   `json:"_type"`
			Names []string `json:"names"`
		}
		if json.Unmarshal(raw, &feature) != nil {
			continue // lists and nested structures of features
		}
		switch feature.Type {
		case "Image":
			f.image[name] = true
		case "ClassLabel":
			f.classes[name] = feature.Names
		}
	}
}
