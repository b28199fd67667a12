package picture

import "fmt"

// Limits bounds what a file may ask for, judged from its header before anything is allocated.
type Limits struct {
	MaxPixels int64 // width times height
	MaxSide   int   // width and height each
	MaxBytes  int64 // decode buffers and result together, estimated from the header
}

// DefaultLimits returns Pillow's error limit for pixels, 2^20 for a side, and 4 GiB.
func DefaultLimits() Limits {
	return Limits{MaxPixels: 178956970, MaxSide: 1 << 20, MaxBytes: 4 << 30}
}

// Validate reports a limit that is not positive.
func (l Limits) Validate() error {
	if l.MaxPixels <= 0 || l.MaxSide <= 0 || l.MaxBytes <= 0 {
		return fmt.Errorf("image limits must be positive: max pixels %d, max side %d, max bytes %d", l.MaxPixels, l.MaxSide, l.MaxBytes)
	}
	return nil
}

// orDefault replaces zero fields.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	if l.MaxPixels == 0 {
		l.MaxPixels = d.MaxPixels
	}
	if l.MaxSide == 0 {
		l.MaxSide = d.MaxSide
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = d.MaxBytes
	}
	return l
}

// check judges a declared size. perPixel estimates the bytes that decoding takes per pixel.
func (l Limits) check(w, h int64, perPixel int64) error {
	if w <= 0 || h <= 0 {
		return corrupt("size %dx%d", w, h)
	}
	switch {
	case w > int64(l.MaxSide) || h > int64(l.MaxSide):
		return &Error{Kind: KindTooLarge, Msg: fmt.Sprintf("%dx%d, limit %d a side", w, h, l.MaxSide)}
	case w > l.MaxPixels/h:
		return &Error{Kind: KindTooLarge, Msg: fmt.Sprintf("%dx%d, limit %d pixels", w, h, l.MaxPixels)}
	case w*h > l.MaxBytes/perPixel:
		return &Error{Kind: KindTooLarge, Msg: fmt.Sprintf("%dx%d needs %d bytes, limit %d", w, h, w*h*perPixel, l.MaxBytes)}
	}
	return nil
}
