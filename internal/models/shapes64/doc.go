// Package shapes64 holds the weights of the network that pictures are scored with where no Inception-v3 is at hand: a classifier of
// the demonstration data set, which this program drew and trained it on.
//
// Concept: shapes64.safetensors (float16) and config.yaml are embedded in the program; train.yaml is the job that made them and
// log.jsonl its log. What a distance of its features means, and what it does not notice, docs/eval.md says.
//
// Data flow: bytes to whoever binds them, see package internal/nn/classifier.
//
// Ownership: the bytes are shared and must not be changed.
package shapes64

import _ "embed"

// Name is what scores of its features carry.
const Name = "shapes64"

// Weights is the model file, in the format safetensors.
//
//go:embed shapes64.safetensors
var Weights []byte

// Config is the configuration of the network.
//
//go:embed config.yaml
var Config []byte
