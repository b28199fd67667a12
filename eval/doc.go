// Package eval scores pictures: against a reference picture by PSNR, SSIM and MS-SSIM, and, with the features that a network
// makes of them, a set against a reference set.
//
// Concept: published numbers depend on conventions more than on code: which plane is compared, how much border is cut, how
// a window is weighted, how a picture gets to 299 x 299, whether a split is shuffled. Here every convention is a named value
// ([Plane], [Window], [Protocol]) that reports carry along. Package stats below has the statistics of feature sets and their
// distances, package linalg the dense algebra that those need, package reference the files of this and other tools; none of
// them knows pictures.
//
// Data flow: a pair of [Picture] goes into [PSNR], [SSIM] or [MSSSIM], which return a number. For sets, a [Protocol] makes
// the network's input of a picture ([Preparer]), an [Extractor] makes features of inputs, and package stats takes them up.
//
// Ownership: pictures and features are only read and never kept. Preparers are for one goroutine.
//
// Errors: shapes that do not fit each other or the window are errors; nothing is resized, cut or replaced silently. Equal
// pictures have an infinite PSNR.
package eval
