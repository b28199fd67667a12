package picture

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/ldm-batch/ldm-batch/io/picture/jpegx"
)

// Gray16 says how 16-bit gray becomes 8 bit.
type Gray16 int

// The ways.
const (
	HighByte Gray16 = iota // v >> 8
	Clip                   // min(v, 255), as Pillow's conversion to RGB does: nearly always white
)

// Options controls decoding. The zero value decodes with default limits and leaves JPEG, PNG and WebP unturned; use
// [DefaultOptions] for the usual behaviour.
type Options struct {
	Limits           Limits // zero fields take the defaults
	ApplyOrientation bool   // turn JPEG, PNG and WebP by their EXIF orientation; TIFF is always turned by its own tag
	Gray16           Gray16
	Keep16           bool // fill Image.Pix16 and Image.Alpha16 from files with 16 bits
}

// DefaultOptions applies the orientation, the default limits and the high byte of 16-bit gray.
func DefaultOptions() Options { return Options{Limits: DefaultLimits(), ApplyOrientation: true} }

// keepBytes is the largest buffer that a Decoder keeps for the next file.
const keepBytes = 64 << 20

// panicked starts the message of an error made from a panic.
const panicked = "decoder panic"

// Decoder decodes one file after another and keeps its scratch buffers between them, except those of a rare huge file. The
// zero value is ready; it must not be used by two goroutines at once.
type Decoder struct {
	jpeg jpegx.Decoder
	png  pngState
	turn []uint8 // spare pixel buffer for orientation
}

// codec is one format. probe reads the header and checks it against the limits; decode fills img, whose buffers it reuses.
type codec struct {
	name   string
	match  func(data []byte) bool
	probe  func(data []byte, lim Limits) (Header, error)
	decode func(d *Decoder, img *Image, data []byte, opt Options) error
}

var codecs = []codec{
	{JPEG, func(b []byte) bool { return prefix("\xff\xd8")(b) && (len(b) == 2 || b[2] == 0xff) }, probeJPEG, (*Decoder).decodeJPEG},
	{PNG, prefix(pngSignature), probePNG, (*Decoder).decodePNG},
	{WebP, func(b []byte) bool { return len(b) >= 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP" }, probeWebP, (*Decoder).decodeWebP},
	{GIF, func(b []byte) bool { return prefix("GIF87a")(b) || prefix("GIF89a")(b) }, probeGIF, (*Decoder).decodeGIF},
	{BMP, prefix("BM"), probeBMP, (*Decoder).decodeBMP},
	{TIFF, func(b []byte) bool {
		return prefix("II*\x00")(b) || prefix("MM\x00*")(b) || prefix("II+\x00")(b) || prefix("MM\x00+")(b)
	}, probeTIFF, (*Decoder).decodeTIFF},
	{PNM, func(b []byte) bool {
		return len(b) >= 3 && b[0] == 'P' && b[1] >= '1' && b[1] <= '6' && (space(b[2]) || b[2] == '#')
	}, probePNM, (*Decoder).decodePNM},
}

func prefix(s string) func([]byte) bool {
	return func(b []byte) bool { return bytes.HasPrefix(b, []byte(s)) }
}

// foreign lists formats that are recognized only to be named in the error.
var foreign = []struct {
	name  string
	match func([]byte) bool
}{
	{"avif", brand("avif", "avis")},
	{"heif", brand("heic", "heix", "hevc", "heim", "heis", "mif1", "msf1")},
	{"jpeg 2000", func(b []byte) bool {
		return prefix("\x00\x00\x00\x0cjP  \r\n\x87\n")(b) || prefix("\xff\x4f\xff\x51")(b)
	}},
	{"jpeg xl", func(b []byte) bool { return prefix("\x00\x00\x00\x0cJXL \r\n\x87\n")(b) || prefix("\xff\x0a")(b) }},
	{"psd", prefix("8BPS")},
	{"openexr", prefix("\x76\x2f\x31\x01")},
	{"radiance hdr", prefix("#?RADIANCE")},
	{"dds", prefix("DDS ")},
	{"ico", prefix("\x00\x00\x01\x00")},
	{"pdf", prefix("%PDF-")},
	{"svg", func(b []byte) bool { return bytes.Contains(b[:min(len(b), 1024)], []byte("<svg")) }},
}

// brand matches ISO base media files by their major brand.
func brand(names ...string) func([]byte) bool {
	return func(b []byte) bool {
		return len(b) >= 12 && string(b[4:8]) == "ftyp" && slices.Contains(names, string(b[8:12]))
	}
}

func find(data []byte) (*codec, error) {
	if len(data) == 0 {
		return nil, &Error{Kind: KindEmpty, Msg: "no bytes"}
	}
	for i := range codecs {
		if codecs[i].match(data) {
			return &codecs[i], nil
		}
	}
	for _, f := range foreign {
		if f.match(data) {
			return nil, &Error{Kind: KindUnsupported, Format: f.name, Msg: "this format is not decoded"}
		}
	}
	return nil, &Error{Kind: KindUnknownFormat, Msg: fmt.Sprintf("starts with %q", data[:min(8, len(data))])}
}

// modeChannels counts the channels of a mode without alpha, a palette as three.
func modeChannels(mode string) int {
	switch mode {
	case "1", "L", "LA", "I", "I;16":
		return 1
	}
	return 3
}

// Probe reads a file's header. It refuses a size over the limits and allocates nothing that depends on it.
func Probe(data []byte, lim Limits) (h Header, err error) {
	c, err := find(data)
	if err != nil {
		return Header{}, err
	}
	defer func() {
		if p := recover(); p != nil {
			h, err = Header{}, corrupt("%s: %v", panicked, p)
		}
		err = classify(err, c.name)
	}()
	return c.probe(data, lim.orDefault())
}

// Decode decodes a file to RGB. Pix is H x W x 3, 0..255.
func Decode(data []byte, opt Options) (*Image, error) {
	var d Decoder
	return d.Decode(data, opt)
}

// Decode is like the function [Decode], with the decoder's scratch buffers.
func (d *Decoder) Decode(data []byte, opt Options) (*Image, error) {
	img := new(Image)
	if err := d.DecodeInto(img, data, opt); err != nil {
		return nil, err
	}
	return img, nil
}

// DecodeInto is like Decode, and reuses the pixel buffers of img. After an error img holds no usable picture.
func (d *Decoder) DecodeInto(img *Image, data []byte, opt Options) (err error) {
	c, err := find(data)
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			*d = Decoder{}
			err = corrupt("%s: %v", panicked, p)
		}
		err = classify(err, c.name)
	}()
	opt.Limits = opt.Limits.orDefault()
	*img = Image{Pix: img.Pix, Alpha: img.Alpha, Format: c.name}
	if err := c.decode(d, img, data, opt); err != nil {
		return err
	}
	if img.Channels == 0 {
		img.Channels = modeChannels(img.Mode)
	}
	if img.Format != TIFF {
		img.Orientation = orientation(img.EXIF, img.xmp)
		if opt.ApplyOrientation {
			d.orient(img)
		}
	}
	if cap(d.turn) > keepBytes {
		d.turn = nil
	}
	return nil
}
