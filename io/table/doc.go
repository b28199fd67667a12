// Package table writes and describes Parquet files of images.
//
// Concept: one row per image in the layout that Hugging Face datasets writes: struct<bytes, path> image columns, class
// names in the footer key "huggingface", image bytes stored plain and uncompressed, small row groups. A failed row stays
// in its place with a null image and its error. The bytes of a file depend on its rows alone.
//
// Data flow: [NewWriter], [Writer.Append] per row, [Writer.Close]. [Describe] lists the columns of a file.
//
// Ownership: the underlying writer is the caller's to sync and close. Errors: those of writing, and class data for a file
// that is not Parquet. No panic of the Parquet library leaves the package.
package table
