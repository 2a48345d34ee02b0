package datafile

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

// Row is one device of a data file or of a CSV list.
type Row struct {
	// Number counts the rows from 1. A CSV header, blank lines and CSV rows of nothing but empty values do not count.
	Number int64
	// Line is the line the row begins on, from 1, blank lines included, as an editor counts; a quoted CSV value can make a
	// row span several. Of a data file it is what a task's report calls lineNumber.
	Line int64
	// Offset is the place of that line's first byte in the input, in bytes from 0.
	Offset int64
	// Values maps parameter to value; nil when Err is set. The map is the caller's.
	Values map[string]string
	// Err is why the row cannot be used, a [*finding.Finding]. Reading goes on.
	Err error

	columns []string
}

// Columns returns the parameters of a CSV list in the order of its header, or those of a row of [ReadJSON] in the order
// of the line, also where they are empty. It returns nil for a row of [Read].
func (r *Row) Columns() []string { return slices.Clone(r.columns) }

// JSONOptions describes a list of devices in the form of a data file. The zero value takes all members as they stand.
type JSONOptions struct {
	// Rename maps a member's name to the parameter it is for: {"serial": "SerialNumber"}.
	Rename map[string]string
	// Columns, unless nil, are the parameters to keep, after Rename. Other members are left out, whatever they hold.
	Columns []string
	// KeepEmpty keeps an empty string as a value. Without it the row is without that parameter, so that the template's
	// Default is used.
	KeepEmpty bool
}

// ReadJSON reads a list of devices that has the form of a data file, as [Read] does, and shapes the rows by the options.
// nil options are the zero options.
func ReadJSON(r io.Reader, opts *JSONOptions) iter.Seq2[Row, error] {
	if opts == nil {
		opts = &JSONOptions{}
	}
	return read(r, rowParser{opts: *opts, columns: true})
}

// Read reads a data file. It takes what people's own scripts write: a byte order mark, CRLF, blank lines (skipped), a
// last line without newline, white space between the parts of a line, numbers and booleans, whose values are their
// text: 7.50 is "7.50". AWS has been seen to accept a number for a parameter of type String; it is not documented.
//
// It refuses, in the Err of that row alone, what has no one meaning: a line that is not one JSON object, nested values,
// null, one parameter given twice, text that is not UTF-8, more than 256 KiB.
//
// The iterator is single-use. Its error comes last, with a zero Row: the input could not be read any further, or is not
// UTF-8 at all ([ErrEncoding]).
func Read(r io.Reader) iter.Seq2[Row, error] {
	return read(r, rowParser{opts: JSONOptions{KeepEmpty: true}})
}

func read(r io.Reader, parser rowParser) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		in, n := newLines(r), int64(0)
		p := parser
		for {
			line, err := in.next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Row{}, err)
				return
			}
			if line.Blank() {
				continue
			}
			n++
			row := Row{Number: n, Line: line.Number, Offset: line.Offset}
			var bad *finding.Finding
			if row.Values, bad = p.row(line); bad == nil && p.columns {
				row.columns = p.parameters()
			}
			if bad != nil {
				bad.Row, bad.Line, bad.Offset = n, line.Number, line.Offset+int64(bad.Column-1)
				row.Err = bad
			}
			if !yield(row, nil) {
				return
			}
		}
	}
}

// lines cuts an input into lines of at most MaxLine bytes.
type lines struct{ *jsonline.Lines }

func newLines(r io.Reader) lines { return lines{jsonline.NewLines(r, MaxLine)} }

// next returns the next line. The error is io.EOF at the end.
func (l lines) next() (jsonline.Line, error) {
	line, err := l.Next()
	if err != nil && err != io.EOF {
		err = fmt.Errorf("reading line %d, at byte %d: %w", l.Number()+1, l.End(), err)
	}
	if line.Number == 1 {
		if detail := notUTF8(line.Text); detail != "" {
			return line, &finding.Finding{Severity: finding.Error, Line: 1, Column: 1, Rule: ErrEncoding, Message: detail}
		}
	}
	return line, err
}

