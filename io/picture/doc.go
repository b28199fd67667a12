// Package picture decodes image files to 8-bit RGB the way Pillow does, and encodes results as PNG and JPEG.
//
// Concept: data sets hold JPEG, PNG, WebP, GIF, BMP, TIFF and PNM files in every variant that Pillow opens, and the numbers
// measured on them (FID, PSNR) depend on single levels. So the pixels follow Pillow: libjpeg's inverse DCT, chroma
// upsampling and colour integers; libwebp's upsampling and limited-range colours; CMYK taken as inverted; alpha dropped,
// not blended; the first frame of an animation; EXIF orientation applied. Where Pillow is unsound this package differs on
// purpose: 16-bit gray takes the high byte instead of clipping, and damage that Pillow lets pass is an error.
//
// Data flow: bytes -> format by content, never by name -> header, checked against [Limits] before anything of the declared
// size is allocated -> pixels -> orientation. [Probe] stops after the header. The package reads memory only.
//
// Results are answered in kind: an [Image] says whether its file was gray, keeps 16-bit samples on request and its metadata,
// and a [Frame] is what [Encode] writes: gray or RGB, with alpha, at 8 or 16 bits, with ICC profile and EXIF block, the
// orientation reset.
//
// Ownership: an [Image] belongs to the caller; ICC and EXIF alias the input where the file holds them in one piece. A
// [Decoder] keeps scratch buffers between files and serves one goroutine; [Decode] uses a fresh one.
//
// Errors: every failure is an [*Error] with a [Kind] and the format, fit for an error row; errors.Is works with the
// sentinels such as [ErrTruncated]. A panic below is turned into an error of kind corrupt.
package picture
