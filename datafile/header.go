package datafile

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// csvColumns is what the header holds.
type csvColumns struct {
	names []string // by position, renamed
	keep  []bool
	kept  []string
}

// header reads the first row.
func (c *csvReader) header() error {
	if comma := c.opts.Comma; comma != 0 {
		if comma >= 0x80 || strings.ContainsRune("\"\r\n", comma) {
			return columnsError("", fmt.Sprintf("Comma cannot be %q; use a comma, a semicolon or a tab", comma))
		}
		c.scan.comma = byte(comma)
	}
	if err := c.separator(); err != nil {
		return err
	}
	row, err := c.scan.next()
	if err != nil {
		return err
	}
	bad := func(i int, name, format string, args ...any) *finding.Finding {
		p := &finding.Finding{
			Rule: ErrHeader, Severity: finding.Error, Line: row.line, Offset: row.offset, Parameter: name,
			Message: fmt.Sprintf(format, args...),
		}
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
				p := bad(i, name, "the header is a single column with %q in it; if that separates the columns, set CSVOptions.Comma to it", name[j])
				p.Rule = ErrSeparator
				return p
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
			return bad(-1, to, "the column %s that is to be renamed is not in the header%s", rule.Quote(from), spelling.DidYouMean(from, cols.names))
		}
	}
	for i, name := range c.opts.Columns {
		if _, ok := seen[name]; !ok {
			return bad(-1, name, "the header has no such column%s", spelling.DidYouMean(name, cols.names))
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

// separator reads the line sep=; in front of the header, if there is one. An option that is set wins.
func (c *csvReader) separator() error {
	line, err := c.scan.line(0)
	if err != nil {
		return err
	}
	text := bytes.TrimPrefix(c.scan.bytes(line), []byte("\ufeff"))
	if inner, ok := bytes.CutPrefix(text, []byte{'"'}); ok { // as a spreadsheet saves it that took it for a value
		text, _ = bytes.CutSuffix(inner, []byte{'"'})
	}
	if len(text) != len("sep=;") || !strings.EqualFold(string(text[:4]), "sep=") || strings.IndexByte("\"\r", text[4]) >= 0 || text[4] >= 0x80 {
		return nil
	}
	if c.opts.Comma == 0 {
		c.opts.Comma, c.scan.comma = rune(text[4]), text[4]
	}
	c.scan.consume(1)
	return nil
}
