// Package sample generates: noise schedules, samplers, guidance, and the tasks of latent diffusion in bulk.
//
// Concept: a [Schedule] is the forward process; a [Sampler] walks it backwards with a [Denoiser] that predicts the noise of
// a whole batch. Every random number is drawn from a [Noise] that knows the row it belongs to, never from a shared
// generator, so that a row's result does not depend on its batch, its shard or the order of work.
//
// Data flow: latents are N x C x H x W float32, row-major, updated in place. A sampler calls the denoiser with one time for
// each sample. ddim, ddpm and plms combine the answer in the order of float32 operations of the reference program, so that equal
// noise gives equal latents up to the rounding of the network. The other solvers go from one [Level] to the next, the last of
// which is free of noise; their factors are float64, rounded once to float32.
//
// Ownership: the caller owns latents and outputs; samplers keep scratch of the batch's size and are not safe for
// concurrent use.
//
// Errors: configurations are checked by Validate before any work; a denoiser's error ends the walk and is returned with
// the step it happened at; so is the end of the context.
package sample
