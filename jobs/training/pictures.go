package training

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
	"github.com/ldm-batch/ldm-batch/io/picture"
	"github.com/ldm-batch/ldm-batch/sample"
)

// painter is a learner that can show what it has learned. The pictures follow from the weights, the seed and the examples.
type painter interface {
	// paint makes pictures for validation examples, in rows of as many columns. No rows: there is nothing to show.
	paint(ctx context.Context, examples []*example) (rows [][]float32, err error) // each N x 3 x H x W in about [-1, 1]
	// caption says what the rows are.
	caption() string
}

func (l *firstStageLearner) caption() string {
	return "Above, pictures that are validated with; below, what is decoded from their latents."
}

func (l *firstStageLearner) paint(_ context.Context, examples []*example) ([][]float32, error) {
	var decoded []float32
	size := l.recipe.config.Size
	err := each(examples, l.batch, func(part []*example) error {
		v, err := l.trainer.Validate(images(part), len(part), size.H, size.W)
		if err == nil {
			decoded = append(decoded, v.Reconstruction...)
		}
		return err
	})
	return [][]float32{images(examples), decoded}, err
}

// Samples of a training are made in a few steps, with guidance where the model was trained for it.
const (
	paintSteps    = 20
	paintGuidance = 2
)

func (l *diffusionLearner) caption() string {
	rows := "Samples"
	switch l.recipe.condition {
	case class:
		rows = "Samples for the classes of pictures that are validated with"
	case superres:
		rows = "Small pictures that are validated with, what is made of them, and the originals"
	case inpaint:
		rows = "Pictures that are validated with, without what is in the holes; the holes filled; and the originals"
	case text, layout, semantic:
		rows = fmt.Sprintf("Samples for the %s that are validated with, above the pictures they belong to, if there are any", l.recipe.condition)
	}
	return fmt.Sprintf("%s: %d steps, always of the same noise.", rows, paintSteps)
}

// paint samples from the averaged weights, where there are any, with the conditions of the examples.
func (l *diffusionLearner) paint(ctx context.Context, examples []*example) (_ [][]float32, err error) {
	if l.measure {
		return nil, nil
	}
	list, err := l.trainer.Model()
	if err != nil {
		return nil, err
	}
	f, err := weights.NewMemory(list)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	m, err := nn.Bind(l.model.Config, f, nn.Options{})
	if err != nil {
		return nil, err
	}
	session := engine.New(m, l.backend)
	defer session.Close()
	c := sample.DefaultConfig()
	c.Steps = paintSteps
	null, guided := sample.NullClass(m)
	if guided = guided && l.recipe.condition == class && l.recipe.job.Train.Drop > 0; guided {
		c.Guidance = paintGuidance
	}
	gen, err := sample.NewGenerator(session, c)
	if err != nil {
		return nil, err
	}
	r := sample.Request{N: len(examples)}
	if r.H, r.W = l.recipe.config.Size.H, l.recipe.config.Size.W; r.H == 0 {
		r.H, r.W = gen.Factor()*l.recipe.latent[1], gen.Factor()*l.recipe.latent[2]
	}
	ids := make([]string, r.N)
	for i := range ids {
		ids[i] = fmt.Sprint("picture ", i)
	}
	r.Noise = sample.RowNoise{Seed: l.seed, Rows: ids}
	_, h, w := gen.LatentShape(r.H, r.W)
	if r.Cond, err = l.recipe.conditionBy(session, examples, h, w); err != nil {
		return nil, err
	}
	if guided {
		u, err := sample.ClassCondition(session, slices.Repeat([]int64{null}, r.N))
		if err != nil {
			return nil, err
		}
		r.Uncond = &u
	}
	out, err := gen.Generate(ctx, r)
	if err != nil || len(out) != 3*r.N*r.H*r.W {
		return nil, err
	}
	return l.recipe.around(slices.Clone(out), examples, r.H, r.W, h, w)
}

// around puts samples of h x w pixels between what they were made of, if that can be shown, and the pictures they belong to, if there are any.
// Small pictures are of the size of latents.
func (r *recipe) around(samples []float32, examples []*example, h, w, smallH, smallW int) (rows [][]float32, err error) {
	originals := images(examples)
	switch r.condition {
	case none, class:
		return [][]float32{samples}, nil
	case superres:
		large := make([]float32, 0, len(samples))
		for _, e := range examples {
			for i := range 3 * h * w {
				large = append(large, e.small[(i/(h*w)*smallH+i%(h*w)/w*smallH/h)*smallW+i%w*smallW/w])
			}
		}
		rows = append(rows, large)
	case inpaint:
		known := make([]float32, len(originals)) // gray in the holes
		if err := sample.Paste(known, originals, holes(examples), len(examples), h, w); err != nil {
			return nil, err
		}
		if err := sample.Paste(samples, originals, holes(examples), len(examples), h, w); err != nil {
			return nil, err
		}
		rows = append(rows, known)
	}
	rows = append(rows, samples)
	if len(originals) == len(samples) {
		rows = append(rows, originals)
	}
	return rows, nil
}

// sheet puts rows of pictures of h x w pixels into one PNG file.
func sheet(rows [][]float32, h, w int) (file []byte, width, height int, err error) {
	const gap = 2
	n := len(rows[0]) / (3 * h * w)
	f := picture.NewFrame(n*(w+gap)-gap, len(rows)*(h+gap)-gap, 3, 8)
	for i := range f.Pix8 {
		f.Pix8[i] = 255
	}
	for r, row := range rows {
		for i := range n {
			for c := range 3 {
				plane := row[(3*i+c)*h*w:][:h*w]
				for k, v := range plane {
					at := ((r*(h+gap)+k/w)*f.W + i*(w+gap) + k%w) * 3
					f.Pix8[at+c] = uint8(max(0, min(255, (v+1)*127.5+0.5)))
				}
			}
		}
	}
	var b bytes.Buffer
	err = picture.Encode(&b, f, picture.EncodeOptions{Format: picture.PNG, Level: picture.Small})
	return b.Bytes(), f.W, f.H, err
}
