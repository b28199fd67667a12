package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/dataset"
)

// pagesDir holds a page for each task.
const pagesDir = "../../docs/tasks"

// updatePages makes TestTaskPages write the pictures of the pages anew.
const updatePages = "LDM_UPDATE_PAGES"

// workshop is a folder with everything that the commands of the pages name: models, whose weights are computed, and drawn inputs.
func workshop(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, m := range map[string]func() (model, error){
		"class": classModel, "uncond": uncondModel, "superres": superresModel, "inpaint": inpaintModel, "semantic": semanticModel, "text": textModel, "layout": layoutModel,
	} {
		m := get(t, m)
		for ext, from := range map[string]string{".ckpt": m.checkpoint, ".yaml": m.config} {
			copyFile(t, from, filepath.Join(dir, name+ext))
		}
	}
	copyFile(t, vocab(t, 200), filepath.Join(dir, "vocab.txt"))
	for i, size := range [][2]int{{32, 32}, {40, 24}, {27, 33}} {
		w, h := size[0], size[1]
		put(t, dir, fmt.Sprintf("photos/%d.png", i), pngOf(t, postcard(i, w, h)))
		put(t, dir, fmt.Sprintf("pictures/%d.png", i), pngOf(t, postcard(i, 2*w, 2*h)))
		put(t, dir, fmt.Sprintf("scenes/%d.png", i), pngOf(t, postcard(i, 2*w, 2*h)))
		put(t, dir, fmt.Sprintf("scenes/%d_mask.png", i), maskOf(t, 2*w, 2*h, func(x, y int) bool { return x > w/2 && x < 3*w/2 && y > h && y < 5*h/3 }))
		put(t, dir, fmt.Sprintf("maps/%d.png", i), pngOf(t, regions(i, 2*w, 2*h)))
	}
	descriptions(t, dir, nil)
	return dir
}

// postcard is a drawn picture: a sky, a hill and a sun.
func postcard(i, w, h int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			u, v := float64(x)/float64(w), float64(y)/float64(h)
			c := color.RGBA{uint8(90 + 100*v), uint8(150 + 60*v), 235, 255}
			if math.Hypot(u-0.7+0.2*float64(i), (v-0.3)*float64(h)/float64(w)) < 0.14 {
				c = color.RGBA{255, 220, 90, 255}
			}
			if v > 0.7+0.12*math.Sin(5*u+float64(i)) {
				c = color.RGBA{uint8(60 + 40*u), uint8(130 - 40*v), 70, 255}
			}
			m.SetRGBA(x, y, c)
		}
	}
	return m
}

// regions is the label map of a postcard: 0 sky, 1 sun, 2 hill.
func regions(i, w, h int) *image.Gray {
	src, m := postcard(i, w, h), image.NewGray(image.Rect(0, 0, w, h))
	for k := range m.Pix {
		switch c := src.RGBAAt(k%w, k/w); {
		case c.R == 255:
			m.Pix[k] = 1
		case c.B == 70:
			m.Pix[k] = 2
		}
	}
	return m
}

var (
	shellBlock  = regexp.MustCompile("(?s)```sh\n(.*?)```")
	outputTable = regexp.MustCompile(`(?s)\n## Output\n(.*?)(\n## |$)`)
	tableColumn = regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\| ([a-z0-9]+)")
	pictureLink = regexp.MustCompile(`!\[[^\]]+\]\(([^)]+)\)`)
)

// commands are the command lines of a page, as arguments.
func commands(page string) (list [][]string) {
	for _, block := range shellBlock.FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", " ")) {
			if line, ok := strings.CutPrefix(strings.TrimSpace(line), "ldm-batch "); ok {
				list = append(list, strings.Fields(line))
			}
		}
	}
	return list
}

