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

// The rules of this package.
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
	// ErrRepeated: the line has one parameter twice. Which of the two AWS would take is not documented.
	ErrRepeated Rule = "repeated-parameter"

	// ErrSyntax: the line is not JSON.
	ErrSyntax Rule = "json-syntax"
	// ErrNotObject: the line is JSON, but not an object.
	ErrNotObject Rule = "not-an-object"
	// ErrNested: a value is an object or an array. Parameters are strings.
	ErrNested Rule = "nested-value"
	// ErrNull: a value is null. Leave the parameter out to have the template's default.
	ErrNull Rule = "null-value"

	// ErrQuote: the quotes of a CSV row do not match, or stand where none may.
	ErrQuote Rule = "csv-quote"
	// ErrHeader: the first row of a CSV input has a column without a name of its own, or lacks one asked for, or
	// holds a carriage return.
	ErrHeader Rule = "csv-header"

	// ErrPrivateKey: a value is a PEM private key. It must not leave its keeper; the data file takes the request.
	ErrPrivateKey Rule = "private-key"

	// ErrColumns: the columns given to [NewWriter], or an option of [ReadCSV], make no sense. Not about any row.
	ErrColumns Rule = "columns"
	// ErrClosed: the writer was closed already.
	ErrClosed Rule = "closed"
)

// Problem is what is wrong with one row: where, with which parameter, against which rule. Members that do not apply are
// zero.
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
	// Detail is what was found and what to do about it. It holds no private key; long values are cut.
	Detail string
}

// Error returns row, line, parameter, detail and rule.
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

// Unwrap returns the rule.
func (p *Problem) Unwrap() error { return p.Rule }
