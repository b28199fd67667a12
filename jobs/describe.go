package jobs

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/plan"
	"github.com/ldm-batch/ldm-batch/internal/tile"
	"github.com/ldm-batch/ldm-batch/io/commit"
	"github.com/ldm-batch/ldm-batch/jobs/spec"
)

// Description is what a job would do.
type Description struct {
	Schema      string            `json:"schema"` // ldm-batch/plan/v1
	Kind        string            `json:"kind"`
	Output      string            `json:"output"`
	Fingerprint string            `json:"fingerprint"`
	Values      []spec.Value      `json:"values"` // the resolved job, with the origin of each value
	Rows        int64             `json:"rows"`
	Parts       []commit.PartPlan `json:"parts"`
	Device      string            `json:"device"`
	ModelSHA256 string            `json:"model_sha256"`
	EMA         bool              `json:"ema"`
	Steps       int               `json:"steps,omitempty"` // that each image takes
	Reuse       *ReusePlan        `json:"reuse,omitempty"` // results are approximate
	Tiles       *tile.Config      `json:"tiles,omitempty"` // that every image is computed in
	Networks    []NetworkCost     `json:"networks"`        // for one tile where there are tiles
	Memory      Memory            `json:"memory"`
	Supply      *Supply           `json:"supply,omitempty"` // kind Encode
	Warnings    []string          `json:"warnings,omitempty"`
}

// NetworkCost is what one network takes for one batch.
type NetworkCost struct {
	Name        string  `json:"name"`
	GFLOP       float64 `json:"gflop"` // of one call
	ArenaBytes  int64   `json:"arena_bytes"`
	WeightBytes int64   `json:"weight_bytes"` // as float32; packing for the kernels can take up to four times as much
}

// Memory is what a run holds beside weights.
type Memory struct {
	LimitBytes    int64 `json:"limit_bytes"`             // limits.memory
	InFlightBytes int64 `json:"in_flight_bytes"`         // the part of it that rows between input and output may take
	NetworkBytes  int64 `json:"network_bytes,omitempty"` // what networks take for one image, where all have one size
	ReaderBytes   int64 `json:"reader_bytes"`            // the most that one reader of the input holds, beside the limit
}

// ReusePlan says how features are reused.
type ReusePlan struct {
	Approximate bool `json:"approximate"` // always true
	Every       int  `json:"every"`
	Branch      int  `json:"branch"`
}

// Supply estimates whether the input keeps up with the network: a few rows are read and prepared, and the network's work is
// set against the processor's rate.
type Supply struct {
	RowsProbed        int     `json:"rows_probed"`
	PrepareSeconds    float64 `json:"prepare_seconds_per_row"` // reading, decoding and resizing, on one worker
	NetworkSeconds    float64 `json:"network_seconds_per_row"` // at the measured rate of multiply-adds; Winograd does better
	ExpectedWaitShare float64 `json:"expected_wait_share"`     // of the compute stage's time
}

// supplyRows is how many rows are probed, and supplyTime how long at most.
const (
	supplyRows = 16
	supplyTime = 2 * time.Second
)

// Estimate probes the first rows of the input and adds the supply to a description. Jobs without input, or whose size is
// decided by each row, have none.
func (p *Prepared) Estimate(ctx context.Context, d *Description) error {
	t, ok := p.task.(*encodeTask)
	if !ok || len(d.Networks) != 1 {
		return nil
	}
	prepare, _ := t.newWorker()
	s := &Supply{}
	start := time.Now()
	for it, err := range p.src.read(ctx, 0, min(supplyRows, p.src.rows())) {
		if err != nil {
			return err
		}
		if !it.failed() {
			prepare(it)
		}
		s.RowsProbed++
		if time.Since(start) > supplyTime {
			break
		}
	}
	s.PrepareSeconds = time.Since(start).Seconds() / max(float64(s.RowsProbed), 1)
	s.NetworkSeconds = d.Networks[0].GFLOP / float64(p.spec.Spec.Compute.Batch) / max(p.backend.Peak(), 1e-9)
	per := s.PrepareSeconds / float64(workers())
	if per > s.NetworkSeconds {
		s.ExpectedWaitShare = round3(1 - s.NetworkSeconds/per)
	}
	d.Supply = s
	return nil
}

// Shard is one entry of the list that a scheduler maps over.
type Shard struct {
	Shard int   `json:"shard"`
	Of    int   `json:"of"`
	Parts int   `json:"parts"`
	Rows  int64 `json:"rows"`
}

