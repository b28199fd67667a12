// Package commit owns an output folder: who may write to it, which job it belongs to, which parts are finished, and when
// the whole is published.
//
// Concept: a part counts only when its journal entry exists, and an entry is written only after the part is durable under
// its final name. The manifest is computed from plan and journal alone, so that any process that finds all entries writes
// the same bytes; _SUCCESS comes last. Everything is replaced atomically through package atomicfile. After a crash at any
// point the same command goes on, and the finished folder is the same, byte for byte, except for what records times:
// journal, run records and lock.
//
// The steps, with a crash point (see [crashPoint]) after each; stages are those of atomicfile.Writer.Replace:
//
//	 1 folders        scaffold       DIR, .ldm-batch, its folders and data exist and are durable
//	 2 lock           lock           the lock is held: exclusive for a whole run, shared and one per shard for a shard
//	 3 sweep          sweep          temporary files of dead runs are gone
//	 4 unpublish      unpublish      only if parts will be redone: _SUCCESS, then _manifest.json, are gone
//	 5 drop           drop           only if parts will be redone: their journal entries, then their files, are gone
//	 6 plan           plan.STAGE     only in a new or overwritten folder
//	 7 run record     run.STAGE
//	 8 part           part.STAGE     for each part: written, synced, read back and counted, renamed, folder synced
//	 9 journal        journal.STAGE  for each part, after 8
//	10 manifest       manifest.STAGE when every journal entry exists
//	11 success        success.STAGE
//
// Data flow: [Open] gives a [Folder] with the work that remains ([Folder.Pending]); [Folder.WritePart] does 8 and 9;
// [Folder.Finalize] does 10 and 11. [ReadStatus], [Verify] and [ReadManifest] read a folder without its lock.
//
// Ownership: a Folder holds its lock until Close. WritePart may be called for different parts at the same time.
//
// Errors: a busy folder is [ErrLocked] (class temporary), another job's folder a [ConflictError] (class conflict), missing
// parts an [IncompleteError] (class temporary). File errors are class io, so that a folder deleted under a run is not
// taken for missing input.
package commit
