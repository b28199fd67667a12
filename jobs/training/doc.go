// Package training runs jobs of kind Train: it turns rows into steps of an optimiser and a folder of checkpoints.
//
// Concept: a [Prepared] job is a data set, an order of its rows and a learner, which is a latent diffusion model (package
// sample/training), a first stage (package encode/training) or a classifier (package eval/training). The loop reads batches ahead, makes steps, and now and then writes
// a checkpoint, validates, and redraws the page. Whatever is random follows from the seed and from a row's place in the order, so
// that a run that was killed and goes on from its last checkpoint ends with the bytes of one that was not.
//
// Data flow: rows, in windows -> decode and crop (several workers) -> batches -> learner -> DIR/checkpoints, DIR/log.jsonl,
// DIR/report.html; when all steps are made, DIR/model.safetensors, DIR/config.yaml, DIR/_SUCCESS.
//
// The folder is one of package io/commit without parts: its lock, its plan and its rules about other jobs hold here. A checkpoint
// is two files, model and state, and counts from the moment that DIR/checkpoints/index.json names it, which is written after both;
// files that it does not name are removed by the next run.
//
// Ownership: Prepared owns what it opened until Close.
//
// Errors: rows that cannot be read are passed over and counted; more than limits.max_bad_rows end the run with class data. A loss,
// gradient or parameter that is not finite ends it with class internal, and the message names the step, the parameter and the last
// good checkpoint. A signal ends it after a checkpoint, with the class of the signal.
package training
