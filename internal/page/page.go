// Package page holds what every HTML page of the program shares: its style and pictures inside the page.
//
// Concept: a page is one file that needs no other and no network, is read in light and dark, on paper and on a phone, and works
// without scripts. Texts go through html/template, which escapes them.
//
// Data flow: pages put [Style] into their head and [PNG] into their pictures. Ownership: nothing is kept. Errors: none.
package page

import (
	_ "embed"
	"encoding/base64"
	"html/template"
)

//go:embed style.css
var style string

// Style is the style sheet of all pages.
func Style() template.CSS { return template.CSS(style) }

// PNG is a PNG file as the address of a picture. It is made here and of nothing but base64, so that it is safe.
func PNG(file []byte) template.URL {
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(file))
}
