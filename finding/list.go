package finding

import (
	"fmt"
	"strings"
)

// List is what a check found, in the order of what was checked. The zero value is that of a check that found nothing.
type List []Finding

// AtLeast returns the findings that weigh as much as a severity, or more.
func (l List) AtLeast(s Severity) List {
	var out List
	for _, f := range l {
		if f.Severity.AtLeast(s) {
			out = append(out, f)
		}
	}
	return out
}

// Err returns nil when nothing in the list is an [Error], else an error with those that are: errors.As finds each as a
// [*Finding], errors.Is its rule.
func (l List) Err() error {
	switch bad := l.AtLeast(Error); len(bad) {
	case 0:
		return nil
	case 1:
		return &bad[0]
	default:
		return listError(bad)
	}
}

// String returns the findings one a line.
func (l List) String() string {
	lines := make([]string, len(l))
	for i, f := range l {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// listError is several findings as one error.
type listError List

func (l listError) Error() string {
	lines := make([]string, len(l))
	for i := range l {
		lines[i] = l[i].Error()
	}
	return fmt.Sprintf("%d errors:\n%s", len(l), strings.Join(lines, "\n"))
}

func (l listError) Unwrap() []error {
	out := make([]error, len(l))
	for i := range l {
		out[i] = &l[i]
	}
	return out
}
