package datafile

import (
	"bytes"
	"fmt"
	"io"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

// csvScanner cuts lines into rows of values. It keeps the lines of the row it is in, so that when a quote turns out to
// be wrong it can go back to the line after the one the row began on: encoding/csv would go on behind the damage, and
// take every row up to the next quote, or the end of the input, with it.
//
// Going back does not make the work quadratic: for an opening quote to swallow lines each of them must have an even
// number of quotes, and such lines, read on their own, do not swallow others.
type csvScanner struct {
	src   lines
	comma byte
	width int  // values in a row; 0 until the header is known
	trim  bool // white space around a value does not count

	text  []byte // of the lines read and not consumed, one after the other
	lines []csvLine
	head  int // the first of lines that is not consumed

	swallowed int64 // the last line that a broken quote has swallowed
	row       csvRow
}

// csvLine is a line on hold.
type csvLine struct {
	start, end int // in text
	number     int64
	offset     int64
	tooLong    bool
}

// csvRow is a row as found. It is valid until the next one is asked for.
type csvRow struct {
	line   int64
	offset int64
	text   []byte // the values, one after the other
	shared string // the same as a string, once it is known to be wanted
	ends   []int  // where each value ends in text
	places []place
	fault  *csvFault
}

// csvFault is what is wrong with a row.
type csvFault struct {
	line   csvLine
	at     int // byte in the line
	field  int // -1: the row as a whole
	rule   finding.Rule
	detail string
}

// value returns the i-th value.
func (r *csvRow) value(i int) string {
	if r.shared == "" {
		r.shared = string(r.text)
	}
	start := 0
	if i > 0 {
		start = r.ends[i-1]
	}
	return r.shared[start:r.ends[i]]
}

// next returns the next row. The error is io.EOF at the end; any other is terminal.
func (s *csvScanner) next() (*csvRow, error) {
	for {
		first, err := s.line(0)
		if err != nil {
			return nil, err
		}
		if first.start == first.end {
			s.consume(1)
			continue
		}
		r := &s.row
		*r = csvRow{line: first.number, offset: first.offset, text: r.text[:0], ends: r.ends[:0], places: r.places[:0]}
		n, err := s.parse(r)
		if err != nil {
			return nil, err
		}
		if r.fault != nil && n > 1 {
			s.swallowed = s.lines[s.head+n-1].number
			n = 1
		} else if r.fault == nil {
			s.examine(r, n)
		}
		s.consume(n)
		return r, nil
	}
}

// parse takes a row apart that begins on line 0 and returns the number of lines it looked at.
func (s *csvScanner) parse(r *csvRow) (lines int, err error) {
	k, i := 0, 0
	line, err := s.line(0)
	if err != nil {
		return 0, err
	}
	b := s.bytes(line)
	size := len(b)
	fault := func(line csvLine, at int, rule finding.Rule, format string, args ...any) {
		r.fault = &csvFault{line, at, len(r.places) - 1, rule, fmt.Sprintf(format, args...)}
	}
	if at := s.carriageReturn(b); at >= 0 {
		fault(line, at, ErrHeader, inHeader)
		return 1, nil
	}
	if line.tooLong {
		fault(line, 0, ErrLineTooLong, "the row is longer than %d bytes, the most AWS takes in one line of a data file", MaxLine)
		field, size := s.longest(b)
		if r.fault.field = field; size < MaxLine/2 {
			r.fault.field = -1
		}
		return 1, nil
	}
	for {
		r.places = append(r.places, place{line.number, i + 1, line.offset + int64(i)})
		if i == len(b) || b[i] != '"' {
			value := b[i:]
			j := bytes.IndexByte(value, s.comma)
			if j >= 0 {
				value = value[:j]
			}
			if q := bytes.IndexByte(value, '"'); q >= 0 {
				fault(line, i+q, ErrQuote,
					"a quote inside a value that does not begin with one; put the whole value in quotes and double those inside")
				return k + 1, nil
			}
			r.text = append(r.text, value...)
			r.ends = append(r.ends, len(r.text))
			if j < 0 {
				return k + 1, nil
			}
			i += j + 1
			continue
		}
		open, openAt := line, i
		i++
		for {
			j := bytes.IndexByte(b[i:], '"')
			if j >= 0 {
				r.text = append(r.text, b[i:i+j]...)
				i += j + 1
				if i < len(b) && b[i] == '"' {
					r.text = append(r.text, '"')
					i++
					continue
				}
				break
			}
			r.text = append(append(r.text, b[i:]...), '\n')
			next, err := s.line(k + 1)
			switch {
			case err == io.EOF:
				fault(open, openAt, ErrQuote, "this quote is not closed before the input ends")
				return k + 1, nil
			case err != nil:
				return 0, err
			}
			k, line, b, i = k+1, next, s.bytes(next), 0
			if at := s.carriageReturn(b); at >= 0 {
				fault(line, at, ErrHeader, inHeader)
				return k + 1, nil
			}
			// A line break takes two bytes of a line of JSON.
			if size += 2 + len(b); size > MaxLine || line.tooLong {
				fault(open, openAt, ErrQuote, "this quote is not closed within %d bytes, the most AWS takes in one line of a data file",
					MaxLine)
				return k + 1, nil
			}
		}
		r.ends = append(r.ends, len(r.text))
		if i == len(b) {
			return k + 1, nil
		}
		if b[i] != s.comma {
			fault(line, i-1, ErrQuote,
				"this quote closes the value, but more text follows; double the quotes that belong to the value")
			if k > 0 {
				r.fault.detail += fmt.Sprintf(" (the value begins on line %d, column %d)", open.number, openAt+1)
			}
			return k + 1, nil
		}
		i++
	}
}

// longest returns which value of a line that is too long takes the most of it, and how many bytes.
func (s *csvScanner) longest(b []byte) (field, size int) {
	start, n, quoted := 0, 0, false
	for i := 0; i <= len(b); i++ {
		if i < len(b) && b[i] == '"' {
			quoted = !quoted
		}
		if i == len(b) || b[i] == s.comma && !quoted {
			if i-start > size {
				field, size = n, i-start
			}
			start, n = i+1, n+1
		}
	}
	return field, size
}

const inHeader = "the header has a carriage return in it, as when each line ends in one alone (old Macintosh programs); " +
	"save the file as \"CSV UTF-8\", or convert it with tr '\\r' '\\n'"

// carriageReturn finds one in a line of the header; -1 if there is none. Let through, every device could become part of
// the header, and the input one without a row.
func (s *csvScanner) carriageReturn(line []byte) int {
	if s.width > 0 {
		return -1
	}
	return bytes.IndexByte(line, '\r')
}

// examine looks for what makes a row with sound quotes unusable.
func (s *csvScanner) examine(r *csvRow, n int) {
	if s.blank(r) {
		return // of whatever width
	}
	lines := s.lines[s.head : s.head+n]
	for _, line := range lines {
		b := s.bytes(line)
		at, rule, detail := bytes.IndexByte(b, 0), ErrNUL, "a NUL byte; is the file damaged, or UTF-16?"
		if at < 0 {
			at, rule, detail = jsonline.InvalidUTF8(b), ErrInvalidUTF8, "this byte is not UTF-8; convert the file to UTF-8"
		}
		if at >= 0 {
			r.fault = &csvFault{line, at, r.fieldAt(line.number, at+1), rule, detail}
			return
		}
	}
	if s.width > 0 && len(r.ends) != s.width {
		hint := ""
		if len(r.ends) > s.width {
			hint = "; a value with a separator in it must be in quotes"
		}
		if n > 1 {
			hint += fmt.Sprintf("; a quoted value takes it on to line %d, so if a quote is there by mistake, the lines up to that one are in this row",
				lines[n-1].number)
		}
		r.fault = &csvFault{lines[0], 0, -1, ErrValueCount,
			fmt.Sprintf("the row has %d values for %d columns%s", len(r.ends), s.width, hint)}
		return
	}
	if s.width == 1 && lines[0].number <= s.swallowed {
		r.fault = &csvFault{lines[0], 0, 0, ErrQuote,
			"an earlier quote that is never closed leaves open whether this is a row or a piece of one; mend that quote"}
	}
}

// blank reports whether a row holds nothing but empty values.
func (s *csvScanner) blank(r *csvRow) bool {
	return len(r.text) == 0 || s.trim && len(bytes.TrimSpace(r.text)) == 0
}

// fieldAt returns the field that a place in the row belongs to.
func (r *csvRow) fieldAt(line int64, column int) int {
	field := 0
	for i, p := range r.places {
		if p.line < line || p.line == line && p.column <= column {
			field = i
		}
	}
	return field
}

// line returns the k-th line that is not consumed, and reads it if need be.
func (s *csvScanner) line(k int) (csvLine, error) {
	for len(s.lines) <= s.head+k {
		line, err := s.src.next()
		if err != nil {
			return csvLine{}, err
		}
		start := len(s.text)
		s.text = append(s.text, line.Text...)
		s.lines = append(s.lines, csvLine{start, len(s.text), line.Number, line.Offset, line.TooLong()})
	}
	return s.lines[s.head+k], nil
}

func (s *csvScanner) bytes(l csvLine) []byte { return s.text[l.start:l.end] }

// consume lets go of n lines and, now and then, of their memory.
func (s *csvScanner) consume(n int) {
	s.head += n
	if s.head == len(s.lines) {
		s.head, s.lines, s.text = 0, s.lines[:0], s.text[:0]
		return
	}
	if gone := s.lines[s.head].start; gone > MaxLine || s.head > MaxLine {
		s.text = append(s.text[:0], s.text[gone:]...)
		s.lines = append(s.lines[:0], s.lines[s.head:]...)
		for i := range s.lines {
			s.lines[i].start -= gone
			s.lines[i].end -= gone
		}
		s.head = 0
	}
}
