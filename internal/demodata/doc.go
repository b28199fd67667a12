// Package demodata draws a data set of pictures for trying out and training small models: ten classes of things on
// backgrounds, with everything that the tasks are conditioned on.
//
// Concept: a picture is a function of (seed, split, row) and of nothing else, so that a set needs no download, has any number
// of rows, and any part of it can be made anywhere. What varies is what a model has to learn and what a score has to notice:
// place, size, turn, colour, material and light of the thing, and kind, colours and light of the background. What a viewer
// needs to name the class stays: things are large, whole and stand out from the background.
//
// Classes are six shapes (ball, cube, triangle, star, heart, ring), two textures (stripes, checks) and two digits (three,
// seven). Every ten rows of a set hold each class once, in random order.
//
// Data flow: [New] checks [Options]; [Set.Row] returns a [Picture]: pixels, label, caption, boxes, label map and a mask for
// inpainting. A thing is a field of signed distances on the pixel grid, from which its edge (antialiased), its relief (for
// the light) and its shadow are taken.
//
// Ownership: a Set is constant and may be used by many goroutines; pictures are the caller's. Errors: only New has them.
package demodata
