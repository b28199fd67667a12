package training

import (
	"math"
	"strconv"

	"github.com/ldm-batch/ldm-batch/sample"
)

// Streams of random numbers of one sample, beside those of package sample: its noise is that of StreamInitial, its posterior and
// its crop have their own there.
const (
	streamTime = 8 + iota
	streamOffset
	streamDrop
	// StreamHoles is for the holes of inpainting.
	StreamHoles
	// StreamSecondPass, added to sample.StreamPosterior, is for the discriminator's pass of a first stage.
	StreamSecondPass
)

// Key names a sample by its number, its place in the order of the whole run, from 0; everything random of it follows from the seed and its key.
func Key(number int64) string { return "sample " + strconv.FormatInt(number, 10) }

// Draw gives the samples of a batch, of which there is one number for each, their times and noise, N x C x h x w.
func (o *Objective) Draw(seed uint64, numbers []int64, b *Batch) {
	d := o.model.Config.Diffusion
	each := d.Channels * b.H * b.W
	if len(b.Noise) != b.N*each {
		b.Noise = make([]float32, b.N*each)
	}
	b.Times = b.Times[:0]
	shift := make([]float32, d.Channels)
	for i, number := range numbers {
		key := Key(number)
		b.Times = append(b.Times, int(uniform01(seed, key, streamTime)*float64(o.tables.len())))
		row := b.Noise[i*each : (i+1)*each]
		sample.Normal(seed, key, sample.StreamInitial, row)
		if o.config.OffsetNoise > 0 {
			sample.Normal(seed, key, streamOffset, shift)
			for j := range row {
				row[j] += float32(o.config.OffsetNoise) * shift[j/(b.H*b.W)]
			}
		}
	}
}

// Dropped says whether a sample is trained without its class or caption.
func (o *Objective) Dropped(seed uint64, number int64) bool {
	return o.config.Drop > 0 && uniform01(seed, Key(number), streamDrop) < o.config.Drop
}

// uniform01 is in [0, 1).
func uniform01(seed uint64, key string, stream uint32) float64 {
	return float64(sample.Uint64(seed, key, stream)()>>11) / (1 << 53)
}

// ScaleFactor is what latents are multiplied with so that those given have unit standard deviation, unbiased (reference:
// scale_by_std on the first batch).
func ScaleFactor(z []float32) float32 {
	mean := 0.0
	for _, v := range z {
		mean += float64(v) / float64(len(z))
	}
	sum := 0.0
	for _, v := range z {
		sum += (float64(v) - mean) * (float64(v) - mean)
	}
	return float32(1 / math.Sqrt(sum/float64(len(z)-1)))
}