// TestTaskPages runs every command of the pages on tasks as it stands there, and compares the columns of what the first of them writes
// with those that the page lists.
func TestTaskPages(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(pagesDir, "*.md"))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	dir := workshop(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			list := commands(string(b))
			if len(list) == 0 {
				t.Fatal("no command")
			}
			for i, args := range list {
				p := command(t, args...)
				p.Dir = dir
				p.start().expect(0)
				if i > 0 {
					continue
				}
				out := filepath.Join(dir, args[slices.Index(args, "--output")+1])
				var want []string
				for _, m := range tableColumn.FindAllStringSubmatch(outputTable.FindString(string(b)), -1) {
					want = append(want, m[1]+" "+m[2])
				}
				info, err := dataset.DescribeArrow(filepath.Join(out, "data", "part-00000.arrow"), dataset.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, c := range info.Columns {
					kind, _, _ := strings.Cut(c.Type, "<")
					got = append(got, c.Name+" "+strings.Replace(kind, "utf8", "string", 1))
				}
				if !slices.Equal(got, want) {
					t.Errorf("the page lists the columns %q, the first command writes %q", want, got)
				}
			}
			if os.Getenv(updatePages) != "" {
				figure(t, name, dir)
			}
			links := pictureLink.FindAllStringSubmatch(string(b), -1)
			if len(links) == 0 {
				t.Error("no picture")
			}
			for _, m := range links {
				b, err := os.ReadFile(filepath.Join(pagesDir, m[1]))
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := image.Decode(bytes.NewReader(b)); err != nil || len(b) > 60<<10 {
					t.Errorf("%s: %d bytes, %v", m[1], len(b), err)
				}
			}
		})
	}
}

// figure writes the picture of a page: what went in and, to the right of it, what came out.
func figure(t *testing.T, name, dir string) {
	t.Helper()
	var strip []image.Image
	file := func(names ...string) {
		for _, n := range names {
			b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(n)))
			if err != nil {
				t.Fatal(err)
			}
			strip = append(strip, seen(t, b))
		}
	}
	made := func(out string, n int) {
		rows := readRows(t, filepath.Join(dir, out))
		for _, r := range rows[:n] {
			strip = append(strip, seen(t, r.Image))
		}
	}
	switch name {
	case "superres":
		file("photos/0.png", "large/images/0.png", "photos/1.png", "large/images/1.png")
	case "inpaint":
		file("scenes/0.png", "scenes/0_mask.png", "filled/images/0.png", "wider/images/0.png")
	case "img2img":
		file("pictures/0.png", "changed/images/0.png", "pictures/1.png", "changed/images/1.png")
	case "semantic":
		strip = append(strip, stretched(t, filepath.Join(dir, "maps/0.png")))
		file("painted/images/0.png")
		strip = append(strip, stretched(t, filepath.Join(dir, "maps/1.png")))
		file("painted/images/1.png")
	case "layout":
		made("arranged", 5)
	case "text":
		made("drawn", 5)
	case "class":
		made("by-class", 6)
	case "uncond":
		made("samples", 6)
	default:
		t.Fatalf("no figure for page %s", name)
	}
	const side, gap = 128, 8
	page := image.NewRGBA(image.Rect(0, 0, gap+len(strip)*(side+gap), side+2*gap))
	draw.Draw(page, page.Rect, image.White, image.Point{}, draw.Src)
	for i, m := range strip {
		b := m.Bounds()
		scale := float64(side) / float64(max(b.Dx(), b.Dy()))
		for y := range int(scale * float64(b.Dy())) {
			for x := range int(scale * float64(b.Dx())) {
				page.Set(gap+i*(side+gap)+x, gap+y, m.At(b.Min.X+int(float64(x)/scale), b.Min.Y+int(float64(y)/scale)))
			}
		}
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, page, &jpeg.Options{Quality: 80}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pagesDir, name+".jpg"), out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func seen(t *testing.T, b []byte) image.Image {
	t.Helper()
	m, _, err := image.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// stretched shows a label map of few labels.
func stretched(t *testing.T, path string) image.Image {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := seen(t, b).(*image.Gray)
	for i := range m.Pix {
		m.Pix[i] *= 100
	}
	return m
}
