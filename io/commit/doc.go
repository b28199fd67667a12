// Package commit owns an output folder: who may write to it, which job it belongs to, which parts are finished, and when
// the whole is published.
//
// Concept: a part counts only when its journal entry exists, and an entry is written only after the part is durable under
// its final name. A part may name image files beside it (the tree below DIR/images); these are durable before the part is,
// and count only as the part's. The manifest is computed from plan and journal alone, so that any process that finds all entries writes
// the same bytes; _SUCCESS comes last. Everything is replaced atomically through package atomicfile. After a crash at any
// point the same command goes on, and the finished folder is the same, byte for byte, except for what records times:
// journal, run records and lock.
//
// The steps, with a crash point (see [crashPoint]) after each; stages are those of atomicfile.Writer.Replace:
//
//	 1 folders        scaffold       DIR, .ldm-batch, its folders and data exist and are durable
//	 2 lock           lock           the lock is held: exclusive for a whole run, shared and one per shard for a shard
//	 3 sweep          sweep          temporary files of dead runs are gone
//	 4 unpublish      unpublish      only if parts will be redone: _SUCCESS, then _manifest.json, then failed.csv, are gone
//	 5 drop           drop           only if parts will be redone: their journal entries, then the parts, are gone; when
//	                                 overwriting, then the images
//	 6 plan           plan.STAGE     only in a new or overwritten folder
//	 7 run record     run.STAGE
//	 8 file           file.STAGE     for each image of a tree
//	 9 part           part.STAGE     for each part, after its files: written, synced, read back and counted, renamed, folder synced
//	10 journal        journal.STAGE  for each part, after 9
//	11 strays         strays         when every journal entry exists, of a tree: images that no part names are gone
//	12 failed         failed.STAGE   of a tree: failed.csv
//	13 manifest       manifest.STAGE
//	14 success        success.STAGE
//
// Data flow: [Open] gives a [Folder] with the work that remains ([Folder.Pending]); [Folder.WriteFile] does 8,
// [Folder.WritePart] 9 and 10, [Folder.Finalize] 11 to 14. [ReadStatus], [Verify] and [ReadManifest] read a folder without its lock.
//
// Ownership: a Folder holds its lock until Close. WriteFile may be called at any time, WritePart for different parts at the
// same time.
//
// Errors: a busy folder is [ErrLocked] (class temporary), another job's folder a [ConflictError] (class conflict), missing
// parts an [IncompleteError] (class temporary). File errors are class io, so that a folder deleted under a run is not
// taken for missing input.
package commit
