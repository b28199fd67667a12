package spec

import (
	"reflect"
)

// Canonical is everything in the job that the bytes of its output depend on: every value whose type is not marked as
// operational, by key. Paths of inputs and models are left out as well, since their content is identified by hashes.
func (j Job) Canonical() map[string]any {
	m := map[string]any{}
	canonical(reflect.ValueOf(j), "", m)
	return m
}

func canonical(v reflect.Value, path string, m map[string]any) {
	for i := range v.NumField() {
		f, t := v.Field(i), v.Type().Field(i)
		if t.Tag.Get("op") == "true" || t.Tag.Get("path") != "" {
			continue
		}
		p := join(path, t.Tag.Get("yaml"))
		if f.Kind() == reflect.Struct && t.Type != reflect.TypeOf(Extent{}) && t.Type != reflect.TypeOf(Budget{}) {
			canonical(f, p, m)
			continue
		}
		m[p] = f.Interface()
	}
}
