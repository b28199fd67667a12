package table

// Scene is what further columns say of an image.
type Scene struct {
	Caption      string
	Mask         []byte       // encoded picture, white where to fill
	Segmentation []byte       // encoded gray picture, a label a pixel
	Boxes        [][4]float64 // x, y, width, height, in fractions of the image
	Categories   []int64      // of the boxes
}

// scene is a labelled image with the columns caption, mask, segmentation, boxes and categories. Failed rows have none of them.
type scene struct {
	ID           string      `parquet:"id,plain,snappy"`
	Image        *image      `parquet:"image,optional"`
	Label        *int64      `parquet:"label,optional,plain,snappy"`
	Caption      *string     `parquet:"caption,optional,plain,snappy"`
	Mask         *image      `parquet:"mask,optional"`
	Segmentation *image      `parquet:"segmentation,optional"`
	Boxes        [][]float64 `parquet:"boxes,list"`
	Categories   []int64     `parquet:"categories,list"`
	Width        int32       `parquet:"width,plain,snappy"`
	Height       int32       `parquet:"height,plain,snappy"`
	Status       string      `parquet:"status,dict,snappy"`
	Error        string      `parquet:"error,plain,snappy"`
}

func sceneOf(r Row) scene {
	out := scene{ID: r.ID, Image: r.image(), Label: r.Label, Width: int32(r.Width), Height: int32(r.Height), Status: r.Status, Error: r.Error}
	s := r.Scene
	if s == nil {
		return out
	}
	out.Caption, out.Categories = &s.Caption, s.Categories
	if s.Mask != nil {
		out.Mask = &image{s.Mask, r.Path}
	}
	if s.Segmentation != nil {
		out.Segmentation = &image{s.Segmentation, r.Path}
	}
	for _, b := range s.Boxes {
		out.Boxes = append(out.Boxes, b[:])
	}
	return out
}
