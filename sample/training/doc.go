// Package training trains latent diffusion models: the objective as a graph, and everything random that a step needs.
//
// Concept: an [Objective] is a model's loss on batches of latents. Its graph holds the U-Net and, where the configuration says
// cond_stage_trainable, the conditioner; the gradients are symbolic ([ir.Grad]). What depends on the time of a sample alone is
// computed beside the graph and fed in: the noised latent, the target, and one weight for each sample, into which the terms of
// the reference's loss (l_simple_weight, logvar, original_elbo_weight) and min-SNR weighting fold, since the loss is linear in
// the errors of the samples.
//
// Data flow: latents N x C x h x w, scaled, and conditions -> [Draw] gives times, noise and dropped conditions, each a function
// of the seed and the sample's number alone -> [Objective.Feed] -> a compiled step -> [Objective.Losses]. A [Model] keeps the
// parameters that training changes beside the model that they came from, and lists everything a checkpoint holds.
//
// Ownership: an Objective owns the buffers it feeds; they are valid until its next Feed. It is not safe for concurrent use.
//
// Errors: configurations that cannot be trained are of class usage, a loss or gradient that is not finite of class internal.
package training
