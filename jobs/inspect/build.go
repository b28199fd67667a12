package inspect

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/cpu/kernel"
)

// Build is what this program and this machine can do.
type Build struct {
	Schema   string   `json:"schema"` // ldm-batch/version/v1
	Version  string   `json:"version"`
	Revision string   `json:"revision,omitempty"`
	Go       string   `json:"go"`
	Platform string   `json:"platform"`
	CPUs     int      `json:"cpus"` // that this process may use
	ISA      string   `json:"isa"`  // instruction set of the kernels that are taken
	ISAs     []string `json:"isas"` // that this processor and this build have
	BF16     bool     `json:"bf16"` // the processor multiplies bfloat16
	Devices  []string `json:"devices"`
	Tags     []string `json:"build_tags"`
}

// ReadBuild describes the running program.
func ReadBuild(version string) *Build {
	b := &Build{
		Schema: "ldm-batch/version/v1", Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs: runtime.GOMAXPROCS(0), ISA: kernel.Detect().String(), BF16: kernel.Detect().BF16(), Devices: []string{"cpu"}, Tags: []string{},
	}
	for _, isa := range kernel.Available() {
		b.ISAs = append(b.ISAs, isa.String())
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "-tags":
				b.Tags = append(b.Tags, strings.Split(s.Value, ",")...)
			case "CGO_ENABLED":
				if s.Value == "1" {
					b.Tags = append(b.Tags, "cgo")
				}
			case "vcs.revision":
				b.Revision = s.Value
			}
		}
	}
	return b
}

// Text is the description for people.
func (b *Build) Text() string {
	var s strings.Builder
	fmt.Fprintf(&s, "ldm-batch %s\n", b.Version)
	if b.Revision != "" {
		fmt.Fprintf(&s, "revision %s\n", b.Revision)
	}
	fmt.Fprintf(&s, "%s %s, %d processors\n", b.Go, b.Platform, b.CPUs)
	fmt.Fprintf(&s, "kernels %s of %s, bfloat16 %t\n", b.ISA, strings.Join(b.ISAs, ", "), b.BF16)
	fmt.Fprintf(&s, "devices %s\n", strings.Join(b.Devices, ", "))
	fmt.Fprintf(&s, "build tags %s\n", strings.Join(b.Tags, ", "))
	return s.String()
}
