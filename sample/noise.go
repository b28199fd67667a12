package sample

import (
	"math"
	"math/bits"
)

// Noise draws standard normal numbers for a batch. Every call names what it draws for, so that the same call always gives
// the same numbers.
type Noise interface {
	// Initial writes x_T.
	Initial(dst []float32) error
	// Step writes the sampler's own noise for the k-th step made, counted from 0.
	Step(k int, dst []float32) error
}

// Stream numbers separate what a row's noise is used for.
const (
	StreamInitial   = 0       // x_T
	StreamPosterior = 1       // the first stage's posterior
	StreamCrop      = 2       // random crops and flips
	StreamMask      = 1 << 16 // plus the step: known regions at each step's time
	StreamStep      = 1 << 24 // plus the step: the sampler
)

// RowNoise gives each row of a batch its own noise, keyed by the job's seed and the row's id alone.
type RowNoise struct {
	Seed uint64
	Rows []string // ids, one for each row of the batch
}

// Initial implements [Noise].
func (n RowNoise) Initial(dst []float32) error { n.Fill(StreamInitial, dst); return nil }

// Step implements [Noise].
func (n RowNoise) Step(k int, dst []float32) error { n.Fill(StreamStep+uint32(k), dst); return nil }

// Fill writes every row's part of dst from the given stream.
func (n RowNoise) Fill(stream uint32, dst []float32) {
	size := len(dst) / max(len(n.Rows), 1)
	for i, id := range n.Rows {
		Normal(n.Seed, id, stream, dst[i*size:(i+1)*size])
	}
}

// Normal writes standard normal numbers that are a function of seed, row id, stream and position only: Philox 4x32-10
// (Salmon et al., SC 2011) over a counter of block, stream and the id's 64-bit hash, then the Box-Muller transform in
// float64.
func Normal(seed uint64, id string, stream uint32, dst []float32) {
	row := hash(id)
	for i := 0; i < len(dst); i += 4 {
		r := philox([4]uint32{uint32(i / 4), stream, uint32(row), uint32(row >> 32)}, [2]uint32{uint32(seed), uint32(seed >> 32)})
		a, b := boxMuller(r[0], r[1])
		c, d := boxMuller(r[2], r[3])
		v := [4]float32{a, b, c, d}
		copy(dst[i:], v[:])
	}
}

// Uint64 returns a source of uniform numbers for a row, for choices such as crops, from the same generator.
func Uint64(seed uint64, id string, stream uint32) func() uint64 {
	row, block := hash(id), uint32(0)
	return func() uint64 {
		r := philox([4]uint32{block, stream, uint32(row), uint32(row >> 32)}, [2]uint32{uint32(seed), uint32(seed >> 32)})
		block++
		return uint64(r[0])<<32 | uint64(r[1])
	}
}

// hash is 64-bit FNV-1a with a final mix, so that similar ids differ in every bit.
func hash(id string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 0x100000001b3
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// philox is the ten-round Philox 4x32 block function.
func philox(c [4]uint32, k [2]uint32) [4]uint32 {
	for range 10 {
		h0, l0 := bits.Mul32(0xD2511F53, c[0])
		h1, l1 := bits.Mul32(0xCD9E8D57, c[2])
		c = [4]uint32{h1 ^ c[1] ^ k[0], l1, h0 ^ c[3] ^ k[1], l0}
		k[0] += 0x9E3779B9
		k[1] += 0xBB67AE85
	}
	return c
}

func boxMuller(a, b uint32) (float32, float32) {
	u := (float64(a) + 0.5) / (1 << 32)
	v := float64(b) / (1 << 32)
	r := math.Sqrt(-2 * math.Log(u))
	s, c := math.Sincos(2 * math.Pi * v)
	return float32(r * c), float32(r * s)
}
