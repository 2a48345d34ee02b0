package datafile

import (
	"io"
	"iter"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
)

// CSVOptions describes a CSV list. The zero value reads comma-separated columns, all of them, as they stand.
type CSVOptions struct {
	// Comma separates the columns: ',' ';' '\t' or another ASCII character that is not a quote or a line ending. 0 means
	// the one that a first line such as sep=; names, or else ',', and then a header that is one column with semicolons or
	// tabs in it is refused with [ErrSeparator].
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
	// KeepEmpty keeps an empty value as the empty string. Without it the row is without that parameter, so that the
	// template's Default is used.
	KeepEmpty bool
}

// place is where a value begins.
type place struct {
	line   int64
	column int // in bytes from 1
	offset int64
}

// ReadCSV reads device lists: a header row that names the columns, then a row for each device. nil options are the
// zero options.
//
// The format is that of RFC 4180 and of encoding/csv: values may be in double quotes, a quoted value may hold
// separators, line breaks and doubled quotes, a line break within a value is read as "\n". A byte order mark is
// skipped. White space around the header's names is ignored, and so are further byte order marks there; around values
// it is kept unless TrimSpace is set. Blank lines and rows of nothing but empty values, such as spreadsheets leave at
// the end, are skipped. A first line of the form sep=; names the separator to spreadsheets; it is understood and is no
// header.
//
// A row with too many or too few values, bad quotes, a NUL byte or bytes that are not UTF-8, or of more than 256 KiB
// has its Err set and costs no other row: after a quote that is never closed, reading goes on with the line after the
// one it stands on. What the quote swallowed is then read as rows of their own; in an input of a single column, where
// any piece of a broken value would pass for a row, those lines get the error [ErrQuote] as well.
//
// The iterator is single-use. Its error comes last, with a zero Row: the input could not be read any further, is in
// another encoding ([ErrEncoding]), has a header that names a column twice or not at all or holds a carriage return, as
// where lines end in one alone ([ErrHeader]), seems to have another separator ([ErrSeparator]), or the options make no
// sense ([ErrColumns]). An input without a header
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
			if v != "" || c.opts.KeepEmpty {
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
