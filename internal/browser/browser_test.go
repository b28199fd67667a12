package browser

import (
	"os"
	"path/filepath"
	"testing"
)

// TestFaults judges findings, and texts that name something outside of a page.
func TestFaults(t *testing.T) {
	for name, f := range map[string]finding{
		"wide":     {Width: 390, Content: 391, Headings: 1},
		"headless": {Width: 390, Content: 390},
		"broken":   {Width: 390, Content: 390, Headings: 1, Images: 2, Broken: 1},
		"nameless": {Width: 390, Content: 390, Headings: 1, Images: 2, Nameless: 1},
		"mouse":    {Width: 390, Content: 390, Headings: 1, Unreached: []string{"DIV.wide"}},
	} {
		if len(f.faults()) != 1 {
			t.Errorf("%s: %q", name, f.faults())
		}
	}
	for text, want := range map[string]bool{
		`<img src="data:image/png;base64,AA">`: false, `<a href="page.html">http://</a>`: false, `<img src=//a/b.png>`: true,
		`<script src='https://a/b.js'>`: true, `background: url(http://a/b.png)`: true, `@import "a.css"`: true,
	} {
		if outside.MatchString(text) != want {
			t.Errorf("%s: %v", text, !want)
		}
	}
}

// TestLook looks at a page that is as it should be.
func TestLook(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(page, []byte(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>:root{color-scheme:light dark}body{background:#fff;color:#000}.wide{overflow-x:auto}@media(prefers-color-scheme:dark){body{background:#000;color:#fff}}</style>
<h1>A page</h1><div class="wide" tabindex="0"><div style="width:2000px">wide</div></div></html>`), 0o666); err != nil {
		t.Fatal(err)
	}
	Look(t, page)
}
