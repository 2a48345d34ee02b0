package datafile

import (
	"fmt"
	"strings"
)

// Rule names what a row must satisfy. The names are stable: programs may store and compare them. A Rule is an error, so
// errors.Is(err, [ErrLineTooLong]) finds it in whatever wraps a [Problem].
type Rule string

// Error returns the rule's name.
func (r Rule) Error() string { return string(r) }

// The rules of this package. A [Checker] also reports the rules of package template, under template's names.
const (
	// ErrLineTooLong: the line, or the CSV row, is longer than 256 KiB.
	ErrLineTooLong Rule = "line-too-long"
	// ErrInvalidUTF8: a name or value is not UTF-8, or a \u escape is half of a surrogate pair.
	ErrInvalidUTF8 Rule = "invalid-utf-8"
	// ErrNUL: a CSV row holds a NUL byte.
	ErrNUL Rule = "nul-byte"
	// ErrEncoding: the whole input is in an encoding other than UTF-8, most likely UTF-16.
	ErrEncoding Rule = "encoding"

	// ErrValueCount: the row has more or fewer values than there are columns.
	ErrValueCount Rule = "wrong-number-of-values"
	// ErrMissing: the row has no value for a parameter that needs one.
	ErrMissing Rule = "missing-parameter"
	// ErrUnknown: the row has a value for something that is not a parameter.
	ErrUnknown Rule = "unknown-parameter"
	// ErrRepeated: the line gives one parameter twice. Which of the two AWS would take is not documented.
	ErrRepeated Rule = "repeated-parameter"

	// ErrSyntax: the line is not JSON.
	ErrSyntax Rule = "json-syntax"
	// ErrNotObject: the line is JSON, but not an object.
	ErrNotObject Rule = "not-an-object"
	// ErrNested: a value is an object or an array. Parameters are strings.
	ErrNested Rule = "nested-value"
	// ErrNull: a value is null. Leave the parameter out to have the template's default.
	ErrNull Rule = "null-value"
	// ErrNotString: a value is a number or a boolean. A warning: the value is read as its literal text.
	ErrNotString Rule = "not-a-string"

	// ErrQuote: the quotes of a CSV row do not match, or stand where none may.
	ErrQuote Rule = "csv-quote"
	// ErrHeader: the first row of a CSV input does not give every column a name of its own, or lacks one asked for, or
	// holds a carriage return.
	ErrHeader Rule = "csv-header"

	// ErrDuplicateThing: an earlier row has the same thing name.
	ErrDuplicateThing Rule = "duplicate-thing-name"
	// ErrDuplicateKey: an earlier row has the same public key.
	ErrDuplicateKey Rule = "duplicate-public-key"
	// ErrPrivateKey: a value is a PEM private key. It must not leave its keeper; the data file takes the request.
	ErrPrivateKey Rule = "private-key"
	// ErrKey: the row's public key cannot be told, by the function in [CheckerOptions].
	ErrKey Rule = "public-key"

	// ErrColumns: the columns given to [NewWriter], or an option of [FromCSV], make no sense. Not about any row.
	ErrColumns Rule = "columns"
	// ErrClosed: the writer was closed already.
	ErrClosed Rule = "closed"
)

// Problem says what is wrong with one row: where it is, which parameter is concerned, which rule it breaks. Members that
// do not apply are zero.
type Problem struct {
	// Row counts the rows from 1; a CSV header and blank lines are not rows. For a Writer it counts the calls of Write
	// and WriteRow.
	Row int64
	// Line is the line of the text, from 1, blank lines included. For a Writer it is the line that the row would have
	// become.
	Line int64
	// Column is the place within the line, in bytes from 1; 0 when the row as a whole is meant.
	Column int
	// Offset is the place in the input, in bytes from 0, of Line and Column.
	Offset int64
	// Name is the parameter or CSV column.
	Name string
	// Rule is the rule that is broken.
	Rule Rule
	// Detail says what was found and what to do about it. It holds no private key; long values are cut.
	Detail string
	// Warning marks what AWS is known or likely to accept. The row may be used.
	Warning bool
	// Err is the cause where there is one, such as an error of package template.
	Err error
}

// Error names row, line, parameter and rule and gives the detail.
func (p *Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Row > 0 && p.Line > 0 && p.Row != p.Line:
		fmt.Fprintf(&b, "row %d (line %d", p.Row, p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ", column %d", p.Column)
		}
		b.WriteString("): ")
	case p.Line > 0:
		fmt.Fprintf(&b, "line %d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ", column %d", p.Column)
		}
		b.WriteString(": ")
	case p.Row > 0:
		fmt.Fprintf(&b, "row %d: ", p.Row)
	}
	if p.Name != "" {
		fmt.Fprintf(&b, "parameter %s: ", quote(p.Name))
	}
	b.WriteString(p.Detail)
	fmt.Fprintf(&b, " [%s]", p.Rule)
	return b.String()
}

// Unwrap gives the rule and the cause to errors.Is and errors.As.
func (p *Problem) Unwrap() []error {
	if p.Err != nil {
		return []error{p.Rule, p.Err}
	}
	return []error{p.Rule}
}

// Problems is everything that is wrong with one row.
type Problems []*Problem

// Err returns the problems that make the row unusable as one error, or nil when there are only warnings or none.
func (ps Problems) Err() error {
	var bad Problems
	for _, p := range ps {
		if !p.Warning {
			bad = append(bad, p)
		}
	}
	switch len(bad) {
	case 0:
		return nil
	case 1:
		return bad[0]
	}
	return &rowError{bad}
}

// Warnings returns the problems that leave the row usable.
func (ps Problems) Warnings() Problems {
	var out Problems
	for _, p := range ps {
		if p.Warning {
			out = append(out, p)
		}
	}
	return out
}

// rowError is several problems of one row as an error.
type rowError struct{ problems Problems }

func (e *rowError) Error() string {
	var b strings.Builder
	for i, p := range e.problems {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

func (e *rowError) Unwrap() []error {
	out := make([]error, len(e.problems))
	for i, p := range e.problems {
		out[i] = p
	}
	return out
}
