// Package reporting makes the report of evaluations that were done before: of one, or of the newest of several with the others as
// its history.
//
// Concept: report.json is all that a page is made of. The order of runs is that of their times, which are no part of report.json,
// whose bytes depend on the pictures alone: they come from the record of the run in the folder, or else from the file.
//
// Data flow: folders, files or patterns -> report.json of each -> package report (history, page, Markdown, JSON) -> files.
//
// Ownership: folders are read; only the files of the report are written, each at once. Errors: what does not exist is of class
// no-input, an unfinished run temporary, a damaged document or one of another version data, with the file and the field.
package reporting
