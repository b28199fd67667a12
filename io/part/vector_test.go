package part

import (
	"io"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// vectors is the schema of a part of two feature vectors a row.
var vectors = Schema{Extra: []Column{{Name: "set", Type: String}, {Name: "f3", Type: Vector, Len: 3}, {Name: "f1", Type: Vector, Len: 1}}}

func TestVectors(t *testing.T) {
	var rows []Row
	for i := range 2500 { // three record batches
		r := Row{ID: "r", Status: OK, Extra: []any{"a", []float32{float32(i), -1, 0.5}, []float32{float32(i) / 7}}}
		if i%7 == 3 {
			r = Row{ID: "r", Status: Failed, Error: "truncated: x", Extra: []any{nil, nil, nil}}
		}
		rows = append(rows, r)
	}
	path, st := writeFile(t, vectors, rows)
	r, err := Open(path, Expect{st.Bytes, st.SHA256})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := r.Schema().Extra; !reflect.DeepEqual(got, vectors.Extra) {
		t.Errorf("columns %+v", got)
	}
	i := 0
	for got, err := range r.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, rows[i]) {
			t.Fatalf("row %d: %+v, want %+v", i, got, rows[i])
		}
		i++
	}
	if i != len(rows) {
		t.Errorf("%d rows", i)
	}
}

func TestVectorRules(t *testing.T) {
	one, three := []float32{1}, []float32{1, 2, 3}
	for name, extra := range map[string][]any{
		"length": {"a", one, one}, "missing": {"a", three, nil}, "NaN": {"a", three, []float32{float32(math.NaN())}},
		"infinite": {"a", three, []float32{float32(math.Inf(-1))}}, "other type": {"a", three, []float64{1}}, "vector for text": {one, three, one},
	} {
		w, err := NewWriter(io.Discard, vectors)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(Row{ID: "r", Status: OK, Extra: extra}); exitcode.Of(err) != exitcode.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	w, err := NewWriter(io.Discard, vectors)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(Row{ID: "r", Status: Failed, Error: "x", Extra: []any{nil, three, one}}); err == nil {
		t.Error("a failed row with vectors")
	}
	for want, s := range map[string]Schema{
		"length 0": {Extra: []Column{{Name: "f", Type: Vector}}},
		"length 2": {Image: true, Extra: []Column{{Name: "f", Type: Int64, Len: 2}}},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
