// Package jobs runs jobs: it turns a resolved job file into parts of an output folder, exactly once.
//
// Concept: a job is a list of rows cut into parts. Its rows come from a source (a dataset, or the list of images to
// generate), pass through a task (encode, sample) and end in parts, in the order of the source. [Prepare] opens and checks
// everything a job needs; [Prepared.Run] does the work that the output folder still lacks.
//
// Data flow: source -> prepare (decode, resize; several workers) -> compute (batches of equal shape) -> finish (encode
// images; several workers) -> parts. Every stage runs at the same time as the others; the bytes between source and part are
// bounded by limits.memory. Batches may span parts, since a row's result does not depend on its batch.
//
// Ownership: Prepared owns the model, the backend and the source until Close. An item belongs to one stage at a time.
//
// Errors: a bad row becomes an error row; more of them than limits.max_bad_rows end the job with class data. Anything else
// ends the job with the class of its cause and leaves only finished parts behind. Panics of graph building are errors here.
package jobs
