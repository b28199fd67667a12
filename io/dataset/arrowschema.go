package dataset

// arrowLayout counts what a record batch must hold for its columns. The decoder goes by the schema and does not look how many there are.
type arrowLayout struct {
	nodes   int // arrays
	buffers int // beside those of views
	views   int // arrays of views, whose numbers of buffers the batch tells
}

func (l *arrowLayout) add(m arrowLayout) {
	l.nodes += m.nodes
	l.buffers += m.buffers
	l.views += m.views
}

// arrowLayouts are those of the record batches of a file, and of its dictionaries by their ids.
type arrowLayouts struct {
	batch        arrowLayout
	dictionaries map[int64]arrowLayout
}

// Codes of types that need a closer look.
const (
	arrowTimestampCode = 10
	arrowUnionCode     = 14
	arrowBinaryView    = 23
	arrowTextView      = 24
)

// arrowBuffers are the buffers of an array by the code of its type; of a union those of a sparse one.
var arrowBuffers = [...]int{
	0, 0 /* null */, 2, 2, 3 /* binary */, 3 /* text */, 2, 2, 2, 2, 2, 2, 2 /* list */, 1 /* struct */, 1 /* union */, 2, 1 /* fixed-size list */, 2 /* map */, 2,
	3 /* large binary */, 3 /* large text */, 2 /* large list */, 0 /* run-end encoded */, 2, 2, 3 /* list view */, 3 /* large list view */}

// checkArrowSchema bounds what decoding a schema takes: offsets of a flatbuffer may lead to the same table or text many times. It
// returns what batches must hold.
func checkArrowSchema(f *flatbuf, schema int) (*arrowLayouts, error) {
	const big = 1
	if at := f.field(schema, schemaEndian); at > 0 && f.u16(at) == big {
		return nil, errorf(FileUnsupported, "arrow data in big-endian order cannot be read")
	}
	out := &arrowLayouts{dictionaries: map[int64]arrowLayout{}}
	w := arrowSchemaWalk{f: f, fields: 1 << 16, text: 1<<20 + 4*len(f.b), out: out}
	w.meta(schema, schemaMeta)
	out.batch = w.children(schema, schemaFields, 0)
	if f.bad || schema == 0 || !w.ok() {
		return nil, corrupt("arrow schema is damaged, or has more than 65536 fields, or nests deeper than 32")
	}
	return out, nil
}

// arrowSchemaWalk counts down what may still come.
type arrowSchemaWalk struct {
	f            *flatbuf
	fields, text int
	out          *arrowLayouts
}

func (w *arrowSchemaWalk) ok() bool { return !w.f.bad && w.fields >= 0 && w.text >= 0 }

func (w *arrowSchemaWalk) children(table, number, depth int) (sum arrowLayout) {
	at, n := w.f.vector(table, number, 4)
	for i := 0; i < n && w.ok(); i++ {
		if w.fields--; depth > 32 {
			w.f.bad = true
			return sum
		}
		sum.add(w.field(w.f.ref(at+4*i), depth))
	}
	return sum
}

func (w *arrowSchemaWalk) field(field, depth int) arrowLayout {
	w.string(field, fieldName)
	w.meta(field, fieldMeta)
	layout := w.typeOf(field)
	layout.add(w.children(field, fieldChildren, depth+1))
	dictionary := w.f.table(field, fieldDictionary)
	if dictionary == 0 {
		return layout
	}
	id := int64(0)
	if at := w.f.field(dictionary, 0); at > 0 {
		id = w.f.i64(at)
	}
	if have, twice := w.out.dictionaries[id]; twice && have != layout {
		w.f.bad = true
	}
	w.out.dictionaries[id] = layout
	return arrowLayout{nodes: 1, buffers: 2} // the indices
}

// typeOf returns the layout of a type without its children. It checks the only list in the description of a type, that of a union,
// and the text of a timestamp.
func (w *arrowSchemaWalk) typeOf(field int) arrowLayout {
	code := 0
	if at := w.f.field(field, fieldType); at > 0 {
		code = int(w.f.u8(at))
	}
	if code >= len(arrowBuffers) {
		w.f.bad = true // newer than the decoder, which would refuse it too
		return arrowLayout{}
	}
	out := arrowLayout{nodes: 1, buffers: arrowBuffers[code]}
	table := w.f.table(field, fieldTypeTable)
	switch code {
	case arrowUnionCode:
		w.f.vector(table, 1, 4)
		if at := w.f.field(table, 0); at > 0 && w.f.u16(at) > 0 { // dense
			out.buffers++
		}
	case arrowTimestampCode:
		w.string(table, 1)
	case arrowBinaryView, arrowTextView:
		out.views = 1
	}
	return out
}

func (w *arrowSchemaWalk) meta(table, number int) {
	at, n := w.f.vector(table, number, 4)
	for i := 0; i < n && w.ok(); i++ {
		w.fields--
		pair := w.f.ref(at + 4*i)
		w.string(pair, 0)
		w.string(pair, 1)
	}
}

func (w *arrowSchemaWalk) string(table, number int) {
	_, n := w.f.vector(table, number, 1)
	w.text -= n
}
