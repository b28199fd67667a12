package resize

import (
	"fmt"
	"slices"
	"strings"
)

// Method names a library and a filter, as written in a job file.
type Method string

// None is the method of a pipeline that must not resize. It has no [Resizer].
const None Method = "none"

// entry describes a method: how to make its kernel, and whether that has a uint8 form.
type entry struct {
	name  Method
	uint8 bool
	make  func() any
}

var methods = []entry{
	{"pil-nearest", true, func() any { return &pillowNearest{} }},
	{"pil-box", true, func() any { return newPillow(pilBox) }},
	{"pil-bilinear", true, func() any { return newPillow(pilBilinear) }},
	{"pil-hamming", true, func() any { return newPillow(pilHamming) }},
	{"pil-bicubic", true, func() any { return newPillow(pilBicubic) }},
	{"pil-lanczos", true, func() any { return newPillow(pilLanczos) }},
	{"torch-nearest", true, func() any { return &torchNearest{} }},
	{"torch-area", false, func() any { return newTorch(torchArea) }},
	{"torch-bilinear", false, func() any { return newTorch(torchBilinear) }},
	{"torch-bilinear-corners", false, func() any { return newTorch(torchBilinearCorners) }},
	{"torch-bilinear-antialias", true, func() any { return newTorch(torchBilinearAntialias) }},
	{"torch-bicubic", false, func() any { return newTorch(torchBicubic) }},
	{"torch-bicubic-antialias", true, func() any { return newTorch(torchBicubicAntialias) }},
	{"tf1-bilinear", false, func() any { return &tf1{} }},
	{"cv-nearest", true, func() any { return &cvNearest{} }},
	{"cv-linear", true, func() any { return newOpenCV(cvLinear) }},
	{"cv-cubic", true, func() any { return &cvCubic{} }},
	{"cv-area", true, func() any { return newOpenCV(cvArea) }},
	{"cv-lanczos4", true, func() any { return newOpenCV(cvLanczos4) }},
	{"matlab-bicubic", true, func() any { return newMatlab(true, false) }},
	{"matlab-bicubic-symmetric", true, func() any { return newMatlab(true, true) }},
	{"matlab-bicubic-aliased", true, func() any { return newMatlab(false, false) }},
}

func find(m Method) *entry {
	if i := slices.IndexFunc(methods, func(e entry) bool { return e.name == m }); i >= 0 {
		return &methods[i]
	}
	return nil
}

// Methods returns every method in documentation order, [None] last.
func Methods() []Method {
	names := make([]Method, 0, len(methods)+1)
	for _, e := range methods {
		names = append(names, e.name)
	}
	return append(names, None)
}

// ParseMethod returns the method of that name, or an error that lists the known ones.
func ParseMethod(name string) (Method, error) {
	if m := Method(name); m == None || find(m) != nil {
		return m, nil
	}
	var known []string
	for _, m := range Methods() {
		known = append(known, string(m))
	}
	return "", fmt.Errorf("unknown resize method %q, want one of %s", name, strings.Join(known, ", "))
}

// Uint8 reports whether the method has a kernel on uint8 samples. Methods without one work on floating point only.
func (m Method) Uint8() bool {
	e := find(m)
	return e != nil && e.uint8
}

// New returns a Resizer for a method other than [None].
func New(m Method) (*Resizer, error) {
	if _, err := ParseMethod(string(m)); err != nil {
		return nil, err
	}
	if m == None {
		return nil, fmt.Errorf("resize method %q has no resizer", m)
	}
	return &Resizer{method: m, kernel: find(m).make()}, nil
}
