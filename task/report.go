package task

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Result is one line of a RESULTS report: a line of the data file that was registered.
type Result struct {
	Line           int64           // 1-based number of the line in the data file; 0 if the report has none
	CertificatePEM string          // the certificate, as the service wrote it; empty when the template makes none
	ARNs           ARNs            // what was registered, by logical name
	Raw            json.RawMessage // the whole line, members this package does not know included; at most 1 MiB
	// Malformed is not nil when the line is not what a report should hold. What could be read of it is in the other
	// members all the same; Raw need not be JSON then.
	Malformed *FormatError
}

// LineError is one line of an ERRORS report: a line of the data file that was refused. It is the error of that line's
// device, and matches the Err sentinel of its Code.
type LineError struct {
	Line    int64           // 1-based number of the line in the data file; 0 if the report has none
	Message string          // the service's text, verbatim
	Code    string          // the service's error code; AWS mostly sends none
	Raw     json.RawMessage // the whole line, members this package does not know included; at most 1 MiB
	// Malformed is not nil when the line is not what a report should hold. What could be read of it is in the other
	// members all the same; Raw need not be JSON then.
	Malformed *FormatError
}

// Error returns line, code and message, so that a LineError can be returned as the error of its device.
func (e *LineError) Error() string {
	text := e.Message
	switch {
	case text == "" && e.Malformed != nil:
		text = e.Malformed.Error()
	case e.Code != "" && text != "":
		text = e.Code + ": " + text
	case e.Code != "":
		text = e.Code
	case text == "":
		text = "refused without a message"
	}
	if text = rule.Visible(text); e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, text)
	}
	return text
}

// Unwrap returns the Err sentinel of the line's code and the fault of a malformed line, where there are any.
func (e *LineError) Unwrap() []error {
	var out []error
	if kind := KindOfCode(e.Code); kind != nil {
		out = append(out, kind)
	}
	if e.Malformed != nil {
		out = append(out, e.Malformed)
	}
	return out
}

// FormatError is where a line of a report differs from what a report should hold. It concerns one line only.
type FormatError struct {
	File    int    // 1-based number of the report file, 0 when a single reader is read
	Line    int64  // 1-based number of the line in the report file (not in the data file)
	Offset  int64  // byte offset of the fault in the report file
	Problem string // what is wrong
	Syntax  bool   // true when the line is not a JSON object at all; false when a member has an unexpected value
}

// Error returns the place and the problem.
func (e *FormatError) Error() string {
	if e.File > 0 {
		return fmt.Sprintf("report file %d, line %d (byte %d): %s", e.File, e.Line, e.Offset, e.Problem)
	}
	return fmt.Sprintf("report line %d (byte %d): %s", e.Line, e.Offset, e.Problem)
}

// ReadResults reads a RESULTS report that was saved to a file: one JSON object a line, read as [Task.Results] reads
// them, without a task to compare counts with. The error is that of r.
//
// The reader takes both spellings seen at AWS (`CertificatePem` in reports, `certificatePem` as RegisterThing writes
// it), inside `response` or outside, a byte order mark, CRLF and blank lines. A line that is not JSON, or longer than 1
// MiB, is an item with Malformed set; reading goes on behind it. Memory is bounded by the longest line. The iterator
// reads r once.
func ReadResults(r io.Reader) iter.Seq2[*Result, error] {
	return readReport(r, parseResult)
}

// ReadErrors reads an ERRORS report that was saved to a file, as [ReadResults] does.
func ReadErrors(r io.Reader) iter.Seq2[*LineError, error] {
	return readReport(r, parseLineError)
}

func readReport[T any](r io.Reader, parse parser[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		lines := jsonline.NewLines(r, maxReportLine)
		if _, err := parseLines(lines, 0, parse, yield); err != nil {
			var none T
			yield(none, fmt.Errorf("read report after line %d (byte %d): %w", lines.Number(), lines.End(), err))
		}
	}
}

// parser makes an item of one line of a file; file is 0 when there is only one.
type parser[T any] func(line jsonline.Line, file int) T

// parseLines yields every line of one file that is not blank. It returns false when the consumer has broken off.
func parseLines[T any](lines *jsonline.Lines, file int, parse parser[T], yield func(T, error) bool) (bool, error) {
	for {
		line, err := lines.Next()
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return true, err
		}
		if !line.Blank() && !yield(parse(line, file), nil) {
			return false, nil
		}
	}
}

func parseResult(line jsonline.Line, file int) *Result {
	var l reportLine
	l.read(line, file)
	out := &Result{
		Line: l.number(), CertificatePEM: l.certificate(), ARNs: l.resources(), Raw: bytes.Clone(line.Text),
	}
	if out.CertificatePEM == "" && len(out.ARNs) == 0 {
		l.complain(0, "the line holds neither a certificate nor ARNs")
	}
	out.Malformed = l.fault
	return out
}

func parseLineError(line jsonline.Line, file int) *LineError {
	var l reportLine
	l.read(line, file)
	out := &LineError{
		Line: l.number(), Message: l.text(l.errorMessage, "errorMessage"), Code: l.text(l.errorCode, "errorCode"),
		Raw: bytes.Clone(line.Text),
	}
	if out.Message == "" && out.Code == "" {
		l.complain(0, "the line holds neither errorMessage nor errorCode")
	}
	out.Malformed = l.fault
	return out
}
