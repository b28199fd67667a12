package folder

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/io/part"
)

// write makes an output folder of 15 parts of 2 rows, of which the first n are done and have one failed row each.
func write(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "run")
	parts, err := commit.SplitRows(30, 2)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := commit.NewPlan(map[string]any{}, parts)
	if err != nil {
		t.Fatal(err)
	}
	f, err := commit.Open(context.Background(), dir, plan, commit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range n {
		if _, err := f.WritePart(i, part.Schema{Image: true}, func(w *part.Writer) error {
			if err := w.Append(part.Row{ID: fmt.Sprint(i), Status: part.OK, Image: []byte("x")}); err != nil {
				return err
			}
			return w.Append(part.Row{ID: "bad", Status: part.Failed, Error: "truncated: the end is missing"})
		}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFolder(t *testing.T) {
	dir := write(t, 3)
	s, err := ReadStatus(dir)
	if err != nil {
		t.Fatal(err)
	}
	text := s.Text()
	for _, want := range []string{"incomplete, 3 of 15 parts, 6 of 30 rows (3 ok, 0 skipped, 3 failed)", "3 rows: truncated", "part 3: not finished", "and 2 more parts"} {
		if !strings.Contains(text, want) {
			t.Errorf("status lacks %q:\n%s", want, text)
		}
	}
	b, err := json.Marshal(s)
	var doc map[string]any
	if err != nil || json.Unmarshal(b, &doc) != nil || doc["schema"] != "ldm-batch/status/v1" || doc["state"] != "incomplete" || doc["parts"] != 15.0 {
		t.Errorf("status as JSON: %s (%v)", b, err)
	}
	if _, err := Finalize(context.Background(), dir); exitcode.Of(err) != exitcode.Temporary || !strings.Contains(err.Error(), "3-14") {
		t.Errorf("finalize of an unfinished folder: %v", err)
	}
	if v, err := Verify(dir); err != nil || v.Parts != 3 || v.ExitCode != 0 {
		t.Errorf("verify of an unfinished folder: %+v, %v", v, err)
	}

	dir = write(t, 15)
	p, err := Finalize(context.Background(), dir)
	if err != nil || p.State != commit.Finished || p.Totals.Rows != 30 || p.Totals.Failed != 15 {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := os.Remove(filepath.Join(dir, filepath.FromSlash(commit.PartFile(7)))); err != nil {
		t.Fatal(err)
	}
	v, err := Verify(dir)
	if exitcode.Of(err) != exitcode.Data || v == nil || v.ExitCode != 65 || v.Error != err.Error() || !strings.Contains(v.Text(), "part-00007.arrow: ") {
		t.Errorf("verify without a part: %+v, %v", v, err)
	}
	for name, err := range map[string]error{
		"status": second(ReadStatus(t.TempDir())), "verify": second(Verify(t.TempDir())), "finalize": second(Finalize(context.Background(), t.TempDir())),
	} {
		if exitcode.Of(err) != exitcode.NoInput {
			t.Errorf("%s of a folder that is none of ours: class %d: %v", name, exitcode.Of(err), err)
		}
	}
}

func second[T any](_ T, err error) error { return err }
