// Package torch reads checkpoints written by PyTorch's save function, without PyTorch and without running anything in them.
//
// Concept: two containers exist. The zip container (since PyTorch 1.6) is an archive of stored records: a pickle
// "<root>/data.pkl" and one record "<root>/data/<key>" for each storage. The legacy container is a row of pickles (magic
// number, protocol 1001, system information, the object, the storage keys) followed by the storages, each behind an int64
// element count. An archive that TorchScript wrote is a zip container whose object is a module: its attributes, and those of the modules
// among them, are the state dict; the program in it is not looked at. Else the object is a dictionary of tensors, bare or under "state_dict" beside a training framework's
// own entries; a tensor is a type, shape, strides and offset over a storage that others may share.
// Data flow: directory or pickle row -> allow-list unpickler -> state dict, flattened with dots -> tensor descriptors over
// file sections. Values are read when asked for; a zip record's CRC-32 is verified before its first byte is handed out.
// Foreign classes are opaque: a file with callbacks and optimizer states is readable, a tensor that depends on anything
// outside the allow-list is an error. NumPy arrays in the dictionary are tensors too (statistics are kept so).
// Error policy: what the file promises and does not keep is an error before memory is allocated for it.
package torch
