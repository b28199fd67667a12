package scoring

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/eval/extract"
	"github.com/ldm-batch/ldm-batch/eval/measure"
	"github.com/ldm-batch/ldm-batch/eval/reference"
	"github.com/ldm-batch/ldm-batch/eval/stats"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	iostats "github.com/ldm-batch/ldm-batch/io/stats"
	"github.com/ldm-batch/ldm-batch/jobs"
)

// keptFeatures is how names of files end that have features themselves, as clean-fid names them.
const keptFeatures = "_kid.npz"

// classBytes is the most that the covariances of classes may take in a file of statistics.
const classBytes = 1 << 30

// saveStatistics writes what was kept of the generated set in the format that the file's name says. left says what was left out.
func saveStatistics(rec *record, kept []measure.Kept) (left string, err error) {
	var main, spatial *measure.Kept
	for i := range kept {
		switch kept[i].Tap {
		case rec.mainTap().Name:
			main = &kept[i]
		case extract.Spatial:
			spatial = &kept[i]
		}
	}
	var b bytes.Buffer
	switch path := rec.Eval.SaveStats; {
	case filepath.Ext(path) == ".arrow":
		left, err = saveArrow(&b, rec, kept)
	case main == nil:
		err = exitcode.Errorf(exitcode.Internal, "no features of the tap of FID")
	case strings.HasSuffix(path, keptFeatures):
		if main.Features.N == 0 {
			return "", exitcode.Errorf(exitcode.Usage, "the features of more rows than spec.eval.max_features are asked for")
		}
		err = reference.WriteFeatures(&b, main.Features)
	case filepath.Ext(path) == ".pt":
		err = reference.WriteTorch(&b, main.Moments)
	case spatial != nil:
		err = reference.WriteNPZ(&b, main.Moments, spatial.Moments)
	default:
		err = reference.WriteNPZ(&b, main.Moments, nil)
	}
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(rec.Eval.SaveStats), 0o777); err != nil {
		return "", exitcode.With(exitcode.IO, err)
	}
	return left, exitcode.With(exitcode.IO, jobs.WriteFile(rec.Eval.SaveStats, b.Bytes()))
}

// saveArrow writes the statistics by every tap, and those of the classes where classes are scored.
func saveArrow(w io.Writer, rec *record, kept []measure.Kept) (left string, err error) {
	classes := map[int64]stats.Features{}
	var tap string
	if k := slices.IndexFunc(kept, func(k measure.Kept) bool { return k.Features.N > 0 }); slices.Contains(rec.Eval.Metrics, "class_fid") {
		if k < 0 {
			left = "the file of statistics has no classes: the rows are more than spec.eval.max_features"
		} else {
			f := kept[k].Features
			if classes, err = f.ByClass(kept[k].Labels); err != nil {
				return "", err
			}
			delete(classes, -1)
			tap = kept[k].Tap
			if size := 4 * int64(len(classes)) * int64(f.D) * int64(f.D+1); size > classBytes {
				left = fmt.Sprintf("the file of statistics has no classes: those of %d classes would take %.1f GB", len(classes), float64(size)/1e9)
				clear(classes)
			}
		}
	}
	return left, iostats.Write(w, rec.meta(), func(yield func(iostats.Set, error) bool) {
		for _, k := range kept {
			if !yield(reference.SetOf(k.Tap, k.Moments)) {
				return
			}
		}
		for _, c := range slices.Sorted(maps.Keys(classes)) {
			if !yield(reference.ClassOf(tap, c, classes[c])) {
				return
			}
		}
	})
}

// setOf is a set of features that are at hand.
func setOf(f stats.Features) *measure.Set {
	return &measure.Set{Rows: int64(f.N), Each: func(_ string, yield func([]float32, int64) error) error {
		for i := range f.N {
			if err := yield(f.Row(i), -1); err != nil {
				return err
			}
		}
		return nil
	}}
}
