package datafile

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/seed1ff6f450/iotfleet/finding"
)

// CSVOptions describes a CSV list. The zero value reads comma-separated columns, all of them, as they stand.
type CSVOptions struct {
	// Comma separates the columns: ',' ';' '\t' or another ASCII character that is not a quote or a line ending. 0 means
	// ',', and then a header that is one column with semicolons or tabs in it is refused with a hint.
	Comma rune
	// Rename maps a column's name in the header to the parameter it is for: {"Serial No.": "SerialNumber"}. A name that
	// is not in the header is refused.
	Rename map[string]string
	// Columns, unless nil, are the parameters to keep, after Rename; the others are left out. One that is not in the
	// header is refused.
	Columns []string
	// TrimSpace removes white space around every value, so a row of nothing but white space is skipped. Without it values
	// are kept byte by byte.
	TrimSpace bool
	// OmitEmpty leaves a parameter out of a row whose value is empty, so that the template's Default is used. Without
	// it the value is the empty string.
	OmitEmpty bool
}

// place is where a value begins.
type place struct {
	line   int64
	column int // in bytes from 1
	offset int64
}

// csvColumns is what the header holds.
type csvColumns struct {
	names []string // by position, renamed
	keep  []bool
	kept  []string
}

// ReadCSV reads device lists: a header row that names the columns, then a row for each device. nil options are the
// zero options.
//
// The format is that of RFC 4180 and of encoding/csv: values may be in double quotes, a quoted value may hold
// separators, line breaks and doubled quotes, a line break within a value is read as "\n". A byte order mark is
// skipped. White space around the header's names is ignored, and so are further byte order marks there; around values
// it is kept unless TrimSpace is set. Blank lines and rows of nothing but empty values, such as spreadsheets leave at
// the end, are skipped.
//
// A row with too many or too few values, bad quotes, a NUL byte or bytes that are not UTF-8, or of more than 256 KiB
// has its Err set and costs no other row: after a quote that is never closed, reading goes on with the line after the
// one it stands on. What the quote swallowed is then read as rows of their own; in an input of a single column, where
// any piece of a broken value would pass for a row, those lines get the error [ErrQuote] as well.
//
// The iterator is single-use. Its error comes last, with a zero Row: the input could not be read any further, is in
// another encoding ([ErrEncoding]), has a header that names a column twice or not at all or holds a carriage return, as
// where lines end in one alone ([ErrHeader]), or the options make no sense ([ErrColumns]). An input without a header
// row has no rows and no error only if it is empty.
func ReadCSV(r io.Reader, opts *CSVOptions) iter.Seq2[Row, error] {
	if opts == nil {
		opts = &CSVOptions{}
	}
	return func(yield func(Row, error) bool) {
		c := csvReader{opts: *opts, scan: csvScanner{src: newLines(r), comma: ','}}
		if err := c.header(); err != nil {
			if err != io.EOF {
				yield(Row{}, err)
			}
			return
		}
		for {
			row, err := c.next()
			if err == io.EOF || !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// csvReader makes a Row of the rows that a csvScanner finds.
type csvReader struct {
	opts    CSVOptions
	scan    csvScanner
	columns *csvColumns
	row     int64
}

// header reads the first row.
func (c *csvReader) header() error {
	if comma := c.opts.Comma; comma != 0 {
		if comma >= 0x80 || strings.ContainsRune("\"\r\n", comma) {
			return columnsError("", fmt.Sprintf("Comma cannot be %q; use a comma, a semicolon or a tab", comma))
		}
		c.scan.comma = byte(comma)
	}
	row, err := c.scan.next()
	if err != nil {
		return err
	}
	bad := func(i int, name, format string, args ...any) error {
		p := &finding.Finding{Severity: finding.Error, Line: row.line, Offset: row.offset, Parameter: name, Rule: ErrHeader, Message: fmt.Sprintf(format, args...)}
		if i >= 0 {
			p.Line, p.Column, p.Offset = row.places[i].line, row.places[i].column, row.places[i].offset
		}
		return p
	}
	if row.fault != nil {
		return c.problem(row)
	}
	cols := &csvColumns{}
	seen := make(map[string]int)
	renamed := make(map[string]bool)
	for i := range row.places {
		name := strings.TrimFunc(row.value(i), func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
		if name == "" {
			return bad(i, "", "column %d has no name; name it or remove the column", i+1)
		}
		if len(row.places) == 1 && c.opts.Comma == 0 {
			if j := strings.IndexAny(name, ";\t"); j >= 0 {
				return bad(i, name, "the header is a single column with %q in it; set Comma to that if it separates the columns", name[j])
			}
		}
		if to, ok := c.opts.Rename[name]; ok {
			renamed[name] = true
			if name = to; to == "" {
				return columnsError(row.value(i), "Rename has an empty name for the column")
			}
		}
		if first, ok := seen[name]; ok {
			return bad(i, name, "columns %d and %d have the same name; rename or remove one", first+1, i+1)
		}
		seen[name] = i
		cols.names = append(cols.names, name)
	}
	for _, from := range slices.Sorted(maps.Keys(c.opts.Rename)) {
		if to := c.opts.Rename[from]; !renamed[from] {
			return bad(-1, to, "Rename names a column %s that is not in the header%s", quote(from), didYouMean(from, cols.names))
		}
	}
	for i, name := range c.opts.Columns {
		if _, ok := seen[name]; !ok {
			return bad(-1, name, "the header has no such column%s", didYouMean(name, cols.names))
		}
		if slices.Contains(c.opts.Columns[:i], name) {
			return columnsError(name, "Columns names it twice")
		}
	}
	cols.keep = make([]bool, len(cols.names))
	for i, name := range cols.names {
		if c.opts.Columns == nil || slices.Contains(c.opts.Columns, name) {
			cols.keep[i] = true
			cols.kept = append(cols.kept, name)
		}
	}
	c.columns, c.scan.width, c.scan.trim = cols, len(cols.names), c.opts.TrimSpace
	return nil
}

// next returns the next row that is not blank.
func (c *csvReader) next() (Row, error) {
	for {
		found, err := c.scan.next()
		if err != nil {
			return Row{}, err
		}
		if found.fault == nil && c.scan.blank(found) {
			continue
		}
		c.row++
		row := Row{Number: c.row, Line: found.line, Offset: found.offset, columns: c.columns.kept}
		if found.fault != nil {
			row.Err = c.problem(found)
			return row, nil
		}
		row.Values = make(map[string]string, len(c.columns.kept))
		found.shared = string(found.text)
		for i, name := range c.columns.names {
			if !c.columns.keep[i] {
				continue
			}
			v := found.value(i)
			if c.opts.TrimSpace {
				v = strings.TrimSpace(v)
			}
			if v != "" || !c.opts.OmitEmpty {
				row.Values[name] = v
			}
		}
		return row, nil
	}
}

// problem makes a finding of the row's fault.
func (c *csvReader) problem(row *csvRow) error {
	f := row.fault
	p := &finding.Finding{Severity: finding.Error,
		Row: c.row, Line: f.line.number, Column: f.at + 1, Offset: f.line.offset + int64(f.at), Rule: f.rule, Message: f.detail,
	}
	if c.columns != nil && f.field >= 0 && f.field < len(c.columns.names) {
		p.Parameter = c.columns.names[f.field]
	}
	return p
}
