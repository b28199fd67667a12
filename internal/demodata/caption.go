package demodata

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// caption says what is to be seen, in one of several ways.
func caption(r *rand.Rand, b *backdrop, poses []*pose) string {
	var list []string
	for _, t := range poses {
		list = append(list, t.words())
	}
	what := list[0]
	if n := len(list); n > 1 {
		what = strings.Join(list[:n-1], ", ") + " and " + list[n-1]
	}
	where := poses[0].where()
	ground := fmt.Sprintf("%s background", b.wall.name)
	if b.pattern.name != "plain" {
		ground = b.pattern.name + " " + ground
	}
	switch {
	case len(poses) > 1:
		return fmt.Sprintf("%s on %s", what, withArticle(ground))
	case r.IntN(4) == 0:
		return what
	case r.IntN(3) == 0:
		return fmt.Sprintf("%s on %s", what, withArticle(ground))
	case r.IntN(2) == 0:
		return fmt.Sprintf("%s %s", what, where)
	}
	return fmt.Sprintf("%s %s on %s", what, where, withArticle(ground))
}

// words name a thing with size and colour.
func (t *pose) words() string {
	name := things[t.class].name
	switch name {
	case "stripes", "checks":
		second := "white"
		if t.second[0] < 0.5 {
			second = "black"
		}
		return fmt.Sprintf("%s and %s %s", t.paint.name, second, name)
	case "three", "seven":
		name = "digit " + name
	}
	size := ""
	if s := t.size * things[t.class].reach; s < 0.28 {
		size = "small "
	} else if s > 0.36 {
		size = "large "
	}
	return withArticle(size + t.paint.name + " " + name)
}

// where names one of nine parts of the picture.
func (t *pose) where() string {
	third := func(v float64, low, high string) string {
		switch {
		case v < 0.42:
			return low
		case v > 0.58:
			return high
		}
		return ""
	}
	switch v, h := third(t.y, "top", "bottom"), third(t.x, "left", "right"); {
	case v == "" && h == "":
		return "in the middle"
	case v == "":
		return "on the " + h
	case h == "":
		return "at the " + v
	default:
		return "at the " + v + " " + h
	}
}

func withArticle(s string) string {
	if strings.ContainsRune("aeiou", rune(s[0])) {
		return "an " + s
	}
	return "a " + s
}
