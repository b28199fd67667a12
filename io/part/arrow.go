package part

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
)

// Schema metadata keys.
const (
	keyFormat      = "ldm.format"
	keyFingerprint = "ldm.job_fingerprint"
	keyModel       = "ldm.model_sha256"
	keyScale       = "ldm.scale_factor"
	keyShape       = "ldm.latent_shape"
	keyPart        = "ldm.part"
	keyParts       = "ldm.parts"
	keyHuggingFace = "huggingface"
)

// Field metadata keys of the latent column.
const (
	keyFieldShape = "ldm.shape"
	keyFieldDims  = "ldm.dim_names"
	keyExtName    = "ARROW:extension:name"
	keyExtMeta    = "ARROW:extension:metadata"
	tensorName    = "arrow.fixed_shape_tensor"
	dimNames      = `["C","H","W"]`
)

// arrowSchema translates s. Every field is nullable, since Hugging Face datasets knows no other, and the order of fields
// and keys is fixed.
func (s Schema) arrowSchema() *arrow.Schema {
	var fs []arrow.Field
	add := func(name string, t arrow.DataType, md ...string) {
		fs = append(fs, arrow.Field{Name: name, Type: t, Nullable: true, Metadata: pairs(md)})
	}
	add(colID, arrow.BinaryTypes.String)
	if s.Label {
		add(colLabel, arrow.PrimitiveTypes.Int64)
	}
	if l := s.Latent; l != nil {
		add(colLatent, l.arrowType(), l.fieldMetadata()...)
		if l.Layout == Ragged {
			add(colLatentShape, arrow.FixedSizeListOf(3, arrow.PrimitiveTypes.Int32))
		}
	}
	if s.Image {
		add(colImage, imageType)
	}
	if s.Files {
		add(colPath, arrow.BinaryTypes.String)
		add(colFileBytes, arrow.PrimitiveTypes.Int64)
		add(colFileSHA256, arrow.BinaryTypes.String)
	}
	add(colWidth, arrow.PrimitiveTypes.Int32)
	add(colHeight, arrow.PrimitiveTypes.Int32)
	if s.Sampling {
		add(colSeed, arrow.PrimitiveTypes.Uint64)
		add(colSteps, arrow.PrimitiveTypes.Int32)
		add(colGuidance, arrow.PrimitiveTypes.Float32)
	}
	add(colSource, arrow.BinaryTypes.String)
	for _, c := range s.Extra {
		add(c.Name, c.arrowType())
	}
	add(colStatus, arrow.BinaryTypes.String)
	if s.Files {
		add(colReason, arrow.BinaryTypes.String)
	}
	add(colError, arrow.BinaryTypes.String)
	md := pairs(s.metadata())
	return arrow.NewSchema(fs, &md)
}

var imageType = arrow.StructOf(
	arrow.Field{Name: "bytes", Type: arrow.BinaryTypes.Binary, Nullable: true},
	arrow.Field{Name: "path", Type: arrow.BinaryTypes.String, Nullable: true})

var extraTypes = map[Type]arrow.DataType{
	String: arrow.BinaryTypes.String, Int64: arrow.PrimitiveTypes.Int64, Float64: arrow.PrimitiveTypes.Float64,
	Bool: arrow.FixedWidthTypes.Boolean, Binary: arrow.BinaryTypes.Binary,
}

func (c Column) arrowType() arrow.DataType {
	if c.Type == Vector {
		return arrow.FixedSizeListOf(int32(c.Len), arrow.PrimitiveTypes.Float32)
	}
	return extraTypes[c.Type]
}

func pairs(kv []string) arrow.Metadata {
	var ks, vs []string
	for i := 0; i < len(kv); i += 2 {
		ks, vs = append(ks, kv[i]), append(vs, kv[i+1])
	}
	return arrow.NewMetadata(ks, vs)
}

func (l Latent) valueType() arrow.DataType {
	if l.DType == Float16 {
		return arrow.FixedWidthTypes.Float16
	}
	return arrow.PrimitiveTypes.Float32
}

func (l Latent) arrowType() arrow.DataType {
	switch v := l.valueType(); l.Layout {
	case Tensor:
		return arrow.FixedSizeListOf(int32(l.C*l.H*l.W), v)
	case Ragged:
		return arrow.ListOf(v)
	default:
		rows := arrow.FixedSizeListOf(int32(l.W), v)
		return arrow.FixedSizeListOf(int32(l.C), arrow.FixedSizeListOf(int32(l.H), rows))
	}
}

func (l Latent) shapeJSON() string {
	if l.Layout == Ragged {
		return fmt.Sprintf("[%d,-1,-1]", l.C)
	}
	return fmt.Sprintf("[%d,%d,%d]", l.C, l.H, l.W)
}

// fieldMetadata carries the extension type by its two standard keys, which is all an IPC file knows of it.
func (l Latent) fieldMetadata() []string {
	kv := []string{keyFieldShape, l.shapeJSON(), keyFieldDims, dimNames}
	if l.Layout == Tensor {
		kv = append(kv, keyExtName, tensorName, keyExtMeta, `{"shape":`+l.shapeJSON()+`,"dim_names":`+dimNames+`}`)
	}
	return kv
}

