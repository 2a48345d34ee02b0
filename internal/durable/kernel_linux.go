package durable

import (
	"strconv"
	"strings"
)

// atLeast compares the release of a kernel, such as 6.1.0-13-amd64, with a version.
func atLeast(release string, major, minor int) bool {
	first, rest, _ := strings.Cut(release, ".")
	a, err := strconv.Atoi(first)
	if err != nil || a != major {
		return err == nil && a > major
	}
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		rest = rest[:i]
	}
	b, err := strconv.Atoi(rest)
	return err == nil && b >= minor
}
