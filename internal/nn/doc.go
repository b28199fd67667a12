// Package nn defines the networks of latent diffusion models: first stages, U-Nets and conditioners, as the checkpoints of
// latent-diffusion (Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022) store them.
//
// Concept: a module, such as [UNet], is made from a configuration and declares its parameters, with their state-dict keys
// and shapes, in state-dict order; it holds no values. Applied to a tensor of an expression graph it adds its computation
// there, so that one definition gives the list of keys, the programs for inference and the graphs that training
// differentiates. A [Model] is the modules of a configuration file bound to the tensors of a model file.
//
// Data flow: YAML -> [Config] (checked, with file, line and key in every error) -> modules -> exact match of the keys with a
// file -> [Graph] for each size that is needed, and weights by name for executors.
//
// Ownership: modules and configurations are immutable after they are made and may be shared. A Model reads weights from a
// file that the caller keeps open.
//
// Errors: a bad configuration or a file that does not fit it is an error of class exitcode.Data. Nothing is matched loosely:
// what the original ignores with effect on results is refused, what it ignores without is reported in Warnings.
package nn
