package exitcode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"syscall"
	"testing"
)

func TestOf(t *testing.T) {
	_, missing := os.Open("does-not-exist")
	cases := []struct {
		name string
		err  error
		want Code
	}{
		{"nil", nil, OK},
		{"plain", errors.New("x"), Unknown},
		{"classed", Errorf(Data, "bad row"), Data},
		{"classed below context", fmt.Errorf("part 3: %w", With(Conflict, errors.New("other spec"))), Conflict},
		{"outermost class wins", With(Usage, With(Data, errors.New("x"))), Usage},
		{"missing file", missing, NoInput},
		{"permission", &fs.PathError{Op: "open", Path: "p", Err: fs.ErrPermission}, Permission},
		{"disk full", fmt.Errorf("part: %w", syscall.ENOSPC), IO},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := Of(c.err); got != c.want {
				t.Errorf("Of(%v) = %d, want %d", c.err, got, c.want)
			}
		})
	}
	if With(Data, nil) != nil {
		t.Error("With(nil) must stay nil")
	}
}

func TestTable(t *testing.T) {
	if !sort.SliceIsSorted(Table, func(i, j int) bool { return Table[i].Code < Table[j].Code }) {
		t.Error("table is not ascending")
	}
	names := map[string]bool{}
	for _, i := range Table {
		if names[i.Name] || i.Meaning == "" {
			t.Errorf("%d: name %q is reused, or has no meaning", i.Code, i.Name)
		}
		names[i.Name] = true
		if Lookup(i.Code) != i {
			t.Errorf("Lookup(%d) differs from the table", i.Code)
		}
	}
	if Lookup(200).Name != "unknown" {
		t.Error("an unlisted code must be unknown")
	}
}
