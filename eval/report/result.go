package report

// Schema names the layout of report.json. A change that breaks readers changes its number.
const Schema = "ldm-batch/report/v1"

// Result is all of an evaluation. Empty fields are left out of the pages.
type Result struct {
	Schema string `json:"schema"`         // [Schema]; JSON sets it
	Name   string `json:"name"`           // of the run
	When   string `json:"when,omitempty"` // best in RFC 3339

	Scores    []Score   `json:"scores"` // the first is the headline
	Generated Set       `json:"generated"`
	Reference Set       `json:"reference"`
	Protocol  Protocol  `json:"protocol"`
	Extractor Extractor `json:"extractor"`

	Provenance []Fact   `json:"provenance,omitempty"` // what else made the numbers: seeds, files, versions, precision, ...
	Warnings   []string `json:"warnings,omitempty"`   // whole sentences, the gravest first

	Classes    []Class     `json:"classes,omitempty"`
	Samples    []Thumb     `json:"samples,omitempty"`    // generated pictures in order of rows, or some of each class
	References []Thumb     `json:"references,omitempty"` // of the reference set, for comparison by eye
	Pairs      []Pair      `json:"pairs,omitempty"`      // of paired sets, the worst first
	Neighbours []Neighbour `json:"neighbours,omitempty"` // the nearest first
	Projection *Projection `json:"projection,omitempty"`
	History    []Run       `json:"history,omitempty"` // earlier runs, the oldest first
	Failed     []FailedRow `json:"failed,omitempty"`
	Timings    []Timing    `json:"timings,omitempty"`
}

// Score is one number. Metric is a key of [Metrics] ("fid", "kid", ...), which says whether lower is better and what it means.
type Score struct {
	Metric string `json:"metric"`
	Label  string `json:"label"` // "FID" for features of the FID network only; "FD(NAME)" for another's
	Value  Number `json:"value"`

	StandardError *Number   `json:"standard_error,omitempty"`
	Interval      *Interval `json:"interval,omitempty"`     // of 95 %
	Corrected     *Number   `json:"corrected,omitempty"`    // without the bias of few rows
	Extrapolated  *Number   `json:"extrapolated,omitempty"` // to infinitely many rows, as FID-infinity
	Spread        *Spread   `json:"spread,omitempty"`       // over splits or subsets, as published for this metric

	GeneratedRows int64 `json:"generated_rows"` // that this score saw
	ReferenceRows int64 `json:"reference_rows,omitempty"`

	Ranks *Ranks `json:"ranks,omitempty"`

	Notes []string `json:"notes,omitempty"` // "100 subsets of 1000 rows, seed 2020"
}

// Interval is a confidence interval.
type Interval struct {
	Low  Number `json:"low"`
	High Number `json:"high"`
}

// Spread is the standard deviation of a score over parts of the rows. It is no standard error of the value.
type Spread struct {
	SD Number `json:"sd"`
	Of string `json:"of"` // "10 splits", "100 subsets"
}

// Ranks are the effective ranks of the covariances that a Fréchet distance is made of. Below the number of features a covariance is
// singular: there are directions of which its set says nothing.
type Ranks struct {
	Generated int `json:"generated"`
	Reference int `json:"reference"`
	Features  int `json:"features"`
}

// Set is one side of the comparison.
type Set struct {
	Path   string `json:"path"`
	What   string `json:"what,omitempty"` // "finished run of 12 parts", "folder of PNG files", "statistics of pytorch-fid"
	Rows   int64  `json:"rows"`           // used
	Failed int64  `json:"failed,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // of the list of inputs
	Sizes  string `json:"sizes,omitempty"`  // "256x256", "64x64 to 512x512"
}

// Protocol says what was done to pictures and features, as far as it changes scores.
type Protocol struct {
	Name     string   `json:"name"` // "torch-fidelity"
	Words    []string `json:"words,omitempty"`
	Resize   string   `json:"resize,omitempty"`
	Scaling  string   `json:"scaling,omitempty"`
	Overrule string   `json:"overrule,omitempty"` // what --force compared although it differs
}

// Extractor is the network that made the features.
type Extractor struct {
	Name   string `json:"name"` // "inception-v3-fid", "shapes-v1"
	SHA256 string `json:"sha256,omitempty"`
	Path   string `json:"path,omitempty"`
	Words  string `json:"words,omitempty"` // "Inception-v3 with 1008 logits, taps 64, 192, 768, 2048"
}

// Fact is a name and a value, both for people.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Class are the scores of the rows of one class.
type Class struct {
	Label         int64   `json:"label"`
	Name          string  `json:"name,omitempty"`
	GeneratedRows int64   `json:"generated_rows"`
	ReferenceRows int64   `json:"reference_rows"`
	ToClass       *Number `json:"to_class,omitempty"` // Fréchet distance from the same class of the reference
	ToAll         *Number `json:"to_all,omitempty"`   // from the whole reference
	Accuracy      *Number `json:"accuracy,omitempty"` // share that a classifier puts into this class
	Sample        *Thumb  `json:"sample,omitempty"`
}

// Thumb is a small picture. PNG is the whole file, best of at most 128 x 128 pixels.
type Thumb struct {
	ID     string `json:"id"`
	Class  string `json:"class,omitempty"` // name or number
	Text   string `json:"text,omitempty"`  // caption
	Width  int    `json:"width"`           // of PNG
	Height int    `json:"height"`
	PNG    []byte `json:"png"`
}

// Pair are a picture and its reference.
type Pair struct {
	Generated Thumb  `json:"generated"`
	Reference Thumb  `json:"reference"`
	Scores    []Fact `json:"scores,omitempty"` // "PSNR", "28.3 dB"
}

// Neighbour is the reference picture nearest to a generated one in feature space.
type Neighbour struct {
	Generated Thumb  `json:"generated"`
	Reference Thumb  `json:"reference"`
	Distance  Number `json:"distance"`
	Copied    bool   `json:"copied,omitempty"` // nearer than the threshold of memorisation
}

// Projection are the first two principal components of the features of both sets. At most 2,000 points of each set are drawn.
type Projection struct {
	Explained [2]Number `json:"explained"` // shares of the variance
	Generated Points    `json:"generated"`
	Reference Points    `json:"reference"`
}

// Points are points of the plane, all lists of one length; Class may be empty.
type Points struct {
	X     []float32 `json:"x"`
	Y     []float32 `json:"y"`
	Class []int64   `json:"class,omitempty"`
}

// Run is an earlier result, as far as history shows it.
type Run struct {
	Name      string  `json:"name"`
	When      string  `json:"when,omitempty"`
	Protocol  string  `json:"protocol"`
	Extractor string  `json:"extractor"` // name and the first digits of the hash
	Generated string  `json:"generated,omitempty"`
	Reference string  `json:"reference"` // path
	Rows      int64   `json:"rows"`      // generated
	Scores    []Score `json:"scores"`
	Differs   string  `json:"differs,omitempty"` // why its scores must not be compared with this result's
}

// FailedRow is a row that took no part.
type FailedRow struct {
	Set    string `json:"set"` // "generated", "reference"
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// Timing is the time of one stage of the run.
type Timing struct {
	Stage   string  `json:"stage"`
	Seconds float64 `json:"seconds"`
	Rows    int64   `json:"rows,omitempty"`
}
