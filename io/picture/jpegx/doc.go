// Package jpegx decodes Huffman-coded JPEG files (ITU-T T.81 baseline, extended sequential and progressive, 8 bit) to the
// pixels that libjpeg gives with its default settings.
//
// Concept: the standard library's decoder is correct but takes the nearest chroma sample and another inverse DCT, which
// moves single samples by up to 48 of 255; statistics over image sets (FID) see that. This decoder follows the reference
// choices: the accurate integer inverse DCT with 13-bit constants (Loeffler, Ligtenberg, Moschytz 1989), triangle-filter
// chroma upsampling for the ratios 2:1, 1:2 and 2:2, sample replication for other whole ratios, 16-bit fixed-point
// YCbCr to RGB.
//
// Data flow: bytes -> markers -> entropy-coded scans -> sample planes (progressive: by way of coefficients) -> RGB rows.
// A [Decoder] owns its planes, tables and scratch rows and reuses them; it serves one goroutine at a time. The result's
// pixels belong to the caller.
//
// Errors: every error wraps one of [ErrTruncated], [ErrCorrupt], [ErrUnsupported], [ErrTooLarge]. Damage is never papered
// over: a scan whose data end early is an error, also when the file has a proper end marker.
package jpegx
