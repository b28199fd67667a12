package commit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestCanonical(t *testing.T) {
	cases := []struct {
		name string
		doc  any
		want string
	}{
		{"keys sorted, no spaces", map[string]any{"b": 1, "a": []any{true, nil, "x"}}, `{"a":[true,null,"x"],"b":1}`},
		{"struct", struct {
			Z int     `json:"z"`
			A float64 `json:"a"`
		}{1, 0.1}, `{"a":0.1,"z":1}`},
		{"raw JSON", json.RawMessage("{ \"b\" : 1e3,\n \"a\": {} }"), `{"a":{},"b":1e3}`},
		{"large integers", map[string]any{"seed": uint64(1<<64 - 1)}, `{"seed":18446744073709551615}`},
		{"no escapes for HTML", map[string]any{"a": "<&>"}, `{"a":"<&>"}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Canonical(c.doc)
			if err != nil || string(got) != c.want {
				t.Errorf("Canonical = %s, %v; want %s", got, err, c.want)
			}
		})
	}
	if _, err := Canonical(func() {}); err == nil {
		t.Error("a function has a canonical form")
	}
	if got, err := Fingerprint(map[string]any{}); got != "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" {
		t.Errorf("fingerprint of {} is %s, %v", got, err)
	}
}

func TestPlanRefuses(t *testing.T) {
	cases := map[string]struct {
		doc   any
		parts []PartPlan
	}{
		"a gap":           {map[string]any{}, []PartPlan{{0, 5}, {6, 1}}},
		"an overlap":      {map[string]any{}, []PartPlan{{0, 5}, {4, 1}}},
		"negative rows":   {map[string]any{}, []PartPlan{{0, -1}}},
		"a document list": {[]any{}, nil},
	}
	for name, c := range cases {
		if _, err := NewPlan(c.doc, c.parts); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, n := range [][2]int64{{-1, 5}, {5, 0}, {5, -1}} {
		if _, err := SplitRows(n[0], n[1]); err == nil {
			t.Errorf("SplitRows(%d, %d) was accepted", n[0], n[1])
		}
	}
}

func TestRanges(t *testing.T) {
	if got := Ranges([]int{0, 3, 4, 5, 9, 10}); got != "0, 3-5, 9-10" {
		t.Error(got)
	}
	var many []int
	for i := range 1000 {
		many = append(many, 2*i)
	}
	if got := Ranges(many); len(got) > 250 || !strings.HasSuffix(got, "more") {
		t.Error(got)
	}
}

// FuzzPlan feeds damaged plans: no panic, and what is accepted reads back as itself.
func FuzzPlan(f *testing.F) {
	p := testPlan(f)
	b, err := indent(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Add([]byte(`{"schema":"ldm-batch/plan/v1","parts":[{"first_row":0,"rows":-1}]}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePlan("plan.json", b)
		if err != nil {
			return
		}
		again, err := indent(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := parsePlan("plan.json", again)
		if err != nil || q.Fingerprint != p.Fingerprint {
			t.Errorf("read back: %v", err)
		}
	})
}

// FuzzEntry feeds damaged journal entries.
func FuzzEntry(f *testing.F) {
	p := testPlan(f)
	f.Add([]byte(`{"schema":"ldm-batch/journal/v1","part":0,"file":"data/part-00000.arrow","rows":5,"ok":5}`))
	f.Add([]byte(`{"schema":"ldm-batch/journal/v1","rows":9223372036854775807,"ok":9223372036854775807,"failed":1}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err == nil && e.check(p, 0) == nil && e.Rows != 5 {
			t.Errorf("accepted %d rows of 5", e.Rows)
		}
	})
}

// FuzzDiff wants no difference between equal documents and one between documents of other canonical form.
func FuzzDiff(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}]}`), []byte(`{"a":[1,{}],"c":1}`))
	f.Add([]byte(`1`), []byte(`[1]`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		lines, err := Diff(a, b)
		if err != nil {
			return
		}
		ca, err := Canonical(json.RawMessage(a))
		if err != nil {
			return // an escape that encoding/json takes one way only
		}
		cb, err := Canonical(json.RawMessage(b))
		if err != nil {
			return
		}
		if same := bytes.Equal(ca, cb); same != (len(lines) == 0) {
			t.Errorf("equal %v, but the difference is %q", same, lines)
		}
	})
}
