package spec

// APIVersion is the only accepted value of apiVersion.
const APIVersion = "ldm-batch/v1"

// Job is a job file. Tags: yaml is the key, enum lists the allowed values, op marks what outputs do not depend on,
// path what is a path, or a list of paths separated by commas.
type Job struct {
	APIVersion string   `yaml:"apiVersion" enum:"ldm-batch/v1"`
	Kind       string   `yaml:"kind" enum:"Encode,Sample,Train,Eval"`
	Metadata   Metadata `yaml:"metadata" op:"true"`
	Spec       Spec     `yaml:"spec"`
}

// Metadata names a job.
type Metadata struct {
	Name string `yaml:"name"`
}

// Spec is the body of a job. Which parts a kind uses is checked by Validate.
type Spec struct {
	Model      Model      `yaml:"model"`
	Input      Input      `yaml:"input"`
	Preprocess Preprocess `yaml:"preprocess"`
	Encode     Encode     `yaml:"encode"`
	Sample     Sample     `yaml:"sample"`
	Sampler    Sampler    `yaml:"sampler"`
	Eval       Eval       `yaml:"eval"`
	Train      Train      `yaml:"train"`
	Output     Output     `yaml:"output"`
	Compute    Compute    `yaml:"compute"`
	Limits     Limits     `yaml:"limits" op:"true"`
}

// Model names a checkpoint and its CompVis configuration.
type Model struct {
	Checkpoint string `yaml:"checkpoint" path:"true"`
	Config     string `yaml:"config" path:"true"`
	Weights    string `yaml:"weights" enum:"auto,ema,raw"`
	SHA256     string `yaml:"sha256"`
}

// Input is a dataset of images.
type Input struct {
	Path  string `yaml:"path" path:"list"`
	Image string `yaml:"image"`
	ID    string `yaml:"id"`
	Label string `yaml:"label"`

	Mask         string `yaml:"mask"`
	Caption      string `yaml:"caption"`
	Boxes        string `yaml:"boxes"`
	Categories   string `yaml:"categories"`
	Segmentation string `yaml:"segmentation"`
	Reference    string `yaml:"reference"`

	Columns    []string `yaml:"columns"`
	Limit      int      `yaml:"limit"`
	AllowPaths string   `yaml:"allow_paths" path:"true"`
	EXIF       string   `yaml:"exif" enum:"apply,ignore"`
}

// Preprocess says how a picture becomes the model's input.
type Preprocess struct {
	Size   Extent `yaml:"size"`
	Crop   string `yaml:"crop"`
	Resize string `yaml:"resize"`
	Flip   bool   `yaml:"flip"`
}

// Encode says which latent is written.
type Encode struct {
	Latent string `yaml:"latent" enum:"mode,sample"`
	DType  string `yaml:"dtype" enum:"float32,float16"`
	Scale  bool   `yaml:"scale"`
}

// Sample says what is generated.
type Sample struct {
	Task     string `yaml:"task" enum:"class,uncond,superres,inpaint,text,layout,semantic,img2img"`
	Classes  string `yaml:"classes"`
	PerClass int    `yaml:"per_class"`
	Rows     int    `yaml:"rows"`
	Size     Extent `yaml:"size"`

	Degradation string  `yaml:"degradation"`
	Inpaint     string  `yaml:"inpaint" enum:"auto,model,latent"`
	Outpaint    string  `yaml:"outpaint"`
	Strength    float64 `yaml:"strength"`
	Vocab       string  `yaml:"vocab" path:"true"`
	Score       bool    `yaml:"score"`
}

// Sampler chooses how the diffusion is walked.
type Sampler struct {
	Name        string  `yaml:"name" enum:"ddim,ddpm,plms,dpmpp-2m,unipc,heun,euler,euler-a"`
	Steps       int     `yaml:"steps"`
	Eta         float64 `yaml:"eta"`
	Guidance    float64 `yaml:"guidance"`
	Spacing     string  `yaml:"spacing" enum:"uniform,quad,trailing,linspace,karras"`
	Temperature float64 `yaml:"temperature"`
	NoiseFrom   string  `yaml:"noise_from" path:"true"`
	Reuse       Reuse   `yaml:"reuse"`

	GuidanceRescale  float64 `yaml:"guidance_rescale"`
	GuidanceInterval string  `yaml:"guidance_interval"`
}

