// Package dataset reads rows of encoded images, with labels and other columns, from Parquet files.
//
// Concept: a [Dataset] is an ordered list of files whose rows are numbered from 0 through all files. [Open] reads footers only
// and decides which column holds the image, the label and the id; [Dataset.Rows] streams any contiguous range of rows, so
// a job cuts its work into ranges and reads each range on its own. Images stay encoded: this package does not decode them.
//
// Accepted layouts are those the Hugging Face libraries write and read: a struct with the fields bytes and path in any order, a
// plain binary column, a column of paths (refused unless [Spec.AllowPaths] names a root), class names in the footer key
// "huggingface", folders named key=value as columns. A folder of picture files is accepted as well.
//
// Data flow: path -> files (sorted) -> footer (bounded, checked) -> schema -> per row group and column a reader of pages -> rows.
// The footer and page headers are decoded with parquet-go's format structures; pages are decompressed and decoded here, because
// a reader of foreign files must never allocate by a number it has not checked: every allocation is bounded by the bytes in the
// file or by [Limits.Memory]. Page checksums are verified where the file has them.
//
// Ownership: every byte slice in a [Row] is a copy that belongs to the caller. A Dataset is safe for concurrent use; each
// iteration opens its own file handle. An iteration holds one page per selected column, its dictionary, and one row.
//
// Errors: a problem of one row (null image, refused path, label outside its classes) is delivered in the row and the stream goes
// on; damage to a file or row group ends the stream with an error. Both carry a [Class], and say file, row group, row and column.
package dataset
