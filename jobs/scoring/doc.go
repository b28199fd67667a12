// Package scoring runs jobs of kind Eval: pictures in, scores out.
//
// Concept: the rows of a job are the generated pictures and then those of the reference. Each becomes a row of a part that
// holds its features, the scores of its pair and a thumbnail, so that the expensive work is done once, in shards, and goes on
// after a stop like that of every other job. When all parts are there, the scores are made of them, whoever wrote them: the
// result depends on the parts alone. What they do not hold of the job is kept beside the plan in .ldm-batch/evaluation.json.
//
// Data flow: set -> decode, pair and prepare (several workers) -> network (batches) -> parts -> package measure ->
// report.json, report.html, report.md -> manifest, _SUCCESS.
//
// Ownership: an [Evaluation] owns network, model and backend until Close.
//
// Errors: a picture that cannot be used is an error row; more of them than limits.max_bad_rows, none unless the job says so,
// end the job with class data. So does a condition of eval.fail_if that is met, after the result is written.
package scoring
