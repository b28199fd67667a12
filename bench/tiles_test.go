package bench

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/nn"
	"github.com/ldm-batch/ldm-batch/internal/nn/goldencase"
	"github.com/ldm-batch/ldm-batch/sample"
)

const (
	superres = "bsr_sr.yaml"

	// The image that tiles are measured with: four times 1536 x 2048 pixels (height x width).
	largeH, largeW = 1536, 2048
)

// within is what tiles may take.
var within = sample.TileFit{Limit: 2 << 30, Overlap: -1}

// large asks for one large upscale.
func large(h, w int) sample.Request { return sample.Request{N: 1, H: 4 * h, W: 4 * w} }

// TestLargeNeeds checks what a large upscale needs with the published super-resolution model: far more than 4 GiB as one frame,
// and less, weights included, in tiles. The weights are packed with LDM_LARGE=1, which takes a minute.
func TestLargeNeeds(t *testing.T) {
	f := file(t, superres)
	s := open(t, superres, f, 2, nn.Options{})
	g, err := sample.NewGenerator(s, sample.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	r := large(largeH, largeW)
	frame, err := g.Needs(r)
	if err != nil {
		t.Fatal(err)
	}
	tiles, need, err := g.FitTiles(r, within)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%dx%d: one frame needs %d MiB, tiles of %d with overlap %d %d MiB", r.H, r.W, frame.Total()>>20, tiles.Size, tiles.Overlap, need.Total()>>20)
	if frame.Total() < 16<<30 || need.Total() > within.Limit {
		t.Errorf("one frame needs %d, tiles %d", frame.Total(), need.Total())
	}
	if os.Getenv("LDM_LARGE") == "" {
		return
	}
	if _, err := s.UNet(1, tiles.Size, tiles.Size, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decoder(1, tiles.Size, tiles.Size, nn.Quantized); err != nil {
		t.Fatal(err)
	}
	t.Logf("packed weights: %d MiB", s.WeightBytes()>>20)
	if all := need.Total() + s.WeightBytes(); all > 4<<30 {
		t.Errorf("weights and tiles need %d MiB", all>>20)
	}
}

// small3 is a made-up small image as the condition of super-resolution.
func small3(t testing.TB, s *engine.Session, h, w int) sample.Condition {
	t.Helper()
	x := make([]float32, 3*h*w)
	sample.Normal(1, "small image", 0, x)
	for i := range x {
		x[i] = 0.2*x[i] + float32(i/w%h-h/2)/float32(h)
	}
	c, err := sample.SuperresCondition(s, x, 1, h, w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLarge upscales a large image with the reference super-resolution model, which has few channels, in two steps and checks the
// most memory that the process ever had. It takes many minutes and runs with LDM_LARGE=1.
func TestLarge(t *testing.T) {
	if os.Getenv("LDM_LARGE") == "" {
		t.Skip("LDM_LARGE is not set")
	}
	found := false
	goldencase.Each(t, "ldm", func(t *testing.T, c *goldencase.Case) {
		s := session(t, c.Model(nn.Options{}), 2)
		if !sample.CanSuperres(s.Model) {
			t.Skip("no super-resolution")
		}
		found = true
		cfg := sample.DefaultConfig()
		cfg.Steps = 2
		g, err := sample.NewGenerator(s, cfg)
		if err != nil {
			t.Fatal(err)
		}
		r := large(largeH, largeW)
		tiles, need, err := g.FitTiles(r, within)
		if err != nil || tiles == nil {
			t.Fatalf("%+v, %v", tiles, err)
		}
		r.Cond, r.Tiles, r.Noise = small3(t, s, largeH, largeW), tiles, sample.RowNoise{Rows: []string{"a"}}
		start := time.Now()
		z, err := g.GenerateLatents(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		sampled := time.Since(start)
		x, err := g.Decode(r, z)
		if err != nil {
			t.Fatal(err)
		}
		if len(x) != 3*r.H*r.W {
			t.Fatalf("%d numbers", len(x))
		}
		peak := peakMemory(t)
		t.Logf("%dx%d in tiles of %d with overlap %d: computed %d MiB, weights %d MiB, peak of the process %d MiB; %v for %d steps, %v in all",
			r.H, r.W, tiles.Size, tiles.Overlap, need.Total()>>20, s.WeightBytes()>>20, peak>>20, sampled.Round(time.Second), g.Steps(), time.Since(start).Round(time.Second))
		if peak > 4<<30 || peak > need.Total()+s.WeightBytes()+512<<20 {
			t.Errorf("peak of %d MiB, computed %d MiB", peak>>20, need.Total()>>20)
		}
	})
	if !found {
		t.Error("no model for super-resolution")
	}
}

// peakMemory is the most resident memory that this process ever had.
func peakMemory(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
