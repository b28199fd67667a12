package sample

import (
	"fmt"

	"github.com/ldm-batch/ldm-batch/internal/engine"
	"github.com/ldm-batch/ldm-batch/internal/exitcode"
	"github.com/ldm-batch/ldm-batch/internal/nn"
)

// ClassCount is the number of classes that a model can be asked for, null class included, and whether it has classes.
func ClassCount(m *nn.Model) (int, bool) {
	switch {
	case m.Conditioner != nil && m.Conditioner.Config.Kind == nn.ClassEmbedder:
		return m.Conditioner.Config.NClasses, true
	case m.UNet != nil && m.UNet.Config.NumClasses > 0:
		return m.UNet.Config.NumClasses, true
	}
	return 0, false
}

// NullClass is the class that stands for no condition: the last one of a class embedder, as the released class-conditional
// model was trained (class 1000 of 1001).
func NullClass(m *nn.Model) (int64, bool) {
	n, ok := ClassCount(m)
	return int64(n - 1), ok
}

// ClassCondition is the condition for class labels (reference: ClassEmbedder, one token for each sample; or num_classes of
// the U-Net).
func ClassCondition(s *engine.Session, labels []int64) (Condition, error) {
	m := s.Model
	count, ok := ClassCount(m)
	if !ok {
		return Condition{}, exitcode.Errorf(exitcode.Usage, "%s: the model is not conditioned on classes", m.Config.Path)
	}
	ids := make([]float32, len(labels))
	for i, l := range labels {
		if l < 0 || l >= int64(count) {
			return Condition{}, fmt.Errorf("class %d is not in 0..%d", l, count-1)
		}
		ids[i] = float32(l)
	}
	if m.Conditioner == nil || m.Conditioner.Config.Kind != nn.ClassEmbedder {
		return Condition{Y: ids}, nil
	}
	net, err := s.Conditioner(len(labels), 1, 1)
	if err != nil {
		return Condition{}, err
	}
	out, err := net.Run(map[string][]float32{"class_label": ids})
	if err != nil {
		return Condition{}, err
	}
	return Condition{Context: append([]float32(nil), out[0]...), Tokens: 1}, nil
}
