package datafile

import (
	"io"
	"iter"
)

// Line is one line of a data file.
type Line struct {
	// Number counts the lines from 1, blank lines included, as an editor does. It is what a task's report calls
	// lineNumber, so long as the file has no blank lines; a Writer writes none.
	Number int64
	// Offset is the place of the line's first byte in the file, in bytes from 0.
	Offset int64
	// Row is the line's content, parameter to value; nil when Err is set. The map is the caller's.
	Row map[string]string
	// Raw is the line as it stands, without its newline and without a byte order mark. It is valid only until the next
	// line is read: clone it to keep it. Of a line that is too long it is the first 256 KiB.
	Raw []byte
	// NotStrings names the parameters whose values are numbers or booleans rather than strings. Row holds their literal
	// text: 7.50 is "7.50". AWS has been seen to accept a number where the template says String; it is not documented.
	NotStrings []string
	// Problems is what [Checker.Lines] found, warnings included.
	Problems Problems
	// Err is why the line cannot be used, a [*Problem]; after [Checker.Lines] it can be several. Reading goes on.
	Err error
}

// Reader reads a data file line by line. It takes what people's own scripts write: a byte order mark, CRLF, blank lines
// (skipped), a last line without newline, white space between the parts of a line, numbers and booleans as values.
//
// It refuses, in the Err of that line alone, what has no one meaning: a line that is not one JSON object, nested
// values, null, one parameter given twice, text that is not UTF-8, more than 256 KiB.
//
// A Reader holds one line at a time. It is not safe for concurrent use.
type Reader struct {
	lines  *lineSource
	parser lineParser
	row    int64
}

// NewReader returns a Reader of r. It reads ahead.
func NewReader(r io.Reader) *Reader {
	return &Reader{lines: newLineSource(r)}
}

// All returns the lines in order. It is single-use and goes on where [Reader.Read] stopped. The error, if there is one,
// comes last, with a zero Line: the input could not be read any further, or is not UTF-8 at all ([ErrEncoding]).
func (r *Reader) All() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for {
			line, err := r.Read()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Line{}, err)
				return
			}
			if !yield(line, nil) {
				return
			}
		}
	}
}

// Read returns the next line that is not blank. Its error is io.EOF at the end of the input; any other, too, is final.
// What is wrong with the line itself is in the line's Err.
func (r *Reader) Read() (Line, error) {
	for {
		text, tooLong, err := r.lines.next()
		if err != nil {
			return Line{}, err
		}
		if !tooLong && isBlank(text) {
			continue
		}
		r.row++
		line := Line{Number: r.lines.number, Offset: r.lines.offset, Raw: text}
		var fault *fault
		if tooLong {
			line.Raw = text[:MaxLine]
			fault = faultAt(0, "", ErrLineTooLong, "the line is longer than %d bytes, the most AWS takes in one line", MaxLine)
		} else {
			line.Row, line.NotStrings, fault = r.parser.parse(text)
		}
		if fault != nil {
			line.Row, line.NotStrings = nil, nil
			p := &Problem{
				Row: r.row, Line: line.Number, Column: fault.at + 1, Offset: line.Offset + int64(fault.at),
				Name: fault.name, Rule: fault.rule, Detail: fault.detail,
			}
			line.Err = p
		}
		return line, nil
	}
}

func isBlank(line []byte) bool {
	for _, c := range line {
		if !isSpace(c) {
			return false
		}
	}
	return true
}
