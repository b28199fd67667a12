package plan

// zerosOpt removes gradients that are zero. Attention to a single key gives every query the value of that key, whatever the query and
// the key are: the gradients of both are zero, that of the value is a sum over the queries, and what comes of zeros goes too.
func zerosOpt(l *lowering) error {
	zero := map[*Value]bool{} // by root
	var steps []*Step
	emit := func(s *Step) {
		for _, v := range s.outputs() {
			v.producer = s
		}
		steps = append(steps, s)
	}
	for _, s := range l.plan.Steps {
		if s.Kind == AttentionGrad && s.In[1].Shape[1] == 1 && len(s.Out.Shape) == 1 && !zero[s.In[3].Root()] {
			for _, part := range s.Parts {
				v := l.picked(s.Out, part.ColOffset)
				switch {
				case v == nil:
				case part == s.Parts[2]:
					own(v)
					emit(&Step{Kind: PixelSum, Name: s.Name, In: []*Value{s.In[3]}, Out: v})
				default:
					own(v)
					zero[v] = true
				}
			}
			continue
		}
		var operand *Value
		switch s.Kind {
		case Linear, ConvGradInput, ColumnSum, PixelSum, BatchSum, Pad, Slice, Scale, ScaleBy, AvgPool, Upsample, AvgPool3Grad, PixelMeanGrad:
			if s.Kind != Linear || s.Transposed {
				operand = s.In[0]
			}
		case ConvGradWeight, LinearGradWeight, GroupNormGrad, GroupNormGradParams, LayerNormGrad, LayerNormGradParams, SiLUGrad, GELUGrad,
			ReLUGrad, LeakyReLUGrad, GEGLUGrad, ModulateGradX, ModulateGradS, EmbedGrad:
			operand = s.In[1]
		case AttentionGrad:
			operand = s.In[3]
		case Accumulate: // nothing to add
			if zero[s.In[0].Root()] {
				continue
			}
		case Add:
			var rest []*Value
			for _, v := range s.In {
				if !zero[v.Root()] {
					rest = append(rest, v)
				}
			}
			switch len(rest) {
			case 0:
				operand = s.In[0]
			case 1:
				s.Out.Base = rest[0]
				continue
			default:
				s.In = rest
			}
		}
		if operand != nil && zero[operand.Root()] {
			zero[s.Out.Root()] = true
			continue
		}
		for _, v := range s.operands() { // a step that cannot do without
			if r := v.Root(); zero[r] {
				delete(zero, r)
				emit(&Step{Kind: Zero, Name: r.Name, Out: r})
			}
		}
		emit(s)
	}
	l.plan.Steps = steps
	return nil
}

// picked finds the part of a vector from offset on that some step reads.
func (l *lowering) picked(vector *Value, offset int) *Value {
	for _, s := range l.plan.Steps {
		for _, v := range s.operands() {
			for ; v.Base != nil; v = v.Base {
				if v.Base == vector && v.ColOffset == offset {
					return v
				}
			}
		}
	}
	return nil
}

// own gives a view memory of its own.
func own(v *Value) { v.Base, v.ColOffset, v.RowStride = nil, 0, 0 }
