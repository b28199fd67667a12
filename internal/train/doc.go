// Package train holds what training loops share, whatever the network: learning-rate schedules, the decay of a moving average,
// gradient clipping, the order in which rows are seen, and the two files of a checkpoint.
//
// Concept: everything is a function of a step or of a sample's number and of a seed, so that a run that goes on from a checkpoint
// needs no more than the number of the step and the place in the order to be the run that was never stopped.
//
// Data flow: [Schedule] and [AverageDecay] give the numbers of an optimiser step; [Order] says which row comes when, without a
// list of rows; [WriteModel] and [WriteState] write what a checkpoint holds, [ReadState] reads it back, [Moments] and [ReadMoments] are
// the optimiser's part of it.
//
// Ownership: values of this package are immutable. Tensors that are written are the caller's and are read once.
//
// Errors: bad schedules are of class usage, damaged states of class data.
package train