// Describe says what Run would do, without doing it.
func (p *Prepared) Describe() (*Description, error) {
	s := &p.spec.Spec
	d := &Description{
		Schema: "ldm-batch/plan/v1", Kind: p.spec.Kind, Output: s.Output.Path, Fingerprint: p.plan.Fingerprint, Values: p.spec.Values(),
		Rows: p.src.rows(), Parts: p.plan.Parts, Device: p.backend.Name(), ModelSHA256: p.modelSHA, EMA: p.model.EMA,
		Memory: Memory{LimitBytes: int64(s.Limits.Memory), InFlightBytes: inFlight(int64(s.Limits.Memory))}, Warnings: p.told(),
	}
	graphs := []func() (*nn.Graph, error){}
	n := s.Compute.Batch
	fits, h, w := p.fits()
	var way way
	if h > 0 && w > 0 { // otherwise each row decides its size
		if way = fits.way(h, w, n); way.err != nil {
			return nil, way.err
		}
		n, d.Tiles, d.Memory.NetworkBytes = way.most, way.tiles, way.networks
	}
	if src, ok := p.src.(*datasetSource); ok {
		d.Memory.ReaderBytes = src.ds.MemoryBound()
	}
	switch t := p.task.(type) {
	case *encodeTask:
		if h > 0 && w > 0 {
			h, w := way.tile(h, w, t.first.Factor())
			graphs = append(graphs, func() (*nn.Graph, error) { return p.model.EncoderGraph(n, h, w) })
		}
	case *generateTask:
		d.Steps = t.gen.Steps()
		if r := s.Sampler.Reuse; r.Every > 1 {
			d.Reuse = &ReusePlan{Approximate: true, Every: r.Every, Branch: r.Branch}
		}
		if h == 0 || w == 0 {
			break
		}
		h, w := way.tile(h, w, t.gen.Factor())
		_, h, w = t.gen.LatentShape(h, w)
		q := t.outline(n, h, w, cutting{})
		double := n
		if q.Uncond != nil {
			double *= 2
		}
		graphs = append(graphs,
			func() (*nn.Graph, error) { return p.model.UNetGraph(double, h, w, q.Cond.Tokens) },
			func() (*nn.Graph, error) { return p.model.DecoderGraph(n, h, w, nn.Quantized) })
	}
	for _, build := range graphs {
		c, err := networkCost(build)
		if err != nil {
			return nil, err
		}
		d.Networks = append(d.Networks, c)
	}
	return d, nil
}

func networkCost(build func() (*nn.Graph, error)) (NetworkCost, error) {
	g, err := build()
	if err != nil {
		return NetworkCost{}, err
	}
	p, err := plan.Lower(g.Program)
	if err != nil {
		return NetworkCost{}, err
	}
	c := NetworkCost{Name: p.Name, GFLOP: round3(float64(p.FLOP) / 1e9), ArenaBytes: 4 * int64(p.ArenaElems)}
	for _, v := range p.Params {
		c.WeightBytes += 4 * int64(v.Elems())
	}
	return c, nil
}

// Shards cuts the parts into n shards as `--shard i/n` does.
func (d *Description) Shards(n int) []Shard {
	list := make([]Shard, n)
	for i := range list {
		lo, hi := commit.Shard{Index: i, Count: n}.Range(len(d.Parts))
		list[i] = Shard{Shard: i, Of: n, Parts: hi - lo}
		for _, p := range d.Parts[lo:hi] {
			list[i].Rows += p.Rows
		}
	}
	return list
}

// Write prints the description for people.
func (d *Description) Write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range d.Values {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", v.Key, v.Value, v.Origin)
	}
	fmt.Fprintf(tw, "\t\t\nrows\t%d\tin %d parts\n", d.Rows, len(d.Parts))
	fmt.Fprintf(tw, "output\t%s\t%s\n", d.Output, d.Fingerprint)
	fmt.Fprintf(tw, "device\t%s\t\n", d.Device)
	fmt.Fprintf(tw, "model\tsha256 %s\tEMA %t\n", d.ModelSHA256, d.EMA)
	if d.Steps > 0 {
		fmt.Fprintf(tw, "steps\t%d\tfor each image\n", d.Steps)
	}
	if t := d.Tiles; t != nil {
		fmt.Fprintf(tw, "tiles\t%d latent cells, overlap %d\tstatistics: %s\n", t.Size, t.Overlap, t.Norm)
	}
	if r := d.Reuse; r != nil {
		fmt.Fprintf(tw, "reuse\tevery %d steps, branch %d\tresults are approximate\n", r.Every, r.Branch)
	}
	for _, n := range d.Networks {
		fmt.Fprintf(tw, "network %s\t%.1f GFLOP a batch\tarena %.1f MB, weights %.1f MB\n", n.Name, n.GFLOP, float64(n.ArenaBytes)/1e6, float64(n.WeightBytes)/1e6)
	}
	m := d.Memory
	fmt.Fprintf(tw, "memory\tlimit %s, rows in flight up to %s\treader up to %.1f MB beside it\n", spec.Size(m.LimitBytes), spec.Size(m.InFlightBytes), float64(m.ReaderBytes)/1e6)
	if m.NetworkBytes > 0 {
		fmt.Fprintf(tw, "\tnetworks %.1f MB for one image\t\n", float64(m.NetworkBytes)/1e6)
	}
	if s := d.Supply; s != nil {
		fmt.Fprintf(tw, "supply\t%.1f ms a row to prepare, %.1f ms to encode\tabout %.0f%% of the time waiting for data\n", 1e3*s.PrepareSeconds, 1e3*s.NetworkSeconds, 100*s.ExpectedWaitShare)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, warning := range d.Warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", warning); err != nil {
			return err
		}
	}
	return nil
}
