package eval

import "math"

// PSNR is the peak signal-to-noise ratio in dB, 10 log10(peak^2 / MSE) with one mean squared error over all compared
// values; infinite for equal pictures. The peak is 255, or 65535 for pictures of 16 bits compared by color.
func PSNR(a, b Picture, o Options) (float64, error) {
	e, peak, err := planeErrors(a, b, o)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, v := range e {
		sum += v
	}
	return psnr(sum/float64(len(e)), peak), nil
}

// ChannelPSNR is [PSNR] of every compared plane alone.
func ChannelPSNR(a, b Picture, o Options) ([]float64, error) {
	e, peak, err := planeErrors(a, b, o)
	for i := range e {
		e[i] = psnr(e[i], peak)
	}
	return e, err
}

// MSE is the mean squared error over all compared values.
func MSE(a, b Picture, o Options) (float64, error) {
	return mean(planeErrors(a, b, o))
}

func mean(v []float64, _ float64, err error) (float64, error) {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(max(1, len(v))), err
}

func psnr(mse, peak float64) float64 { return 10 * math.Log10(peak*peak/mse) }

// planeErrors returns the mean squared error of every plane.
func planeErrors(a, b Picture, o Options) ([]float64, float64, error) {
	o, err := o.check()
	if err != nil {
		return nil, 0, err
	}
	ra, rb, peak, err := pair(a, b, o)
	if err != nil {
		return nil, 0, err
	}
	var out []float64
	for c, p := range ra.planes {
		q := rb.planes[c]
		sum := 0.0
		for i, v := range p {
			sum += (v - q[i]) * (v - q[i])
		}
		out = append(out, sum/float64(len(p)))
	}
	return out, peak, nil
}
