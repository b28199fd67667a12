package dataset

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// randomNest makes a value of nested lists: null, empty and filled lists, null and present elements.
func randomNest(rnd *rand.Rand, depth int) any {
	if rnd.IntN(6) == 0 {
		return nil
	}
	if depth == 0 {
		return int64(rnd.IntN(100))
	}
	list := []any{}
	for range rnd.IntN(4) {
		list = append(list, randomNest(rnd, depth-1))
	}
	return list
}

// stripe writes a value as entries of a column whose lists and elements are all optional; def is the level reached so far.
func stripe(row parquet.Row, x any, depth, rep, level, def int) parquet.Row {
	switch x := x.(type) {
	case nil:
		return append(row, parquet.Value{}.Level(rep, def, 1))
	case int64:
		return append(row, parquet.ValueOf(x).Level(rep, def+1, 1))
	case []any:
		if len(x) == 0 {
			return append(row, parquet.Value{}.Level(rep, def+1, 1))
		}
		for i, e := range x {
			if i > 0 {
				rep = level + 1
			}
			row = stripe(row, e, depth-1, rep, level+1, def+2)
		}
	}
	return row
}

func TestNestedLists(t *testing.T) {
	for depth := 1; depth <= 4; depth++ {
		t.Run(fmt.Sprint(depth), func(t *testing.T) {
			elem := parquet.Optional(parquet.Leaf(parquet.Int64Type))
			for range depth {
				elem = parquet.Optional(parquet.List(elem))
			}
			schema := parquet.NewSchema("row", parquet.Group{"image": parquet.Leaf(parquet.ByteArrayType), "x": elem})
			path := filepath.Join(t.TempDir(), "a.parquet")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			w := parquet.NewGenericWriter[any](f, schema, parquet.PageBufferSize(256))
			rnd := rand.New(rand.NewPCG(3, uint64(depth)))
			var want []any
			for i := range 300 {
				x := randomNest(rnd, depth)
				row := parquet.Row{parquet.ValueOf([]byte{byte(i), 1}).Level(0, 0, 0)}
				if _, err := w.WriteRows([]parquet.Row{stripe(row, x, depth, 0, 0, 0)}); err != nil {
					t.Fatal(err)
				}
				want = append(want, x)
				if i == 120 {
					if err := w.Flush(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			f.Close()
			r := readAll(Spec{Path: path, Columns: []string{"x"}})
			if r.err != nil || len(r.rows) != len(want) {
				t.Fatalf("%d rows, %v", len(r.rows), r.err)
			}
			if c := r.ft.Columns[0]; !c.List || c.Depth != depth || c.Kind != KindInt {
				t.Errorf("column %+v", c)
			}
			for i, row := range r.rows {
				if !reflect.DeepEqual(row.Values[0], want[i]) {
					t.Fatalf("row %d: %v, want %v", i, row.Values[0], want[i])
				}
			}
		})
	}
}

// Annotations of objects, as lists in a struct and as structs in a list.
type nestedObjects struct {
	Category []int64   `parquet:"category,list"`
	Area     []float64 `parquet:"area,list"`
}

type nestedObject struct {
	BBox     []float32 `parquet:"bbox,list"`
	Category *int64    `parquet:"category,optional"`
}

type nestedRecord struct {
	Image   []byte         `parquet:"image"`
	Objects *nestedObjects `parquet:"objects,optional"`
	Things  []nestedObject `parquet:"things,list"`
}

func TestDottedPaths(t *testing.T) {
	n := func(x int64) *int64 { return &x }
	path := filepath.Join(t.TempDir(), "a.parquet")
	writeGenerated(t, path, []nestedRecord{
		{[]byte("1"), &nestedObjects{[]int64{3, 4}, []float64{0.5}}, []nestedObject{{[]float32{1, 2, 3, 4}, n(7)}, {[]float32{}, nil}}},
		{[]byte("2"), nil, nil},
	}, []int{2})
	r := readAll(Spec{Path: path, Columns: []string{"objects.category", "objects.area", "things.bbox", "things.category"}})
	if r.err != nil {
		t.Fatal(r.err)
	}
	for i, want := range []string{"[[3 4] [0.5] [[1 2 3 4] []] [7 <nil>]]", "[<nil> <nil> [] []]"} {
		if got := fmt.Sprint(r.rows[i].Values); got != want {
			t.Errorf("row %d: %s, want %s", i, got, want)
		}
	}
	for k, depth := range []int{1, 1, 2, 1} {
		if c := r.ft.Columns[k]; c.Depth != depth || !c.List {
			t.Errorf("column %+v, want depth %d", c, depth)
		}
	}
	for column, class := range map[string]Class{"things": SchemaUnsupported, "objects": SchemaUnsupported, "things.none": SchemaNoColumn, "things.bbox.x": SchemaNoColumn} {
		if r := readAll(Spec{Path: path, Columns: []string{column}}); r.class != class {
			t.Errorf("%s: %v, want %s", column, r.err, class)
		}
	}
	if r := readAll(Spec{Path: path, Label: "things.category"}); r.class != SchemaUnsupported {
		t.Errorf("list as label: %v", r.err)
	}
}

// TestNestLevels feeds levels that no writer makes.
func TestNestLevels(t *testing.T) {
	for _, c := range []struct {
		entries [][2]uint8 // rep, def
		want    string     // "" is an error
	}{
		{[][2]uint8{{0, 0}}, "<nil>"},
		{[][2]uint8{{0, 1}}, "[]"},
		{[][2]uint8{{0, 5}, {2, 5}, {1, 3}, {1, 2}}, "[[9 9] [] <nil>]"},
		{[][2]uint8{{0, 0}, {1, 5}}, ""},
		{[][2]uint8{{0, 3}, {2, 5}}, ""},
		{[][2]uint8{{0, 5}, {3, 5}}, ""},
	} {
		n := nest{lists: []uint8{2, 4}}
		var err error
		for _, e := range c.entries {
			if err == nil {
				err = n.add(9, e[0], e[1])
			}
		}
		if got := fmt.Sprint(n.finish()); err == nil && got != c.want || err != nil && (c.want != "" || ClassOf(err) != FileCorrupt) {
			t.Errorf("%v: %s, %v; want %q", c.entries, got, err, c.want)
		}
	}
}
