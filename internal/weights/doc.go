// Package weights opens model files and gives a network its parameters.
//
// Concept: a [File] is a list of named tensors, whatever the container: safetensors, PyTorch zip or legacy checkpoints,
// told apart by content, or tensors made in memory ([NewMemory]). A network states the parameters it wants ([Param]), and
// [Bind] finds each one or says precisely what is missing, unexpected or of another shape; nothing is matched loosely and
// nothing is left at random values. Where the file holds an exponential moving average of the weights, Bind takes it by name.
// Data flow: Open -> headers and descriptors only -> Bind -> [Tensor.Float32] or [Tensor.View] reads the values.
// Ownership: tensors and views end with [File.Close].
// Error policy: a bad file is an error of class exitcode.Data that names the file; an error of the operating system keeps
// its own. No input makes this package panic, run code or allocate more than [Limits] allow.
package weights