// Reuse says how often the deep part of the U-Net is computed; the steps between take it from the last time. Approximate.
type Reuse struct {
	Every  int `yaml:"every"`
	Branch int `yaml:"branch"` // at which the network is cut, 0 the outermost
}

// Output is the folder that a job writes, and the form of its parts.
type Output struct {
	Path         string `yaml:"path" path:"true" op:"true"`
	RowsPerPart  int    `yaml:"rows_per_part"`
	Compression  string `yaml:"compression" enum:"none,zstd,lz4"`
	LatentLayout string `yaml:"latent_layout" enum:"list,tensor"`
	Format       string `yaml:"format" enum:"png,jpeg"`
	Quality      int    `yaml:"quality"`
	Layout       string `yaml:"layout" enum:"arrow,tree"`
	Alpha        string `yaml:"alpha" enum:"keep,matte,drop"`
	Matte        string `yaml:"matte"`
	Metadata     string `yaml:"metadata" enum:"keep,drop"`
}

// Compute says where and how fast.
type Compute struct {
	Device    string `yaml:"device" enum:"auto,cpu,gpu" op:"true"`
	Precision string `yaml:"precision" enum:"fp32,mixed"`
	Batch     int    `yaml:"batch" op:"true"`
	Threads   int    `yaml:"threads" op:"true"`
	Seed      uint64 `yaml:"seed"`
}

// Limits bound what a job tolerates and uses.
type Limits struct {
	MaxBadRows Budget `yaml:"max_bad_rows"`
	MaxPixels  int    `yaml:"max_pixels"`
	Memory     Size   `yaml:"memory"`
	Tile       Tile   `yaml:"tile"`
}

// Tile says how images that are too large for one frame are cut, in latent cells.
type Tile struct {
	Size    Cells  `yaml:"size"`    // Auto, or 0 for never
	Overlap Cells  `yaml:"overlap"` // Auto is a quarter of the size
	Norm    string `yaml:"norm" enum:"global,tile"`
	Blend   string `yaml:"blend" enum:"ramp,reference"`
}

// Default returns the defaults of every kind.
func Default() Job {
	return Job{
		APIVersion: APIVersion,
		Spec: Spec{
			Model:      Model{Weights: "auto"},
			Input:      Input{EXIF: "apply"},
			Preprocess: Preprocess{Crop: "center", Resize: "pil-bicubic"},
			Encode:     Encode{Latent: "mode", DType: "float32", Scale: true},
			Sample:     Sample{PerClass: 1, Inpaint: "auto", Strength: 0.75},
			Sampler:    Sampler{Name: "ddim", Steps: 50, Guidance: 1, Spacing: "uniform", Temperature: 1, Reuse: Reuse{Every: 1}},
			Eval:       Eval{Metrics: []string{"fid"}, Protocol: "torch-fidelity", Extractor: Extractor{Name: "auto", Precision: "float32"}, MaxFeatures: 50000, Plane: "rgb"},
			Train: Train{
				Batch: 8, Accumulate: 1, Workers: 1, Schedule: "constant", WeightDecay: 0.01, EMA: 0.9999, Shuffle: 4096,
				ValidationRows: 256, Samples: 8, CheckpointEvery: 1000, KeepBest: 1, LogEvery: 10, Resume: "auto",
			},
			Output:  Output{RowsPerPart: 1024, Compression: "none", LatentLayout: "list", Format: "png", Quality: 95, Layout: "arrow", Alpha: "keep", Matte: "#ffffff", Metadata: "keep"},
			Compute: Compute{Device: "auto", Precision: "fp32", Batch: 8, Seed: 23},
			Limits:  Limits{MaxBadRows: Budget{Percent: 1}, MaxPixels: 178956970, Memory: 8 << 30, Tile: Tile{Size: Auto, Overlap: Auto, Norm: "global", Blend: "ramp"}},
		},
	}
}
