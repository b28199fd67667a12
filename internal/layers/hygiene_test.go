package layers

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/golden"
)

// banned are texts that belong to one machine or to the making of the files, not to the project. They are spelled in pieces,
// since this file is checked too.
var banned = []*regexp.Regexp{
	text("/wo" + "rk/"), text("/ho" + "me/"), text("/ro" + "ot/"), text("/tmp/" + "ldm"), // paths of a machine
	text("proxy." + "golang.org"), text("py" + "pi.org"), text("python" + "hosted.org"), text("sum." + "golang.org"), // hosts of registries
	text("TO" + "DO"), text("FIX" + "ME"), text("XX" + "X:"), // work that is not done belongs to no file
	regexp.MustCompile(`(?i)\b(sub-?` + `agents?|coding ` + `agents?|chat` + `bots?|as an ` + `ai|language ` + `models?|co-authored` + `-by)\b`),
	regexp.MustCompile(`(?i)\b(this|last|next|earlier|previous) ` + `session\b`),
}

func text(s string) *regexp.Regexp { return regexp.MustCompile(regexp.QuoteMeta(s)) }

// maxFile is the size from which a file is data that belongs elsewhere, the models that come along aside: a test of theirs limits them.
const maxFile = 1 << 20

func TestHygiene(t *testing.T) {
	root := golden.ModuleRoot(t)
	files := 0
	each(t, root, func(name string) {
		if path.Ext(name) == ".test" || path.Ext(name) == ".prof" || name == "go.sum" {
			return
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			return
		}
		files++
		if len(data) > maxFile && !strings.HasPrefix(name, "internal/models/") {
			t.Errorf("%s: %d bytes, more than %d", name, len(data), maxFile)
		}
		if bytes.IndexByte(data, 0) >= 0 {
			return // not a text
		}
		for i, line := range strings.Split(string(data), "\n") {
			if m := offence(line); m != "" {
				t.Errorf("%s:%d: says %q", name, i+1, m)
			}
		}
	})
	if files < 100 {
		t.Errorf("only %d files found below %s", files, root)
	}
}

// offence returns the first banned text of a line.
func offence(line string) string {
	for _, b := range banned {
		if m := b.FindString(line); m != "" {
			return m
		}
	}
	return ""
}

func TestOffence(t *testing.T) {
	for line, bad := range map[string]bool{
		"see /ho" + "me/me/model.ckpt":          true,
		"// found in an earlier " + "session":   true,
		"GOPROXY=https://proxy." + "golang.org": true,
		"// TO" + "DO: finish":                  true,
		"a Session runs networks":               false,
		"the network's output":                  false,
		"/data/train.parquet":                   false,
	} {
		if got := offence(line) != ""; got != bad {
			t.Errorf("%q: banned %t, want %t", line, got, bad)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#: ]+)(#[^)]*)?\)`)

// TestLinks checks that what a document links to in the repository is there.
func TestLinks(t *testing.T) {
	root := golden.ModuleRoot(t)
	links := 0
	each(t, root, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range link.FindAllStringSubmatch(string(data), -1) {
			links++
			if _, err := os.Stat(filepath.Join(root, path.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	})
	if links == 0 {
		t.Error("no link found")
	}
}
