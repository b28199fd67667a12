package classifier

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/ldm-batch/ldm-batch/internal/exitcode"
)

// Target names the network in a configuration.
const Target = "ldm_batch.Classifier"

// Config describes a network.
type Config struct {
	Classes  []string `yaml:"classes"`  // their names, by label
	Size     int      `yaml:"size"`     // height and width of images
	Channels []int    `yaml:"channels"` // of every level, the last being the number of features
}

// Limits of a configuration; they keep a damaged file from asking for all of the memory.
const (
	maxClasses  = 1 << 16
	maxSize     = 1 << 12
	maxLevels   = 12
	maxChannels = 1 << 12
	maxConfig   = 4 << 20
)

// Validate reports the first impossible value.
func (c Config) Validate() error {
	bad := func(key, format string, args ...any) error {
		return exitcode.Errorf(exitcode.Data, "model.params.%s: %s", key, fmt.Sprintf(format, args...))
	}
	switch {
	case len(c.Classes) < 2 || len(c.Classes) > maxClasses:
		return bad("classes", "%d names, want 2 to %d", len(c.Classes), maxClasses)
	case len(c.Channels) == 0 || len(c.Channels) > maxLevels:
		return bad("channels", "%d levels, want 1 to %d", len(c.Channels), maxLevels)
	case c.Size < 1 || c.Size > maxSize || c.Size%(1<<(len(c.Channels)-1)) != 0:
		return bad("size", "%d is not in 1..%d or cannot be halved %d times", c.Size, maxSize, len(c.Channels)-1)
	}
	for i, name := range c.Classes {
		if name == "" || slices.Index(c.Classes, name) < i {
			return bad("classes", "name %d, %q, is empty or appears twice", i, name)
		}
	}
	for _, n := range c.Channels {
		if n < groups || n > maxChannels || n%groups != 0 {
			return bad("channels", "%d is not a multiple of %d up to %d", n, groups, maxChannels)
		}
	}
	return nil
}

// Features is the length of a feature vector.
func (c Config) Features() int { return c.Channels[len(c.Channels)-1] }

// LoadConfig reads a configuration file.
func LoadConfig(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("model configuration: %w", err)
	}
	return ParseConfig(path, data)
}

// ParseConfig reads the YAML of a configuration; path is for messages.
func ParseConfig(path string, data []byte) (Config, error) {
	if len(data) > maxConfig {
		return Config{}, exitcode.Errorf(exitcode.Data, "%s: larger than %d bytes, not a model configuration", path, maxConfig)
	}
	var head struct { // of any target, to tell first whose parameters they are
		Model struct {
			Target string `yaml:"target"`
		} `yaml:"model"`
	}
	if err := yaml.Unmarshal(data, &head); err != nil {
		return Config{}, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", path, err))
	}
	if t := head.Model.Target; t != Target {
		return Config{}, exitcode.Errorf(exitcode.Data, "%s: model.target: %q is not %s", path, t, Target)
	}
	var file struct {
		Model struct {
			Target string `yaml:"target"`
			Params Config `yaml:"params"`
		} `yaml:"model"`
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return Config{}, exitcode.With(exitcode.Data, fmt.Errorf("%s: %w", path, err))
	}
	if err := file.Model.Params.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return file.Model.Params, nil
}
