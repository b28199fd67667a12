// Package extract makes features of pictures: the Inception-v3 of FID and its relatives, VGG16, classifiers, and the latents of a
// first stage.
//
// Concept: a [Network] hands out features by tap. Scores of its features carry its name: only those of the Inception-v3 are
// called FID; those of another network are FD(NAME).
//
// Data flow: picture -> [Preparer], one for each goroutine, which does to it what the protocol says -> input of the network ->
// [Network.Features], any number of inputs at a time -> rows of features, one list for each tap. A row depends on its
// picture, the protocol and the weights alone: not on its batch, on the number of threads or on what other taps are asked
// for.
//
// Ownership: a Network owns its weights and compiled graphs until Close; the backend stays the caller's. Features are the
// caller's. A Network is for one goroutine at a time.
//
// Errors: a model file that does not fit is of class data; features that are not finite are of class internal.
package extract
