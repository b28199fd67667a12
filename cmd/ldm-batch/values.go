package main

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ldm-batch/ldm-batch/jobs"
)

// duration is a flag's value; its error says what is expected.
type duration time.Duration

// Set implements flag.Value.
func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return errors.New("not a duration; use 5s, 10m, 2h")
	}
	*d = duration(v)
	return nil
}

func (d *duration) String() string {
	if d == nil || *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

func durationFlag(name, usage string) cli.Flag {
	return &cli.GenericFlag{Name: name, Usage: usage, EnvVars: env(name), Value: new(duration)}
}

// durationOf reads a duration flag, 0 when the command has none.
func durationOf(c *cli.Context, name string) time.Duration {
	if c.Generic(name) == nil {
		return 0
	}
	v, err := time.ParseDuration(c.Generic(name).(interface{ String() string }).String())
	if err != nil { // not set
		return 0
	}
	return v
}

// parseShard reads i/n.
func parseShard(s string) (index, count int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	a, b, ok := strings.Cut(s, "/")
	index, ierr := strconv.Atoi(a)
	count, nerr := strconv.Atoi(b)
	if !ok || ierr != nil || nerr != nil || count < 1 || index < 0 || index >= count {
		return 0, 0, usagef("--shard %q: expected i/n with 0 <= i < n, such as 0/8", s)
	}
	return index, count, nil
}

// parseParams reads name=value pairs.
func parseParams(list []string) (map[string]string, error) {
	params := map[string]string{}
	for _, p := range list {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, usagef("--param %q: expected name=value", p)
		}
		if _, twice := params[name]; twice {
			return nil, usagef("--param %s is given twice", name)
		}
		params[name] = value
	}
	return params, nil
}

// env is the environment variable of a flag.
func env(name string) []string {
	return []string{"LDM_BATCH_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
}

// writeJSONFile replaces a file by one line of JSON.
func writeJSONFile(path string, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return jobs.WriteFile(path, append(b, '\n'))
}
