package report

// Metric is what people need to read a score.
type Metric struct {
	Key      string
	Lower    bool   // lower is better
	Unit     string // behind the value
	Percent  bool   // shown as a percentage
	Decimals int
	Meaning  string // one sentence: what the number is, and where its ends are
}

// Metrics are the known ones, in the order in which reports show them.
var Metrics = []Metric{
	{Key: "fid", Lower: true, Decimals: 3, Meaning: "Distance between the feature distributions of both sets, by mean and covariance. 0 would be no difference; values compare only within one protocol, extractor, reference and number of rows."},
	{Key: "fd", Lower: true, Decimals: 3, Meaning: "The Fréchet distance of FID in the features of another network. It ranks runs that share this network and says nothing about published FIDs."},
	{Key: "rfid", Lower: true, Decimals: 3, Meaning: "The Fréchet distance between pictures and their reconstructions by the first stage: what no diffusion model on it can get below."},
	{Key: "sfid", Lower: true, Decimals: 3, Meaning: "The Fréchet distance of spatial features: layout counts, where FID sees contents."},
	{Key: "fid_infinity", Lower: true, Decimals: 3, Meaning: "The Fréchet distance extrapolated to infinitely many generated pictures. It may be compared between different numbers of rows."},
	{Key: "class_fid", Lower: true, Decimals: 3, Meaning: "Mean over classes of the Fréchet distance from the same class of the reference. Few rows of a class dominate it."},
	{Key: "kid", Lower: true, Decimals: 5, Meaning: "Kernel distance between the feature distributions, without the bias of few rows. It scatters around 0 for sets of one distribution and may be negative."},
	{Key: "is", Decimals: 3, Meaning: "Inception score: how sure the classifier is of each picture and how varied its answers are. 1 is the worst. It never looks at the reference."},
	{Key: "precision", Decimals: 4, Percent: true, Meaning: "Share of generated pictures that lie among real ones in feature space: fidelity."},
	{Key: "recall", Decimals: 4, Percent: true, Meaning: "Share of real pictures that lie among generated ones in feature space: variety."},
	{Key: "density", Decimals: 4, Meaning: "How thickly real pictures surround generated ones. About 1 where both sets have one distribution; it is not bounded by 1."},
	{Key: "coverage", Decimals: 4, Percent: true, Meaning: "Share of real pictures that have a generated one in their neighbourhood."},
	{Key: "mind", Lower: true, Decimals: 4, Meaning: "Squared distance of both sets along random directions of feature space, averaged."},
	{Key: "memorised", Lower: true, Decimals: 4, Percent: true, Meaning: "Share of generated pictures nearer to a reference picture than reference pictures are to each other. High values mean copies."},
	{Key: "accuracy", Decimals: 4, Percent: true, Meaning: "Share of generated pictures that a classifier puts into the class they were asked for."},
	{Key: "psnr", Unit: "dB", Decimals: 2, Meaning: "Peak signal to noise ratio against the paired reference picture, averaged over pictures."},
	{Key: "ssim", Decimals: 4, Meaning: "Structural similarity to the paired reference picture. 1 is equality."},
	{Key: "msssim", Decimals: 4, Meaning: "Structural similarity over several scales. 1 is equality."},
	{Key: "lpips", Lower: true, Decimals: 4, Meaning: "Perceptual distance to the paired reference picture in the features of a network. 0 is equality."},
}

// MetricOf is the entry for a key. An unknown key gets an entry without a meaning.
func MetricOf(key string) Metric {
	for _, m := range Metrics {
		if m.Key == key {
			return m
		}
	}
	return Metric{Key: key, Decimals: 4}
}
