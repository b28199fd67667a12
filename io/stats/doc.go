// Package stats writes and reads the files that hold statistics of feature sets, with where they come from.
//
// Concept: a file has one row for each set and tap of the network; a set is all pictures, or one class. A row has the number
// of pictures, the mean, the covariance, and the exact state of the sums, which lets shards be merged without a bit of
// difference. The file says by which protocol, resizer and network the features were made, and of which classes; [Meta.Check]
// names the field in which two files differ, since the distance between them would mean nothing. Files are Arrow IPC files,
// one record batch a row:
//
//	tap          utf8, of the network
//	features     int64, D
//	class        int64, null for all pictures
//	rows         int64
//	mean         list<float64>, D; null without rows
//	covariance   list<float64>, D (D+1)/2: upper triangle row by row, divisor rows-1; null below two rows
//	state        large_binary, as package eval/stats writes it; null if not kept
//
// and the schema's metadata has format, protocol, resize, extractor, extractor_sha256, class_table and input_sha256, each with
// the prefix "ldm.". Bytes depend on the content alone.
//
// Data flow: [Write] streams sets; [Read] returns them. Ownership: what is returned is the caller's.
//
// Errors: a bad file is an error of class data that names file and row. The Arrow library is not safe on damaged files, so
// Read compares size and sha256 first where the caller knows them. No panic of it leaves the package.
package stats