// notUTF8 recognises the encodings that spreadsheets save when not asked for UTF-8, by the beginning of the input.
func notUTF8(line []byte) string {
	const remedy = "; save it as UTF-8, in a spreadsheet \"CSV UTF-8\", or convert it with iconv -f UTF-16 -t UTF-8"
	start := string(line[:min(len(line), 4)])
	switch {
	case strings.HasPrefix(start, "\xff\xfe"):
		return "the input is UTF-16, little-endian" + remedy
	case strings.HasPrefix(start, "\xfe\xff"):
		return "the input is UTF-16, big-endian" + remedy
	case len(start) >= 2 && (start[0] == 0) != (start[1] == 0):
		return "the input looks like UTF-16 without a byte order mark" + remedy
	case strings.HasPrefix(start, "\x1f\x8b"):
		return "the input is compressed with gzip; decompress it first"
	case start == "PK\x03\x04":
		return "the input is a ZIP archive or a spreadsheet file such as .xlsx; save it as CSV first"
	}
	return ""
}

// rowParser parses lines and keeps what is the same from line to line.
type rowParser struct {
	opts    JSONOptions
	columns bool // they are wanted
	json    jsonline.Reader
	members []member
	names   []string // those of the line before: most likely those of the next line too
}

type member struct {
	nameAt     int    // in the line
	parameter  string // its name, renamed
	out        bool   // it is left out
	start, end int    // in the text of all values
}

// maxDepth is how deep a member that is left out may nest.
const maxDepth = 100

// parameters returns those of the line that was parsed last, as far as it could be.
func (p *rowParser) parameters() []string {
	list := make([]string, 0, len(p.members))
	for _, m := range p.members {
		if !m.out {
			list = append(list, m.parameter)
		}
	}
	return list
}

// longest finds the member that takes the most of a line that is too long, of which text is the beginning: its name,
// and the place of its value. A line that is no object has none.
func longest(text []byte) (name string, at int) {
	r := jsonline.NewReader(text, maxDepth)
	if r.Peek() != jsonline.Object {
		return "", 0
	}
	size := 0
	r.Open()
	for member, ok := r.Member(); ok; member, ok = r.Member() {
		r.Peek()
		start := r.Offset()
		key := r.Text(member)
		end := len(text)
		if v := r.Value(); r.Err() == nil {
			end = v.End
		}
		if end-start > size {
			name, at, size = key, start, end-start
		}
	}
	return name, at
}

// at makes a finding that knows its place in the line only.
func at(offset int, name string, r finding.Rule, detail string) *finding.Finding {
	return &finding.Finding{Severity: finding.Error, Column: offset + 1, Parameter: name, Rule: r, Message: detail}
}

// row returns the values in line, which share one string. Nothing of the line is kept.
func (p *rowParser) row(line jsonline.Line) (map[string]string, *finding.Finding) {
	p.members = p.members[:0]
	if line.TooLong() {
		name, from := longest(line.Text)
		return nil, at(from, name, ErrLineTooLong, fmt.Sprintf("the line is longer than %d bytes, the most AWS takes in one line", MaxLine))
	}
	p.json = jsonline.NewReader(line.Text, maxDepth)
	if p.json.Peek() != jsonline.Object {
		return nil, p.notObject(line.Text)
	}
	var text strings.Builder
	text.Grow(len(line.Text))
	p.json.Open()
	for name, ok := p.json.Member(); ok; name, ok = p.json.Member() {
		if bad := p.member(&text, name, line.Text); bad != nil {
			return nil, bad
		}
	}
	if p.json.Close(); p.json.Err() != nil {
		return nil, p.syntax("", line.Text)
	}
	row := make(map[string]string, len(p.members))
	kept := 0
	for i, m := range p.members {
		if m.out {
			continue
		}
		row[m.parameter] = text.String()[m.start:m.end]
		if kept++; len(row) != kept {
			return nil, at(m.nameAt, p.names[i], ErrRepeated, "the line has this parameter twice; remove one")
		}
	}
	if !p.opts.KeepEmpty {
		maps.DeleteFunc(row, func(_, v string) bool { return v == "" })
	}
	return row, nil
}

