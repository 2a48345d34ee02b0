package template

import (
	"fmt"
	"strings"
)

// Severity says how much an issue weighs.
type Severity int

// The severities.
const (
	Note    Severity = iota // works, worth knowing
	Warning                 // doubtful: not documented, or unlikely to be what was meant
	Error                   // AWS refuses it, or the device will not work
)

// String returns "note", "warning" or "error".
func (s Severity) String() string {
	switch s {
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return "note"
}

// Issue is one thing [Template.Check] found.
type Issue struct {
	Rule     string // the stable name of the rule, one of [Rules]
	Severity Severity
	Pointer  string // JSON pointer into the template; "" is the whole
	Offset   int    // byte offset in the text that was parsed; -1 when it did not come from there
	Line     int    // line of Offset, from 1; 0 when Offset is -1
	Column   int    // column of Offset in characters, from 1; 0 when Offset is -1
	Message  string // what is wrong and what to do
}

// String gives place, severity, message and rule on one line.
func (i Issue) String() string {
	at := i.Pointer
	if at == "" {
		at = "/"
	}
	if i.Line > 0 {
		at = fmt.Sprintf("%d:%d: %s", i.Line, i.Column, at)
	}
	return fmt.Sprintf("%s: %s: %s [%s]", at, i.Severity, i.Message, i.Rule)
}

// Issues are what Check found, in the order of the template's parts.
type Issues []Issue

// Err returns nil when no issue is an [Error], else an [*IssuesError] with those that are.
func (is Issues) Err() error {
	var bad Issues
	for _, i := range is {
		if i.Severity == Error {
			bad = append(bad, i)
		}
	}
	if bad == nil {
		return nil
	}
	return &IssuesError{bad}
}

// String lists the issues one a line.
func (is Issues) String() string {
	lines := make([]string, len(is))
	for n, i := range is {
		lines[n] = i.String()
	}
	return strings.Join(lines, "\n")
}

// IssuesError says that a template cannot work.
type IssuesError struct {
	Issues Issues // at least one, all of severity Error
}

// Error lists the issues.
func (e *IssuesError) Error() string {
	if len(e.Issues) == 1 {
		return "template: " + e.Issues[0].String()
	}
	return fmt.Sprintf("template: %d errors:\n%s", len(e.Issues), e.Issues)
}
