package commit

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

const runSchema = "ldm-batch/run/v1"

// Run records the latest run on a folder, or of one shard. Everything that differs between two runs of one job is here
// and not in the manifest.
type Run struct {
	Schema  string            `json:"schema"`
	Attempt int               `json:"attempt"` // from 1, over all runs on the folder or of the shard
	Started time.Time         `json:"started"`
	Ended   *time.Time        `json:"ended,omitempty"`
	Host    string            `json:"host"`
	PID     int               `json:"pid"`
	Shard   string            `json:"shard"`
	Airflow map[string]string `json:"airflow,omitempty"` // the AIRFLOW_CTX_ variables of the environment
	Info    any               `json:"info,omitempty"`    // given by the caller: version, device, arguments
	Outcome any               `json:"outcome,omitempty"` // given by the caller at the end
}

func newRun(s Shard, info any) Run {
	h := self(s)
	r := Run{Schema: runSchema, Attempt: 1, Started: h.Started, Host: h.Host, PID: h.PID, Shard: s.String(), Info: info}
	for _, kv := range os.Environ() {
		if k, v, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "AIRFLOW_CTX_") {
			if r.Airflow == nil {
				r.Airflow = map[string]string{}
			}
			r.Airflow[k] = v
		}
	}
	return r
}

// readRun returns the record at path; a missing or damaged one counts as none, since nothing depends on it.
func readRun(fsys atomicfile.FS, path string) (Run, bool, error) {
	b, err := fsys.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Run{}, false, nil
	}
	if err != nil {
		return Run{}, false, outputError(err)
	}
	var r Run
	if json.Unmarshal(b, &r) != nil || r.Schema != runSchema {
		return Run{}, false, nil
	}
	return r, true, nil
}
