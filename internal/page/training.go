package page

import (
	_ "embed"
	"html/template"
	"io"
)

// Training is what the page of a training shows.
type Training struct {
	Name, State string
	Warnings    []string
	Headline    []Fact // a few numbers, shown large
	Charts      []Chart
	Grids       []Grid // pictures, the newest first
	Facts       []Fact
	Checkpoints []Checkpoint
}

// Fact is a name and a value, both for people.
type Fact struct{ Name, Value string }

// Grid is a table of pictures in one PNG file.
type Grid struct {
	Title, Text   string // Text says what is where
	Width, Height int    // in pixels, as shown
	PNG           []byte
}

// Checkpoint is a line of the list of checkpoints.
type Checkpoint struct {
	Step       int64
	File, Note string
	Score      string
}

//go:embed training.html
var trainingText string

var trainingPage = template.Must(template.New("training").Funcs(template.FuncMap{"style": Style, "png": PNG}).Parse(trainingText))

// HTML writes the page: one file that needs no other.
func (t *Training) HTML(w io.Writer) error { return trainingPage.Execute(w, t) }
