// Package lpips is the perceptual distance of images by Zhang et al., "The Unreasonable Effectiveness of Deep Features as a
// Perceptual Metric" (2018), on VGG16: the loss that first stages are trained with, and a metric of pairs of images.
//
// Concept: the features of five layers, scaled to unit length at every pixel, are compared with weights that were learned from
// judgements of people. The network is written with the operations of package ir, so that it has a gradient, and takes weights
// by the names of its state dict: "scaling_layer.shift", "net.slice1.0.weight", "lin0.model.1.weight" and so on.
//
// Data flow: files of a user -> [Model], a source of weights; [Graph] makes the program for images of one size, and [Features]
// and [Distance] are its parts for larger graphs. Dropout in front of the heads, which the reference has, is off. [FeatureGraph]
// goes on from the same convolutions to the hidden layers of VGG16, whose features scores of sets are made of.
//
// Ownership: a Model reads from files that it keeps open until Close.
//
// Errors: files that do not hold the network are errors of class exitcode.Data that name what is missing.
package lpips
