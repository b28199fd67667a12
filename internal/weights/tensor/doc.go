// Package tensor describes one stored array: type, shape, strides and where its bytes are.
//
// Concept: a [Tensor] is a descriptor that was checked against its storage when it was made; the values are read when asked
// for. Readers of file formats make tensors with [New]; tests and generated weights use [FromFloat32] and [Generated].
// Data flow: storage (file section, mapping, memory) -> raw little-endian bytes, row-major -> float32.
// Ownership: a tensor holds a reference to its storage; views end when the file behind the storage is closed.
// Error policy: bad descriptors are errors of New; read errors carry the tensor's name. Nothing here panics on file content.
package tensor
