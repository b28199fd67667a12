package sample

import (
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// TestParseBoxes reads boxes as tables and as JSON hold them.
func TestParseBoxes(t *testing.T) {
	want := []Box{{Class: 7, Rect: Rect{X: 0.25, Y: 0, W: 0.5, H: 1}}}
	lists := []any{[]any{0.25, int64(0), 0.5, int64(1)}}
	for name, c := range map[string]struct {
		boxes, categories any
		err               string
	}{
		"lists":             {lists, []any{int64(7)}, ""},
		"JSON":              {"[[0.25, 0, 0.5, 1]]", "[7]", ""},
		"no list":           {nil, []any{int64(7)}, "want a list"},
		"broken JSON":       {"[[0.25", "[7]", "want a list"},
		"one category more": {lists, "[7, 8]", "1 boxes and 2 categories"},
		"three numbers":     {"[[0, 0, 1]]", "[7]", "box 0 is not"},
		"half a category":   {lists, "[7.5]", "box 0 is not"},
		"text":              {`[[0, 0, 1, "1"]]`, "[7]", "box 0: 1 is not a number"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseBoxes(c.boxes, c.categories)
			switch {
			case c.err == "" && (err != nil || !slices.Equal(got, want)):
				t.Errorf("%v, %v", got, err)
			case c.err != "" && (exitcode.Of(err) != exitcode.Data || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%v, want %q", err, c.err)
			}
		})
	}
}
