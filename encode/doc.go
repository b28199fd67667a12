// Package encode is the first stage as users see it: images to latents and back.
//
// Concept: a [FirstStage] wraps the autoencoder of a model, KL or VQ, behind two operations, Encode and Decode, on the
// latents that a diffusion model works on.
//
// Data flow: images are N x 3 x H x W (NCHW) float32 in [-1, 1]; latents are N x C x H/f x W/f float32, for KL the mean or a
// sample of the posterior, for VQ the vectors before they are quantised (as latent diffusion models use them). Both are
// multiplied by the scale factor when asked; Decode divides by it and, for VQ, snaps to the codebook first.
//
// Ownership: results are the caller's to read until the next call. A FirstStage is not safe for concurrent use.
//
// Errors: sizes that the network cannot take, NaN in a result (class internal), and those of package engine.
package encode
