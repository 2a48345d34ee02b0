package datafile

import "github.com/seed1ff6f450/iotfleet/finding"

// What a row must satisfy. A row that breaks one has a [*finding.Finding] with it as Rule, and errors.Is finds it in
// whatever wraps that.
const (
	// ErrLineTooLong: the line, or the CSV row, is longer than 256 KiB.
	ErrLineTooLong finding.Rule = "line-too-long"
	// ErrInvalidUTF8: a name or value is not UTF-8, or a \u escape is half of a surrogate pair.
	ErrInvalidUTF8 finding.Rule = "invalid-utf-8"
	// ErrNUL: a CSV row holds a NUL byte.
	ErrNUL finding.Rule = "nul-byte"
	// ErrEncoding: the whole input is in an encoding other than UTF-8, most likely UTF-16.
	ErrEncoding finding.Rule = "encoding"

	// ErrValueCount: the row has more or fewer values than there are columns.
	ErrValueCount finding.Rule = "wrong-number-of-values"
	// ErrMissing: the row has no value for a parameter that needs one.
	ErrMissing finding.Rule = "missing-parameter"
	// ErrUnknown: the row has a value for something that is not a parameter.
	ErrUnknown finding.Rule = "unknown-parameter"
	// ErrRepeated: the line has one parameter twice. Which of the two AWS would take is not documented.
	ErrRepeated finding.Rule = "repeated-parameter"

	// ErrSyntax: the line is not JSON.
	ErrSyntax finding.Rule = "json-syntax"
	// ErrNotObject: the line is JSON, but not an object.
	ErrNotObject finding.Rule = "not-an-object"
	// ErrNested: a value is an object or an array. Parameters are strings.
	ErrNested finding.Rule = "nested-value"
	// ErrNull: a value is null. Leave the parameter out to have the template's default.
	ErrNull finding.Rule = "null-value"

	// ErrQuote: the quotes of a CSV row do not match, or stand where none may.
	ErrQuote finding.Rule = "csv-quote"
	// ErrHeader: the first row of a CSV input has a column without a name of its own, or lacks one asked for, or
	// holds a carriage return.
	ErrHeader finding.Rule = "csv-header"

	// ErrSeparator: the header of a CSV input is a single column with semicolons or tabs in it, which most likely separate
	// the columns. Parameter is that header.
	ErrSeparator finding.Rule = "csv-separator"

	// ErrPrivateKey: a value is a PEM private key. It must not leave its keeper; the data file takes the request.
	ErrPrivateKey finding.Rule = "private-key"

	// ErrColumns: the columns given to [NewWriter], or an option of [ReadCSV], make no sense. Not about any row.
	ErrColumns finding.Rule = "columns"
	// ErrClosed: the writer was closed already.
	ErrClosed finding.Rule = "closed"
)
