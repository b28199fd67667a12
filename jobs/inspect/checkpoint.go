package inspect

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/weights"
)

// Checkpoint describes a model file.
type Checkpoint struct {
	Format     string            `json:"format"`
	Tensors    int               `json:"tensors"`
	Parameters int64             `json:"parameters"` // elements of all tensors, moving averages included
	Bytes      int64             `json:"bytes"`      // of the values
	DTypes     []DTypeTotal      `json:"dtypes"`
	EMATensors int               `json:"ema_tensors"` // shadows of a moving average
	Groups     []Group           `json:"groups"`      // by first parts of the names
	Guess      []string          `json:"guess"`       // what the keys look like
	Metadata   map[string]string `json:"metadata,omitempty"`
	Skipped    []string          `json:"skipped,omitempty"` // state dict entries that are no tensors
}

// DTypeTotal adds up the tensors of one element type.
type DTypeTotal struct {
	DType      string `json:"dtype"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
}

// Group adds up the tensors below one prefix.
type Group struct {
	Prefix     string `json:"prefix"`
	Tensors    int    `json:"tensors"`
	Parameters int64  `json:"parameters"`
}

func openCheckpoint(path string) (*Checkpoint, error) {
	f, err := weights.Open(path, weights.Limits{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := &Checkpoint{Format: f.Format(), Tensors: len(f.Tensors()), Metadata: maps.Clone(f.Metadata()), Skipped: f.Skipped()}
	types, groups := map[string]*DTypeTotal{}, map[string]*Group{}
	for _, t := range f.Tensors() {
		n := int64(t.NumElements())
		c.Parameters, c.Bytes = c.Parameters+n, c.Bytes+t.NumBytes()
		if strings.HasPrefix(t.Name, weights.EMAPrefix) {
			c.EMATensors++
		}
		d := t.DType.String()
		if types[d] == nil {
			types[d] = &DTypeTotal{DType: d}
		}
		types[d].Tensors, types[d].Parameters = types[d].Tensors+1, types[d].Parameters+n
		g := prefix(t.Name)
		if groups[g] == nil {
			groups[g] = &Group{Prefix: g}
		}
		groups[g].Tensors, groups[g].Parameters = groups[g].Tensors+1, groups[g].Parameters+n
	}
	for _, k := range slices.Sorted(maps.Keys(types)) {
		c.DTypes = append(c.DTypes, *types[k])
	}
	for _, k := range slices.Sorted(maps.Keys(groups)) {
		c.Groups = append(c.Groups, *groups[k])
	}
	c.Guess = guess(f)
	return c, nil
}

// prefix is the part of a name that says which module it belongs to.
func prefix(name string) string {
	for _, p := range []string{nn.UNetPrefix, nn.FirstStagePrefix, nn.ConditionerPrefix, weights.EMAPrefix} {
		if strings.HasPrefix(name, p) {
			return p
		}
	}
	first, _, dotted := strings.Cut(name, ".")
	if !dotted {
		return "(top)"
	}
	return first + "."
}

// guess says in words what the names and shapes look like.
func guess(f *weights.File) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if in, ok := shape(f, nn.UNetPrefix+"input_blocks.0.0.weight"); ok && len(in) == 4 {
		add("U-Net of a latent diffusion model: %d channels in, width %d", in[1], in[0])
	} else if in, ok := shape(f, "input_blocks.0.0.weight"); ok && len(in) == 4 {
		add("U-Net alone: %d channels in, width %d", in[1], in[0])
	}
	if s := firstStage(f, nn.FirstStagePrefix); s != "" {
		add("%s inside", s)
	}
	if s := firstStage(f, ""); s != "" {
		add("%s alone", s)
	}
	if e, ok := shape(f, nn.ConditionerPrefix+"embedding.weight"); ok && len(e) == 2 {
		add("class conditioner: %d classes, width %d", e[0], e[1])
	}
	for _, kind := range []struct{ prefix, name string }{
		{"transformer.", "text or token conditioner"}, {"encoder.", "first stage as conditioner"}, {"channel_mapper.", "rescaler as conditioner"},
	} {
		if slices.ContainsFunc(f.Tensors(), func(t *weights.Tensor) bool { return strings.HasPrefix(t.Name, nn.ConditionerPrefix+kind.prefix) }) {
			add("%s", kind.name)
		}
	}
	if b, ok := shape(f, "betas"); ok && len(b) == 1 {
		add("noise schedule of %d steps", b[0])
	}
	if mu, ok := shape(f, "mu"); ok && len(mu) == 1 {
		if sigma, ok := shape(f, "sigma"); ok && slices.Equal(sigma, []int{mu[0], mu[0]}) {
			add("statistics of %d features: mean and covariance", mu[0])
		}
	}
	if len(out) == 0 {
		add("no known model")
	}
	return out
}

// firstStage describes the autoencoder below a prefix.
func firstStage(f *weights.File, prefix string) string {
	in, ok := shape(f, prefix+"encoder.conv_in.weight")
	if !ok || len(in) != 4 {
		return ""
	}
	factor := 1
	for level := 0; ; level++ {
		if _, ok := shape(f, fmt.Sprintf("%sencoder.down.%d.downsample.conv.weight", prefix, level)); !ok {
			break
		}
		factor *= 2
	}
	if book, ok := shape(f, prefix+"quantize.embedding.weight"); ok && len(book) == 2 {
		return fmt.Sprintf("VQ first stage, factor %d, latents of %d channels, %d codes", factor, book[1], book[0])
	}
	if post, ok := shape(f, prefix+"post_quant_conv.weight"); ok && len(post) == 4 {
		return fmt.Sprintf("KL first stage, factor %d, latents of %d channels", factor, post[1])
	}
	return fmt.Sprintf("autoencoder of unknown kind, factor %d", factor)
}

func shape(f *weights.File, name string) ([]int, bool) {
	t, ok := f.Lookup(name)
	if !ok {
		return nil, false
	}
	return t.Shape, true
}

func (c *Checkpoint) write(b *strings.Builder) {
	fmt.Fprintf(b, "format %s, %d tensors, %d parameters, %d bytes of values\n", c.Format, c.Tensors, c.Parameters, c.Bytes)
	for _, g := range c.Guess {
		fmt.Fprintf(b, "looks like: %s\n", g)
	}
	if c.EMATensors > 0 {
		fmt.Fprintf(b, "moving average: %d tensors\n", c.EMATensors)
	} else {
		b.WriteString("moving average: none\n")
	}
	for _, d := range c.DTypes {
		fmt.Fprintf(b, "type %s: %d tensors, %d parameters\n", d.DType, d.Tensors, d.Parameters)
	}
	for _, g := range c.Groups {
		fmt.Fprintf(b, "%s: %d tensors, %d parameters\n", g.Prefix, g.Tensors, g.Parameters)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Metadata)) {
		fmt.Fprintf(b, "metadata %s: %s\n", k, c.Metadata[k])
	}
	for _, s := range c.Skipped {
		fmt.Fprintf(b, "skipped, no tensor: %s\n", s)
	}
}
