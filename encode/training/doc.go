// Package training trains first stages: autoencoders with a perceptual loss and an adversary, as latent-diffusion and
// taming-transformers do (Esser et al., "Taming Transformers for High-Resolution Image Synthesis", 2021; Rombach et al., 2022).
//
// Concept: every batch makes two passes. The first one moves the autoencoder: absolute error and perceptual distance, a divergence
// or codebook term, and the judgement of the discriminator, weighted so that its gradient at the decoder's last layer is in proportion
// to that of the reconstruction. The second one encodes and decodes again with the new weights and moves the discriminator. Both
// are programs of package ir with symbolic gradients; that of the first pass joins parts, see [ir.Link], because its backward pass
// starts from a sum whose weight depends on two other gradients.
//
// Data flow: images (N,C,H,W) float32 in [-1,1] and noise in, logged terms out; parameters, moments and running statistics stay in
// the [Trainer] and are listed by [Trainer.State] under the names and in the order of the reference's state dict.
//
// Ownership: a Trainer owns its parameters until Close; the backend and the perceptual network stay the caller's. It is not safe for
// concurrent use.
//
// Errors: impossible configurations are of class exitcode.Data, values that are not finite of class exitcode.Internal, with the term
// or the parameter.
package training
