package commit

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ldm-batch/ldm-batch/io/atomicfile"
)

// crashHook, when a test sets it, is called at every crash point.
var crashHook func(point string)

// crashPoint marks the end of a step. In a test binary, and only there, LDM_BATCH_CRASH_AT=POINT:N ends the process at
// the N-th pass (from 1) of the named point, without running anything more, as kill -9 does.
func crashPoint(point string) {
	if crashHook != nil {
		crashHook(point)
	}
	if kill := killer(); kill != nil {
		kill(point)
	}
}

var killer = sync.OnceValue(func() func(string) {
	spec := os.Getenv("LDM_BATCH_CRASH_AT")
	if spec == "" || !testing.Testing() {
		return nil
	}
	name, count, _ := strings.Cut(spec, ":")
	n, err := strconv.Atoi(count)
	if err != nil {
		n = 1
	}
	var mu sync.Mutex
	return func(point string) {
		mu.Lock()
		defer mu.Unlock()
		if point != name {
			return
		}
		if n--; n == 0 {
			if p, err := os.FindProcess(os.Getpid()); err == nil {
				p.Kill()
			}
			select {} // the signal is on its way
		}
	}
})

// stages names the crash points of one atomic replacement.
func stages(step string) func(atomicfile.Stage) {
	return func(s atomicfile.Stage) { crashPoint(step + "." + string(s)) }
}
