// Package classifier is a small convolutional network that tells classes of pictures apart, and whose features scores are made of
// where no Inception-v3 is at hand.
//
// Concept: levels of a residual block each, half the resolution and more channels from one to the next; group normalisation and
// SiLU before every convolution, so that a picture's result does not depend on its batch; the mean over all pixels of the last level
// is the feature vector, of which one linear layer makes the logits.
//
// Data flow: images (N,3,S,S) in [-1,1] -> [Graph] of taps for inference, or [Loss] with gradients for training.
//
// Ownership: a [Model] owns the file of its weights until Close. A [Config] is a value.
//
// Errors: configurations and files that do not fit are of class data and name the key or the tensor.
package classifier
