// Package report has the result of an evaluation as people and programs read it: one JSON document, one HTML page without a
// network, and the same in Markdown.
//
// Concept: a [Result] is plain data. It says what was measured (scores with their uncertainty), on what (sets, protocol,
// provenance, in words), what to doubt (warnings, failed rows) and what the pictures look like (samples, neighbours,
// projection). Nothing is computed here that the job did not state; a number that is not known is left out, never zero.
//
// Data flow: the job fills a Result -> [Result.JSON] is the file report.json -> [Read] -> [Result.HTML] and
// [Result.Markdown]. Bytes depend on the content alone.
//
// Ownership: results are only read. Errors: [Read] names the field that is wrong and is of
// class data; writers return the error of the destination.
package report
