// Package finding is the one word that iotfleet has for what a check found: in a template, in a row of a data file, in
// an account.
//
//	for _, f := range tmpl.Check(template.Bulk) {
//		fmt.Println(f) // line 9, column 7: /Resources/policy: warning: no policy allows iot:Connect … [policy-no-connect]
//	}
//	if err := tmpl.Check(template.Bulk).Err(); err != nil {
//		return err // the findings that make the template unusable
//	}
//
// A *[Finding] is an error, and its [Rule] is one too, so a caller finds either in whatever wraps them:
//
//	errors.Is(err, datafile.ErrPrivateKey)
//	f, ok := errors.AsType[*finding.Finding](err) // f.Line, f.Parameter, …
package finding

import (
	"fmt"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Rule is the stable name of what was checked, such as "thing-name" or "bucket-region". Programs may store and compare
// it. A Rule is an error, so that errors.Is finds it in whatever wraps a [*Finding].
type Rule string

// Error returns the rule's name.
func (r Rule) Error() string { return string(r) }

// Severity is how much a finding weighs.
type Severity string

// The severities, from the least. What has none counts as an Error.
const (
	OK      Severity = "ok"              // checked and as it should be
	Note    Severity = "note"            // works, worth knowing
	Unknown Severity = "could not check" // reading was denied, or it depends on something that cannot be seen
	Warning Severity = "warning"         // doubtful: not documented, or unlikely to be what was meant
	Error   Severity = "error"           // it will not work
)

// AtLeast reports whether s weighs as much as other, or more.
func (s Severity) AtLeast(other Severity) bool { return s.rank() >= other.rank() }

func (s Severity) rank() int {
	switch s {
	case OK:
		return 0
	case Note:
		return 1
	case Unknown:
		return 2
	case Warning:
		return 3
	}
	return 4
}

// Finding is one thing that a check found. Members that do not apply are zero.
type Finding struct {
	Rule     Rule
	Severity Severity
	// Message is what was found and, unless it is OK, what to do. It holds no private key; long values are cut.
	Message string

	// Parameter is the parameter or CSV column whose value is concerned: the first, when a value is put together from
	// several.
	Parameter string
	// Resource is what was looked at in an account: the name of a thing type, the ARN of a role.
	Resource string
	// Pointer is the JSON pointer to the place in the template; "" is the whole, or none.
	Pointer string

	// Row counts the rows from 1. A CSV header and blank lines are not rows.
	Row int64
	// Line is the line in the text, from 1, blank lines included; 0 if the place in the text is not known. For a row that
	// is written it is the line that the row would have become.
	Line int64
	// Column is the place within the line, from 1: in characters for a template, in bytes for rows. 0 means the line as a
	// whole.
	Column int
	// Offset is the place in the text in bytes, from 0. It has a meaning only if Line is set.
	Offset int64

	// Err is the cause where there is one.
	Err error
}

// Error returns place, message and rule on one line.
func (f *Finding) Error() string { return f.text("") }

// String returns the same as Error with the severity.
func (f Finding) String() string {
	if f.Severity == "" {
		f.Severity = Error
	}
	return f.text(string(f.Severity) + ": ")
}

// longest is how much of a place is written, in bytes: a name in a damaged file can have any length.
const longest = 500

func (f *Finding) text(severity string) string {
	var b strings.Builder
	switch {
	case f.Row > 0 && f.Line > 0 && f.Row != f.Line:
		fmt.Fprintf(&b, "row %d (line %d", f.Row, f.Line)
		if f.Column > 0 {
			fmt.Fprintf(&b, ", column %d", f.Column)
		}
		b.WriteString("): ")
	case f.Line > 0:
		fmt.Fprintf(&b, "line %d", f.Line)
		if f.Column > 0 {
			fmt.Fprintf(&b, ", column %d", f.Column)
		}
		b.WriteString(": ")
	case f.Row > 0:
		fmt.Fprintf(&b, "row %d: ", f.Row)
	}
	if f.Parameter != "" {
		fmt.Fprintf(&b, "parameter %s: ", rule.Quote(f.Parameter))
	}
	if f.Resource != "" {
		start, rest := rule.Cut(f.Resource, longest)
		fmt.Fprintf(&b, "%q%s: ", start, rest)
	}
	if f.Pointer != "" {
		start, rest := rule.Cut(f.Pointer, longest)
		fmt.Fprintf(&b, "%s%s: ", start, rest)
	}
	b.WriteString(severity)
	b.WriteString(f.Message)
	fmt.Fprintf(&b, " [%s]", f.Rule)
	return Visible(b.String())
}

// Visible returns a text that comes from others (an answer of AWS, a row, a file) as one line for a terminal or a log:
// control characters, line breaks among them, are written as \n, \x1b and the like, so that the text can't pass for a line
// of the program. The errors of this module have their texts made visible; a device's message in its result is verbatim.
func Visible(text string) string { return rule.Visible(text) }

// Unwrap returns the rule and the cause, for errors.Is and errors.As.
func (f *Finding) Unwrap() []error {
	if f.Err != nil {
		return []error{f.Rule, f.Err}
	}
	return []error{f.Rule}
}
