// Package spec is the job file: its types, strict decoding, overrides, validation and fingerprint.
//
// Concept: a job is one YAML document. It is decoded by the Go types below and nothing else: unknown and duplicate keys,
// anchors, aliases, tags, further documents and values of the wrong type are errors with file:line:column, the key and what
// is allowed there. Every value of the resolved job remembers where it came from.
//
// Data flow: file, then --set, then flags are layered on the defaults ([Load]); ${name} is filled from --param and from
// nothing else, so that a job never depends on the clock or the environment. [Job.Validate] checks combinations.
// [Job.Canonical] is what outputs depend on, for the fingerprint.
//
// Errors: all of class usage.
package spec