func (s Schema) metadata() []string {
	kv := []string{keyFormat, strconv.Itoa(Format)}
	add := func(k, v string, set bool) {
		if set {
			kv = append(kv, k, v)
		}
	}
	m := s.Meta
	add(keyFingerprint, m.JobFingerprint, m.JobFingerprint != "")
	add(keyModel, m.ModelSHA256, m.ModelSHA256 != "")
	add(keyScale, strconv.FormatFloat(m.ScaleFactor, 'g', -1, 64), m.ScaleFactor != 0)
	if s.Latent != nil {
		add(keyShape, s.Latent.shapeJSON(), true)
	}
	add(keyPart, strconv.Itoa(m.Part), m.Parts > 0)
	add(keyParts, strconv.Itoa(m.Parts), m.Parts > 0)
	hf := s.features()
	add(keyHuggingFace, hf, hf != "")
	return kv
}

// feature is one entry of the Hugging Face features. Only types that every release of datasets knows are written, since
// an unknown one makes a file unreadable; columns not listed are inferred from their Arrow type.
type feature struct {
	Names []string `json:"names,omitempty"`
	Type  string   `json:"_type"`
}

type hfInfo struct {
	Info struct {
		Features map[string]feature `json:"features"`
	} `json:"info"`
}

func (s Schema) features() string {
	fs := map[string]feature{}
	if len(s.LabelNames) > 0 {
		fs[colLabel] = feature{Names: s.LabelNames, Type: "ClassLabel"}
	}
	if s.Image {
		fs[colImage] = feature{Type: "Image"}
	}
	for _, c := range s.Extra {
		if len(c.Names) > 0 {
			fs[c.Name] = feature{Names: c.Names, Type: "ClassLabel"}
		}
	}
	if len(fs) == 0 {
		return ""
	}
	var info hfInfo
	info.Info.Features = fs
	b, err := json.Marshal(info) // map keys are sorted
	if err != nil {
		panic(err) // strings only
	}
	return string(b)
}

// parseSchema is the inverse of arrowSchema.
func parseSchema(a *arrow.Schema) (Schema, error) {
	var s Schema
	md := a.Metadata()
	get := func(k string) string {
		v, _ := md.GetValue(k)
		return v
	}
	if v := get(keyFormat); v != strconv.Itoa(Format) {
		return s, fmt.Errorf("schema metadata %s is %q, not \"%d\": not a part, or of another version", keyFormat, v, Format)
	}
	s.Meta.JobFingerprint, s.Meta.ModelSHA256 = get(keyFingerprint), get(keyModel)
	var err error
	if v := get(keyScale); v != "" {
		if s.Meta.ScaleFactor, err = strconv.ParseFloat(v, 64); err != nil {
			return s, fmt.Errorf("schema metadata %s: %w", keyScale, err)
		}
	}
	if v := get(keyParts); v != "" {
		if s.Meta.Parts, err = strconv.Atoi(v); err != nil {
			return s, fmt.Errorf("schema metadata %s: %w", keyParts, err)
		}
		if s.Meta.Part, err = strconv.Atoi(get(keyPart)); err != nil {
			return s, fmt.Errorf("schema metadata %s: %w", keyPart, err)
		}
	}
	var hf hfInfo
	if v := get(keyHuggingFace); v != "" {
		if err := json.Unmarshal([]byte(v), &hf); err != nil {
			return s, fmt.Errorf("schema metadata %s: %w", keyHuggingFace, err)
		}
	}
	payload := true // in front of the sizes; extra columns of any name come behind them
	for _, f := range a.Fields() {
		switch f.Name {
		case colWidth:
			payload = false
		case colLabel:
			s.Label, s.LabelNames = true, hf.Info.Features[colLabel].Names
		case colLatent:
			if s.Latent, err = parseLatent(f); err != nil {
				return s, err
			}
		case colImage:
			s.Image = true
		case colSeed:
			s.Sampling = true
		default:
			if s.Files = s.Files || payload && f.Name == colPath; s.Fixed(f.Name) {
				continue
			}
			c := Column{Name: f.Name, Names: hf.Info.Features[f.Name].Names}
			for t, at := range extraTypes {
				if arrow.TypeEqual(f.Type, at) {
					c.Type = t
				}
			}
			if l, ok := f.Type.(*arrow.FixedSizeListType); ok && arrow.TypeEqual(l.Elem(), arrow.PrimitiveTypes.Float32) {
				c.Type, c.Len = Vector, int(l.Len())
			}
			s.Extra = append(s.Extra, c)
		}
	}
	if err := s.withDefaults().validate(); err != nil {
		return s, err
	}
	if got := s.arrowSchema(); !got.Equal(a) {
		return s, fmt.Errorf("columns %v are not those of a part, %v", a.Fields(), got.Fields())
	}
	return s, nil
}

func parseLatent(f arrow.Field) (*Latent, error) {
	v, _ := f.Metadata.GetValue(keyFieldShape)
	var shape []int
	if err := json.Unmarshal([]byte(v), &shape); err != nil || len(shape) != 3 {
		return nil, fmt.Errorf("column %s: field metadata %s is %q, not a shape", colLatent, keyFieldShape, v)
	}
	l := &Latent{C: shape[0], H: shape[1], W: shape[2], DType: Float32, Layout: List}
	leaf := f.Type
	for {
		n, ok := leaf.(arrow.ListLikeType)
		if !ok {
			break
		}
		leaf = n.Elem()
	}
	if leaf.ID() == arrow.FLOAT16 {
		l.DType = Float16
	}
	if f.Type.ID() == arrow.LIST {
		l.Layout, l.H, l.W = Ragged, 0, 0
	} else if name, _ := f.Metadata.GetValue(keyExtName); name == tensorName {
		l.Layout = Tensor
	}
	return l, nil
}