// member reads the value behind a name.
func (p *rowParser) member(text *strings.Builder, name jsonline.Value, line []byte) *finding.Finding {
	key, bad := p.name(name)
	if bad != nil {
		return bad
	}
	m := member{nameAt: name.Start, parameter: key, start: text.Len()}
	if to, ok := p.opts.Rename[key]; ok {
		m.parameter = to
	}
	if p.opts.Columns != nil && !slices.Contains(p.opts.Columns, m.parameter) {
		m.out = true
		if p.json.Value(); p.json.Err() != nil {
			return p.syntax(key, line)
		}
		p.members = append(p.members, m)
		return nil
	}
	switch p.json.Peek() {
	case jsonline.Object, jsonline.Array:
		return at(p.json.Offset(), key, ErrNested, "the value is an object or a list; parameters are strings")
	case jsonline.Null:
		return at(p.json.Offset(), key, ErrNull, "the value is null; give a string, or leave the parameter out")
	}
	v := p.json.Value()
	if p.json.Err() != nil {
		return p.syntax(key, line)
	}
	if v.Kind != jsonline.String {
		text.Write(p.json.Raw(v))
	} else if bad := p.string(text, v, key); bad != nil {
		return bad
	}
	m.end = text.Len()
	p.members = append(p.members, m)
	return nil
}

// name returns the name of the next member, from the line before if it is the same there.
func (p *rowParser) name(v jsonline.Value) (string, *finding.Finding) {
	n := len(p.members)
	if n == len(p.names) {
		p.names = append(p.names, "")
	}
	if raw := p.json.Raw(v); v.Escaped || p.names[n] != string(raw) {
		var name strings.Builder
		if bad := p.string(&name, v, ""); bad != nil {
			return "", bad
		}
		p.names[n] = strings.Clone(name.String())
	}
	return p.names[n], nil
}

// string decodes a string, the value of the parameter name.
func (p *rowParser) string(text *strings.Builder, v jsonline.Value, name string) *finding.Finding {
	if v.NonASCII {
		if i := jsonline.InvalidUTF8(p.json.Raw(v)); i >= 0 {
			return at(v.Start+1+i, name, ErrInvalidUTF8, "this byte is not UTF-8; convert the file to UTF-8")
		}
	}
	if half := p.json.WriteText(text, v); half >= 0 {
		return at(half, name, ErrInvalidUTF8, "the escape is half of a surrogate pair and stands for no character")
	}
	return nil
}

// notObject describes a line that does not begin as an object.
func (p *rowParser) notObject(line []byte) *finding.Finding {
	start := p.json.Offset()
	const csv = "is this CSV? Read it with ReadCSV"
	switch p.json.Peek() {
	case jsonline.Array:
		return at(start, "", ErrNotObject, "the line begins a JSON list; a data file has no brackets around it, only one object a line")
	case jsonline.True, jsonline.False, jsonline.Null:
		return at(start, "", ErrNotObject, "the line is not a JSON object")
	case jsonline.String, jsonline.Number:
		return at(start, "", ErrNotObject, "the line is not a JSON object; "+csv)
	}
	p.json.Open() // which fails
	bad := p.syntax("", line)
	if bad.Rule == ErrSyntax {
		c, _ := utf8.DecodeRune(line[start:])
		bad.Message = fmt.Sprintf("found %q where { should be; %s", c, csv)
	}
	return bad
}

// syntax returns what the reader found wrong with the line, near the parameter name.
func (p *rowParser) syntax(name string, line []byte) *finding.Finding {
	e := p.json.Err()
	if !e.AtEnd && jsonline.InvalidUTF8(line[e.Offset:]) == 0 {
		return at(e.Offset, name, ErrInvalidUTF8, fmt.Sprintf("byte 0x%02x is not UTF-8; convert the file to UTF-8", line[e.Offset]))
	}
	detail := e.Error()
	switch {
	case e.AtEnd:
		detail = e.Message + "; each device needs its whole object on one line"
	case e.Fault == jsonline.OpenString && e.Hint == "":
		detail = e.Message + ` on this line; a line break within a value is written as \n`
	case e.Fault == jsonline.TextAfter:
		detail = e.Message + "; a line holds one object and nothing else"
	}
	return at(e.Offset, name, ErrSyntax, detail)
}
