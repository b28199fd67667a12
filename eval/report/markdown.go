package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Markdown writes the result without its pictures. Names and texts of users are escaped.
func (r *Result) Markdown(w io.Writer) error {
	v := viewOf(r)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n%s\n", plain(v.Title), plain(v.Subtitle))
	for _, s := range v.Warnings {
		fmt.Fprintf(&b, "\n> %s\n", plain(s))
	}
	if h := v.Headline; h != nil {
		fmt.Fprintf(&b, "\n**%s %s**", plain(h.Label), h.Value)
		if h.Interval != "" {
			fmt.Fprintf(&b, " (95 %%: %s)", h.Interval)
		}
		fmt.Fprintf(&b, ", %s generated", h.Generated)
		if h.Reference != "" {
			fmt.Fprintf(&b, ", %s reference", h.Reference)
		}
		fmt.Fprintf(&b, " pictures.\n\n%s\n", strings.TrimSpace(h.Meaning+" "+h.Better))
	}
	for _, t := range []struct {
		*table
		text string
	}{{v.Scores, ""}, {v.Classes, v.ClassesText}, {v.History, v.HistoryText}, {v.Facts, ""}, {v.Failed, v.FailedText}, {v.Timings, ""}} {
		t.markdown(&b, t.text)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (t *table) markdown(b *bytes.Buffer, text string) {
	if t == nil || len(t.Rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n", t.Caption)
	if text != "" {
		fmt.Fprintf(b, "%s\n\n", plain(text))
	}
	b.WriteByte('|')
	numbers := t.Numbers()
	for i := range numbers {
		text := ""
		if len(t.Head) > 0 {
			text = plain(t.Head[i].Text)
		}
		fmt.Fprintf(b, " %s |", text)
	}
	b.WriteString("\n|")
	for _, n := range numbers {
		b.WriteString(map[bool]string{true: " ---: |", false: " --- |"}[n])
	}
	b.WriteByte('\n')
	for _, row := range t.Rows {
		b.WriteByte('|')
		for _, c := range row {
			fmt.Fprintf(b, " %s |", plain(c))
		}
		b.WriteByte('\n')
	}
}

var escaper = strings.NewReplacer(`\`, `\\`, "|", `\|`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "#", `\#`, "!", `\!`, "\r", " ", "\n", " ")

// plain is a text that Markdown shows as it is, on one line.
func plain(s string) string { return escaper.Replace(s) }
