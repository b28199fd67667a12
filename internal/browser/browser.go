// Package browser looks at pages in a real browser, for tests.
//
// Concept: a page of this program is one file that has to look right without a network, in light and in dark, on a phone and on a desk,
// by keyboard and without scripts. [Look] opens it in headless Chromium at both widths and in both schemes and checks what can be
// measured; the screenshots are for people.
//
// Data flow: page -> copy with a probe, in frames of both widths -> Chromium -> what the probe found, and pictures -> failures of a test.
//
// Ownership: what is written goes when the test ends; screenshots stay in the folder LDM_SCREENSHOTS if that is set. Errors: a machine without Chromium
// skips; a browser that does not answer fails.
package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// widths of the window, in pixels: a phone and a desk.
var widths = []int{390, 1280}

const (
	height   = 1600 // of a frame; what is below is measured but not seen
	patience = 2 * time.Minute
)

// names under which Chromium is installed.
var names = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

// probe tells the frame's parent what the page is like. A region scrolls when its content is wider than itself, and the keyboard
// reaches it when it or something in it takes the focus.
const probe = `<script>addEventListener("load", () => {
const reached = e => e.tabIndex >= 0 || e.querySelector("a[href],button,[tabindex]");
const scrolls = e => /auto|scroll/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1;
const all = [...document.querySelectorAll("body *")], images = [...document.images];
parent.postMessage({
  width: innerWidth, content: document.documentElement.scrollWidth,
  images: images.length, broken: images.filter(i => !i.naturalWidth).length, nameless: images.filter(i => !i.alt).length,
  unreached: all.filter(e => scrolls(e) && !reached(e)).map(e => e.tagName + "." + e.className),
  headings: document.querySelectorAll("h1").length,
}, "*")})</script>`

// finding is what the probe tells.
type finding struct {
	Width, Content, Images, Broken, Nameless, Headings int
	Unreached                                          []string
}

var outside = regexp.MustCompile(`(?i)(src|href|action)\s*=\s*["']?\s*(https?:|//)|url\(\s*["']?\s*(https?:|//)|@import`)

// Look checks the file of a page, in a subtest: at 390 and 1280 pixels nothing is wider than the window but regions that scroll and that
// the keyboard reaches; all pictures are there and have a text; nothing is asked of a network; and the background follows the scheme.
func Look(t *testing.T, page string) {
	t.Helper()
	t.Run("in a browser", func(t *testing.T) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if at := outside.Find(text); at != nil {
			t.Errorf("the page needs a network: %q", at)
		}
		chromium := find(t)
		dir := t.TempDir()
		const collect = `<pre id="found" hidden></pre><script>addEventListener("message", e => { found.textContent += JSON.stringify(e.data) + "\n" })</script>`
		check(t, run(t, chromium, "--dump-dom", frames(t, dir, "probed", string(text)+probe, "allow-scripts", collect)))
		still := frames(t, dir, "still", string(text), "", "")
		see(t, chromium, dir, still, page, false)
		see(t, chromium, dir, still, page, true)
	})
}

// frames writes a file that shows the page at all widths, beside each other.
func frames(t *testing.T, dir, name, page, sandbox, more string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprint(&b, `<!doctype html><meta name="color-scheme" content="light dark"><style>body{margin:0;display:flex}iframe{border:0;flex:none}</style>`, more)
	for _, w := range widths {
		fmt.Fprintf(&b, `<iframe sandbox="%s" style="width:%dpx;height:%dpx" srcdoc="%s"></iframe>`, sandbox, w, height, html.EscapeString(page))
	}
	file := filepath.Join(dir, name+".html")
	if err := os.WriteFile(file, []byte(b.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

// find returns Chromium's path.
func find(t *testing.T) string {
	t.Helper()
	for _, n := range names {
		if path, err := exec.LookPath(n); err == nil {
			return path
		}
	}
	t.Skip("NOT LOOKED AT: no Chromium on this machine")
	return ""
}

// run starts the browser on a file and returns what it prints.
func run(t *testing.T, chromium string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	profile, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(profile) // not the test's own folder, which has to be empty at once: helper processes may write a little longer
	cmd := exec.CommandContext(ctx, chromium, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-features=IsolateSandboxedIframes", "--virtual-time-budget=10000",
		"--user-data-dir=" + profile}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &errs, 5*time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", chromium, err, errs.Bytes())
	}
	return out
}

var found = regexp.MustCompile(`(?s)<pre id="found"[^>]*>(.*?)</pre>`)

// check reads what the probes of both widths found, and judges it.
func check(t *testing.T, dom []byte) {
	t.Helper()
	var list []finding
	if m := found.FindSubmatch(dom); m != nil {
		for line := range strings.Lines(html.UnescapeString(string(m[1]))) {
			var f finding
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				t.Fatal(err)
			}
			list = append(list, f)
		}
	}
	if len(list) != len(widths) {
		t.Fatalf("%d of %d frames answered", len(list), len(widths))
	}
	for _, f := range list {
		t.Logf("%+v", f)
		for _, fault := range f.faults() {
			t.Errorf("at %d pixels %s", f.Width, fault)
		}
	}
}

// faults says what is wrong with a page.
func (f finding) faults() (list []string) {
	if f.Content > f.Width {
		list = append(list, fmt.Sprintf("the page is %d wide", f.Content))
	}
	if f.Headings != 1 {
		list = append(list, fmt.Sprintf("the page has %d main headings", f.Headings))
	}
	if f.Broken > 0 {
		list = append(list, fmt.Sprintf("%d of %d pictures are broken", f.Broken, f.Images))
	}
	if f.Nameless > 0 {
		list = append(list, fmt.Sprintf("%d of %d pictures have no text", f.Nameless, f.Images))
	}
	if len(f.Unreached) > 0 {
		list = append(list, fmt.Sprintf("the keyboard does not reach what scrolls: %v", f.Unreached))
	}
	return list
}

// see takes a screenshot of the frames, which run no scripts, and looks at the color of each one's corner.
func see(t *testing.T, chromium, dir, frames, page string, dark bool) {
	t.Helper()
	scheme, setting, all := "light", "--blink-settings=preferredColorScheme=1", 0
	if dark {
		scheme, setting = "dark", "--blink-settings=preferredColorScheme=0"
	}
	for _, w := range widths {
		all += w
	}
	shot := filepath.Join(dir, scheme+".png")
	run(t, chromium, setting, fmt.Sprintf("--window-size=%d,%d", all, height), "--screenshot="+shot, frames)
	b, err := os.ReadFile(shot)
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, w := range widths {
		if r, g, b, _ := m.At(left+2, 2).RGBA(); (r+g+b < 3*0x8000) != dark {
			t.Errorf("in the %s scheme the page's corner is %04x %04x %04x at %d pixels", scheme, r, g, b, w)
		}
		if plain(m, image.Rect(left, 0, left+w, height)) {
			t.Errorf("in the %s scheme nothing is to be seen at %d pixels", scheme, w)
		}
		left += w
	}
	if keep := os.Getenv("LDM_SCREENSHOTS"); keep != "" {
		name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
		if err := os.WriteFile(filepath.Join(keep, fmt.Sprintf("%s-%s-%s.png", name, strings.TrimSuffix(filepath.Base(page), ".html"), scheme)), b, 0o666); err != nil {
			t.Error(err)
		}
	}
}

// plain tells whether a part of a picture has one color only.
func plain(m image.Image, r image.Rectangle) bool {
	first := m.At(r.Min.X+2, 2)
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if m.At(x, y) != first {
				return false
			}
		}
	}
	return true
}
