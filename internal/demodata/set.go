package demodata

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
)

// Options say which set is made.
type Options struct {
	Size    int    // height and width in pixels, 16 to 512
	Seed    uint64 // sets of different seeds have nothing in common
	Split   string // sets of different splits, such as "train" and "test", neither
	Objects int    // at most so many things in a picture, 1 to 6; the label is that of the largest
}

// Validate reports the first impossible setting.
func (o Options) Validate() error {
	switch {
	case o.Size < 16 || o.Size > 512:
		return fmt.Errorf("size %d is not in 16..512", o.Size)
	case o.Objects < 1 || o.Objects > maxObjects:
		return fmt.Errorf("%d objects are not in 1..%d", o.Objects, maxObjects)
	}
	return nil
}

const maxObjects = 6

// Set makes pictures.
type Set struct{ o Options }

// New returns a set.
func New(o Options) (*Set, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Set{o}, nil
}

// Object is a thing in a picture.
type Object struct {
	Class int
	Box   [4]float64 // x, y of the top left corner, width, height, in fractions of the picture
}

// Picture is one row.
type Picture struct {
	Size    int
	RGB     []uint8 // Size x Size x 3
	Labels  []uint8 // Size x Size: 0 background, 1 + class
	Mask    []uint8 // Size x Size: 255 where inpainting is to fill, else 0
	Label   int
	Caption string
	Objects []Object // the largest first
}

// source is the random stream of a row. Different purposes have streams of their own, so that a change of one leaves the others.
func (s *Set) source(row int64, purpose string) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d", purpose, s.o.Split, row)
	return rand.New(rand.NewPCG(s.o.Seed, h.Sum64()))
}

// label is the class of a row: every ten rows are a permutation of the classes.
func (s *Set) label(row int64) int {
	n := int64(len(things))
	return s.source(row/n, "classes").Perm(len(things))[row%n]
}

// Row draws row i, which is not negative.
func (s *Set) Row(i int64) *Picture {
	r := s.source(i, "scene")
	p := &Picture{Size: s.o.Size, Label: s.label(i)}
	l := newLight(r)
	b, poses := compose(r, p.Label, s.o.Objects)
	draw(p, b, l, poses)
	p.Caption = caption(s.source(i, "caption"), b, poses)
	p.Mask = mask(s.source(i, "mask"), s.o.Size)
	return p
}
