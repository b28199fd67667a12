// Package export writes the images of a finished run as files, as one tar file or as Parquet.
//
// Concept: the manifest says which parts there are; every part is compared with it before it is read. The output appears
// under its name only when it is complete, and its bytes depend on the run alone. Names are generated from row ids: no id,
// however hostile, leads out of the output folder.
//
// Data flow: manifest -> parts, one after the other -> rows -> sink (files, tar, Parquet). Failed rows have no image: they
// are listed in failed.jsonl, or keep their row in Parquet.
//
// Ownership: everything is closed on return. Errors: an unfinished run is class temporary, parts that hold no images class
// data, an existing output class usage, and a half-written output is removed.
package export
