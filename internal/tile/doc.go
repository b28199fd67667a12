// Package tile computes images that are too large for one run of a network in overlapping tiles.
//
// Concept: a [Grid] covers an image with tiles of one size. Neighbours hand over in the middle of their overlap, where their
// results are blended by linear ramps. What a convolution cannot see beyond a tile's edge fades within the overlap; the
// statistics of group normalisations do not, since they are sums over the whole image: taken from each tile, they give every
// tile another brightness and contrast. A [Network] therefore finds them first and gives them to all tiles in a second pass.
//
// The statistics of a layer depend on those of the layers before it. In the first pass, tiles from all over the image are
// normalised together, as many as fit one batch, over the part of each that is no other's; the statistics of all batches are
// pooled. One batch of all tiles gives the statistics of the whole image but for what tiles do not see beyond their edges.
//
// Data flow: images NCHW are cut, tile by tile; results are added to the whole with their shares, in the order of the tiles, so
// that they depend on neither threads nor the number of images. Attention sees its own tile alone, in both passes.
//
// Ownership: a Grid is read-only and may be shared; a Network keeps scratch of its tiles' size and belongs to one goroutine.
// Errors: configurations that no network can take, of class usage, and those of package engine with the tile.
package tile
