// Package training trains the classifier whose features scores are made of.
//
// Concept: cross-entropy of classes, AdamW, one set of parameters; see package internal/nn/classifier for the network.
//
// Data flow: images (N,3,S,S) in [-1,1] and labels in, loss and share of right classes out; parameters and moments stay in the
// [Trainer], and [Trainer.Model] and [Trainer.Optimiser] list them for a checkpoint.
//
// Ownership: a Trainer owns its parameters until Close; the backend stays the caller's. It is not safe for concurrent use.
//
// Errors: values that are not finite are of class internal and name the parameter; files that do not fit are of class data.
package training
