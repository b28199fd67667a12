package picture

import "github.com/ldm-batch/ldm-batch/io/picture/jpegx"

// JPEG: see package jpegx. A multi-picture file (MPO) gives its first picture.

func probeJPEG(data []byte, lim Limits) (Header, error) {
	return jpegHeader(new(jpegx.Decoder), data, lim)
}

func jpegHeader(d *jpegx.Decoder, data []byte, lim Limits) (Header, error) {
	i, err := d.Probe(data)
	if err != nil {
		return Header{}, err
	}
	return Header{Format: JPEG, W: i.W, H: i.H, Mode: i.Mode}, lim.check(int64(i.W), int64(i.H), 3)
}

func (d *Decoder) decodeJPEG(img *Image, data []byte, opt Options) error {
	if _, err := jpegHeader(&d.jpeg, data, opt.Limits); err != nil {
		return err
	}
	d.jpeg.MaxBytes = opt.Limits.MaxBytes
	r, err := d.jpeg.Decode(data, img.Pix)
	if err != nil {
		return err
	}
	img.W, img.H, img.Pix, img.Alpha, img.Mode, img.EXIF, img.xmp, img.ICC = r.W, r.H, r.Pix, nil, r.Mode, r.EXIF, r.XMP, r.ICC
	if r.Incomplete {
		img.note("progressive JPEG without its last refinement scans")
	}
	return nil
}
