// Package inspect says what files hold: checkpoints, Parquet files and folders, Arrow files and streams, parts of jobs, configurations,
// statistics; how a model is lowered; and what this build and machine can do.
//
// Concept: the kind of a file follows from its content, never from its name, but for text, which is a configuration. Only
// headers are read. Data flow: [Open] reads, the document prints itself as text or JSON. Ownership: everything is closed
// when a function returns.
//
// Errors: class data for a file of a known kind that is damaged or of no known kind. An Arrow part is opened with the Arrow library only
// after it was compared with the journal beside it, since that is not safe on damaged files; every other Arrow file is described by
// package dataset, which checks each message.
package inspect
