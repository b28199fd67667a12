package plan

// concatOpt lets steps write their results where these belong within the result of a Concat, instead of copying them there.
func concatOpt(l *lowering) error {
	if len(l.options.Gradients) > 0 {
		return nil // gradients read the parts, too
	}
	u := l.users()
	gone := map[*Step]bool{}
	for _, s := range l.plan.Steps {
		if s.Kind != Concat || s.Out.Place != Arena || s.Out.Base != nil || len(s.Out.Shape) != 4 {
			continue
		}
		apart := true
		for _, v := range s.In {
			apart = apart && writesApart(v.producer) && v.Base == nil && v.Place == Arena && sole(u, v) == s
		}
		if !apart {
			continue
		}
		at := 0
		for _, v := range s.In {
			v.Base, v.ColOffset, v.RowStride = s.Out, at, s.Out.Cols()
			at += v.Cols()
		}
		s.Out.producer = s.In[len(s.In)-1].producer
		gone[s] = true
	}
	l.remove(gone)
	return nil
}

// writesApart says that the rows of a step's result may be apart.
func writesApart(s *Step) bool {
	if s == nil || s.Residual != nil || s.GEGLU {
		return false
	}
	switch s.Kind {
	case Conv, Linear, MaxPool, AvgPool3:
		return true
	}
	return false
}
