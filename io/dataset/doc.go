// Package dataset reads rows of encoded images, with labels and other columns, from Parquet and Arrow files, from folders of
// pictures, and from zip and tar files of pictures.
//
// Concept: a [Dataset] is an ordered list of files whose rows are numbered from 0 through all files. [Open] reads only what says
// where rows lie (footers, the metadata of record batches, directories, headers, listings) and decides which column holds the image,
// the label and the id; [Dataset.Rows] streams any contiguous range of rows, so a job cuts its work into ranges and reads each range
// on its own. Images stay encoded: this package does not decode them.
//
// Tables are laid out as the Hugging Face libraries write and read them: a struct with the fields bytes and path in any order, a
// plain binary column, a column of paths (refused unless [Spec.AllowPaths] names a root), class names under the metadata key
// "huggingface", folders named key=value as columns. Lists of any depth are values, and a dotted path leads to a field of a struct, of
// one in a list too. The parts that a job wrote are tables whose failed rows stay failed.
//
// Pictures of a folder or an archive are rows whose ids are their names; files beside a picture with its key are its further columns,
// see the type naming. Compressed tar files are unpacked from their start for a range, unless the range follows the one before.
//
// Data flow of Parquet: path -> files (sorted) -> footer (bounded, checked) -> schema -> per row group and column a reader of pages ->
// rows. The footer and page headers are decoded with parquet-go's format structures; pages are decompressed and decoded here. Of Arrow:
// index of messages -> schema, as a Parquet schema -> messages, each checked against its schema and its bytes and unpacked here -> the
// decoder of the Arrow library, on a bounded allocator -> rows. A reader of foreign files must never allocate by a number it has not
// checked: every allocation is bounded by the bytes in the file or by [Limits.Memory]. Checksums are verified where files have them.
//
// Ownership: every byte slice in a [Row] is a copy that belongs to the caller. A Dataset is safe for concurrent use; each
// iteration opens its own file handle, and one of a compressed tar file stays open until the Dataset is no longer in use. An iteration
// holds one page per selected column, its dictionary, and one row; of an Arrow file one record batch.
//
// Errors: a problem of one row (null image, refused path, picture that cannot be read, label outside its classes) is delivered in the
// row and the stream goes on; damage to a file or row group ends the stream with an error. Both carry a [Class], and say file, row
// group, row and column.
package dataset
