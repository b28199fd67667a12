// Package inception is the network behind FID, Inception Score, KID, sFID and precision/recall: the Inception-v3 of 2015 with
// 1008 classes, whose weights every evaluation tool shares (Szegedy et al. 2016; Heusel et al. 2017). It differs from the
// Inception-v3 of model libraries in the padding of its average pools, which is left out of the mean, and in the last block,
// which takes maxima.
//
// Concept: [Graph] describes the network for images of 299x299 and hands out taps, the features that scores are made of.
// Data flow: state dict -> [Bind] -> [Model], the weights of the graph. Batch normalisations are folded into the convolutions
// before them when a weight is read, in float64 with one rounding to float32.
// Ownership: a Model reads from the model file, which must stay open; [Open] keeps it open until [Model.Close].
// Errors: a file that does not fit is of class data and names the tensors.
package inception
