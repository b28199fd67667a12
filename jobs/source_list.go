package jobs

import (
	"context"
	"fmt"
	"iter"

	"github.com/ldm-batch/ldm-batch/io/part"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// listSource is the list of images that a job generates without input: per_class images of every class, or rows of none.
type listSource struct {
	classes  []int // nil: unconditional
	perClass int64
	total    int64
}

func newListSource(s spec.Sample) (*listSource, error) {
	if s.Task == "uncond" {
		return &listSource{total: int64(s.Rows)}, nil
	}
	classes, err := spec.ParseClasses(s.Classes)
	if err != nil {
		return nil, err
	}
	return &listSource{classes: classes, perClass: int64(s.PerClass), total: int64(s.PerClass) * int64(len(classes))}, nil
}

func (s *listSource) rows() int64 { return s.total }

// identity is empty: the list follows from the job file.
func (s *listSource) identity() any { return nil }

// read yields rows class by class. Ids name class and number, so that an image keeps its noise when classes are added.
func (s *listSource) read(_ context.Context, from, to int64) iter.Seq2[*item, error] {
	return func(yield func(*item, error) bool) {
		for i := from; i < to; i++ {
			it := &item{number: i, row: part.Row{ID: fmt.Sprintf("%06d", i), Label: -1}}
			if s.classes != nil {
				it.row.Label, it.row.HasLabel = int64(s.classes[i/s.perClass]), true
				it.row.ID = fmt.Sprintf("class-%04d-%06d", it.row.Label, i%s.perClass)
			}
			it.where = "row " + it.row.ID
			it.row.ImagePath = it.row.ID
			if !yield(it, nil) {
				return
			}
		}
	}
}
