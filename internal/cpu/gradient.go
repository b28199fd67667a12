package cpu

import (
	"github.com/ldm-batch/ldm-batch/internal/plan"
)

// compileGradient turns a step of a gradient into a call. in are the slices of its operands.
func (x *Executable) compileGradient(s *plan.Step, in [][]float32, out []float32) (func() error, error) {
	p := x.model.backend.pool
	rows, c := s.Out.Rows(), s.Out.Cols()
	switch s.Kind {
	case plan.ConvGradInput:
		shape := convShapeOf(s, s.Out, s.In[0])
		w, err := x.model.packConv(s, shape)
		if err != nil {
			return nil, err
		}
		x.depends(w)
		return do(func() { p.ConvGradInput(shape, w, in[0], out) }), nil
	case plan.ConvGradWeight:
		shape := convShapeOf(s, s.In[0], s.In[1])
		return do(func() { p.ConvGradWeight(shape, in[0], in[1], out) }), nil
	case plan.LinearGradWeight:
		a, b := s.In[0], s.In[1]
		rows := a.Rows()
		return do(func() { p.LinearGradWeight(rows, a.Cols(), b.Cols(), a.Stride(), b.Stride(), in[0], in[1], out) }), nil
	case plan.ColumnSum:
		v := s.In[0]
		return do(func() { p.ColumnSum(v.Rows(), v.Cols(), v.Stride(), in[0], out) }), nil
	case plan.PixelSum:
		v := s.In[0]
		n := v.Shape[0]
		return do(func() { p.PixelSum(n, v.Rows()/n, v.Cols(), in[0], out) }), nil
	case plan.BatchSum:
		n := s.In[0].Shape[0]
		return do(func() { p.BatchSum(n, rows, c, in[0], out) }), nil
	case plan.GroupNormGrad, plan.GroupNormGradParams:
		return x.groupNormGrad(s, in, out)
	case plan.LayerNormGrad, plan.LayerNormGradParams:
		v := s.In[0]
		rows, c := v.Rows(), v.Cols()
		dx, dgamma, dbeta := x.normOutputs(s, c, out)
		var gamma []float32
		if dx != nil {
			ws, err := x.vectors(s.Weights)
			if err != nil {
				return nil, err
			}
			gamma = ws[0]
		}
		return do(func() { p.LayerNormGrad(rows, c, s.Eps, in[0], gamma, in[1], dx, dgamma, dbeta) }), nil
	case plan.AttentionGrad:
		shape := attentionShape(s, s.In[3])
		dq, dk, dv := x.slice(s.Parts[0]), x.slice(s.Parts[1]), x.slice(s.Parts[2])
		return do(func() { p.AttentionGrad(shape, in[0], in[1], in[2], in[3], dq, dk, dv) }), nil
	case plan.GEGLUGrad:
		v := s.In[1]
		return do(func() { p.GEGLUGrad(v.Rows(), v.Cols(), in[0], in[1], out) }), nil
	case plan.ModulateGradX:
		n, h, w, c, _ := image(s.Out)
		return do(func() { p.ModulateGradX(n, h*w, c, in[0], s.In[0].Stride(), in[1], out) }), nil
	case plan.ModulateGradS:
		n, h, w, c, _ := image(s.In[0])
		return do(func() { p.ModulateGradS(n, h*w, c, in[0], in[1], out) }), nil
	case plan.Pad:
		n := s.In[0].Cols()
		return do(func() { p.PadColumns(rows, s.From, n, c, in[0], out) }), nil
	case plan.MaxPoolGrad:
		shape := windowShapeOf(s, s.Out, s.In[1])
		return do(func() { p.MaxPoolGrad(shape, in[0], in[1], out) }), nil
	case plan.AvgPool3Grad:
		shape := windowShapeOf(s, s.Out, s.In[0])
		return do(func() { p.AvgPoolGrad(shape, in[0], out) }), nil
	case plan.PixelMeanGrad:
		n, h, w, c, _ := image(s.Out)
		return do(func() { p.PixelMeanGrad(n, h*w, c, in[0], out) }), nil
	case plan.EmbedGrad:
		ids := s.In[0].Elems()
		return func() error {
			clear(out)
			return p.EmbedGrad(in[0][:ids], c, in[1], out)
		}, nil
	case plan.GaussianSampleGrad:
		return do(func() { p.GaussianSampleGrad(rows, c/2, in[0], in[1], in[2], out) }), nil
	}
	return x.compileLoss(s, in, out)
}

// normOutputs cuts the outputs of the gradient of a normalisation of c channels; those that the step does not have are nil.
func (x *Executable) normOutputs(s *plan.Step, c int, out []float32) (dx, dgamma, dbeta []float32) {
	params := x.slice(s.Affine)
	switch s.Kind {
	case plan.GroupNormGradParams, plan.LayerNormGradParams:
		params = out
	default:
		dx = out
	}
	if params != nil {
		dgamma, dbeta = params[:c], params[c:2*c]
	}
	return dx, dgamma, dbeta
}

func (x *Executable) groupNormGrad(s *plan.Step, in [][]float32, out []float32) (func() error, error) {
	p := x.model.backend.pool
	shape := normShape(s)
	dx, dgamma, dbeta := x.normOutputs(s, shape.C, out)
	ws, err := x.vectors(s.Weights)
	if err != nil {
		return nil, err
	}
	var gamma, beta []float32
	if len(ws) > 0 {
		gamma = ws[0]
	}
	if len(ws) > 1 {
		beta = ws[1]
	}
	return do(func() { p.GroupNormGrad(shape, in[0], gamma, beta, in[1], dx, dgamma, dbeta) }), nil
}
