package demo

import (
	_ "embed"
	"html/template"
	"io"

	"github.com/ldm-batch/ldm-batch/internal/page"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"text": Score.text, "style": page.Style}).Parse(pageText))

// write writes the page: one file that needs no other.
func (p *contents) write(w io.Writer) error { return pageTemplate.Execute(w, p) }
