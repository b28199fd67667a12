package weights

import "fmt"

// Map is tensors by name, from which executors take weights: it implements plan.WeightSource.
type Map map[string]*Tensor

// Load converts a tensor to float32, row-major in its stored shape, into dst.
func (m Map) Load(name string, dst []float32) error {
	t, ok := m[name]
	if !ok {
		return fmt.Errorf("no weight %s in the model", name)
	}
	return t.Float32(dst)
}

// View returns a tensor's values without a copy where its storage allows it; see [Tensor.View].
func (m Map) View(name string) ([]float32, bool) {
	t, ok := m[name]
	if !ok {
		return nil, false
	}
	return t.View()
}

// Release says that a tensor will not be read soon; see [Tensor.Release].
func (m Map) Release(name string) {
	if t, ok := m[name]; ok {
		t.Release()
	}
}

// Prefixed is the same tensors under names with a prefix.
func (m Map) Prefixed(prefix string) Map {
	p := make(Map, len(m))
	for name, t := range m {
		p[prefix+name] = t.Renamed(prefix + name)
	}
	return p
}
