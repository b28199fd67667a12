// Package cpu runs plans on the processor.
//
// Concept: a [Backend] is a thread pool and a precision; a [Model] is one network's weights packed for the kernels; an
// executable is a plan bound to an arena. Kernels live in the package below this one; here every step of a plan becomes one
// kernel call with its slices already cut.
//
// Parameters that training changes are used where they are; what is packed of them is packed again, in place, by the next run that
// needs it.
//
// Data flow: Run copies the inputs into the arena (NCHW to NHWC), calls the steps in order and copies the outputs back.
// Nothing is allocated after Compile.
//
// Ownership: weights and arenas are memory outside the Go heap; they belong to the model and the executable and are freed
// by Close. Plans of one model share packed weights. One backend runs one plan at a time: concurrent Run calls take turns.
//
// Errors: a plan that asks for what this processor lacks is an error of class unavailable at Open; a missing weight is an
// error naming it at Compile. Run itself fails only on wrong input sizes.
package cpu
