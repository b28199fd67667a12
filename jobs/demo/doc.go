// Package demo shows what the program does, with the models and pictures that come with it: it draws a data set, encodes it,
// generates, upscales and inpaints, scores the results, and makes a page of them.
//
// Concept: nothing here is special to the demonstration. Models, data and job files are written into a folder, and the jobs are run
// as the command run would run them, so that each can be repeated, changed and continued by hand. A demonstration that was
// stopped goes on where it was.
//
// Data flow: package models -> DIR/models; jobs/demodata -> DIR/data; embedded job files -> DIR/jobs -> runs -> DIR/class and the
// other outputs -> DIR/index.html. The page is made from the outputs alone, so that it says the same when nothing was left to do.
//
// Ownership: the folder is the demonstration's. Errors: those of the jobs, with the job's file.
package demo
