// Package preprocess turns decoded pictures into the arrays that a first stage is trained on, and arrays back into pictures.
//
// Concept: the pixels that a latent stands for depend on how the picture was cropped, resized and scaled, and published models
// differ in that. A [Config] names one way; crop and resize are the ones of the reference data sets (center: shorter side to
// the size, then a centre crop, as for ImageNet and faces; lsun: centre square first, then resize).
//
// Data flow: a [Preprocessor] decides in [Preprocessor.Place] where the output lies in the source, which is the only step
// that draws random numbers, and then writes the pixels of that [Placement] as float32 CHW, float32 HWC or uint8. The two
// are apart so that a mask or a segmentation map can follow its picture through another resize method. [ToUint8],
// [ToUint16] and [Luma] are the way back from a decoder's output.
//
// Ownership: pictures are only read and every destination is the caller's. A Preprocessor keeps scratch memory and
// coefficient tables, so it is for one goroutine, and a steady stream of equal shapes allocates nothing.
//
// Errors: a bad Config names the field and the allowed values; a picture that does not fit says its size. Pixels are never
// clipped or padded on the way to the model.
package preprocess
