// Package measure makes the scores of an evaluation from the features of its sets.
//
// Concept: a [Set] streams the features of its pictures, tap by tap, as often as asked; nothing else is known of pictures here.
// Scores follow the conventions of a protocol where it has them, and say in a note where they come from.
//
// Memory does not grow with a set: of one larger than [Config.MaxFeatures] so many rows are drawn, by a fixed seed, and held
// for the scores that look at single rows (kernel distance, neighbours, inception score, standard errors); means and
// covariances are taken of all rows, by exact sums.
//
// Data flow: sets, and perhaps the statistics of the reference -> [Scores] -> [Outcome]. Ownership: what streams is only read.
//
// Errors: those of package stats, with the metric's name: sets that are too small, features out of range.
package measure
