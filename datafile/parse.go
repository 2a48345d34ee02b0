package datafile

import (
	"bytes"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// fault is a Problem that does not know yet in which line it is.
type fault struct {
	at     int // byte in the line, from 0
	name   string
	rule   Rule
	detail string
}

func faultAt(at int, name string, r Rule, format string, args ...any) *fault {
	return &fault{at, name, r, fmt.Sprintf(format, args...)}
}

// lineParser parses lines and keeps what is the same from line to line. Between lines it holds no more than one line's
// worth of memory.
type lineParser struct {
	text    []byte   // the unescaped values of the line, one after the other
	members []member // where they are
	names   []string // the names of the line before: most likely those of the next line too
	scratch []byte   // a name with escapes, unescaped
}

type member struct {
	nameAt     int // in the line
	start, end int // in text
	literal    bool
}

// parse returns the row in line and the names of the values that are not strings. Nothing of line is kept.
func (p *lineParser) parse(line []byte) (map[string]string, []string, *fault) {
	p.text, p.members = p.text[:0], p.members[:0]
	i := skipSpace(line, 0)
	if i == len(line) || line[i] != '{' {
		return nil, nil, notObject(line, i)
	}
	i = skipSpace(line, i+1)
	if i < len(line) && line[i] == '}' {
		i++
	} else {
		for {
			var f *fault
			if i, f = p.member(line, i); f != nil {
				return nil, nil, f
			}
			i = skipSpace(line, i)
			if i == len(line) {
				return nil, nil, unexpected(line, i, "a comma or }")
			}
			c := line[i]
			if c == '}' {
				i++
				break
			}
			if c != ',' {
				return nil, nil, unexpected(line, i, "a comma or }")
			}
			i = skipSpace(line, i+1)
		}
	}
	if i = skipSpace(line, i); i < len(line) {
		return nil, nil, faultAt(i, "", ErrSyntax, "more text after the object; a line holds one object and nothing else")
	}
	return p.row()
}

// row makes the map of the members found. All values share one string.
func (p *lineParser) row() (map[string]string, []string, *fault) {
	text := string(p.text)
	row := make(map[string]string, len(p.members))
	var notStrings []string
	for i, m := range p.members {
		name := p.names[i]
		row[name] = text[m.start:m.end]
		if len(row) != i+1 {
			return nil, nil, faultAt(m.nameAt, name, ErrRepeated, "the line gives this parameter twice; remove one")
		}
		if m.literal {
			notStrings = append(notStrings, name)
		}
	}
	return row, notStrings, nil
}

// member parses `"name": value` from i on and returns the index after it.
func (p *lineParser) member(line []byte, i int) (int, *fault) {
	if i == len(line) || line[i] != '"' {
		return i, unexpected(line, i, "a parameter name in double quotes")
	}
	m := member{nameAt: i, start: len(p.text)}
	i, f := p.name(line, i)
	if f != nil {
		return i, f
	}
	name := p.names[len(p.members)]
	if i = skipSpace(line, i); i == len(line) || line[i] != ':' {
		return i, unexpected(line, i, "a colon after the name "+quote(name))
	}
	i = skipSpace(line, i+1)
	if i < len(line) && line[i] == '"' {
		if p.text, i, f = appendString(p.text, line, i); f != nil {
			f.name = name
			return i, f
		}
	} else {
		end, f := literal(line, i, name)
		if f != nil {
			return i, f
		}
		p.text = append(p.text, line[i:end]...)
		m.literal = true
		i = end
	}
	m.end = len(p.text)
	p.members = append(p.members, m)
	return i, nil
}

// name parses the name of the next member, whose opening quote is at i, into names.
func (p *lineParser) name(line []byte, i int) (int, *fault) {
	n := len(p.members)
	end, high := scanPlain(line, i+1)
	raw := line[i+1 : end]
	if end < len(line) && line[end] == '"' && high == 0 {
		end++
	} else {
		var f *fault
		if p.scratch, end, f = appendString(p.scratch[:0], line, i); f != nil {
			return end, f
		}
		raw = p.scratch
	}
	switch {
	case n == len(p.names):
		p.names = append(p.names, string(raw))
	case p.names[n] != string(raw):
		p.names[n] = string(raw)
	}
	return end, nil
}

// appendString appends the meaning of the JSON string whose opening quote is at i, and returns the index after its
// closing quote.
func appendString(dst, line []byte, i int) ([]byte, int, *fault) {
	open := i
	i++
	var seen uint64
	for {
		j, high := scanPlain(line, i)
		seen |= high
		dst = append(dst, line[i:j]...)
		i = j
		if i == len(line) {
			return dst, i, faultAt(open, "", ErrSyntax,
				"the string is not closed on this line; a line break within a value is written as \\n")
		}
		c := line[i]
		if c == '"' {
			break
		}
		if c != '\\' {
			return dst, i, faultAt(i, "", ErrSyntax, "the control character %q must be escaped within a string", c)
		}
		var f *fault
		if dst, i, f = appendEscape(dst, line, i); f != nil {
			return dst, i, f
		}
	}
	if raw := line[open+1 : i]; seen != 0 && !utf8.Valid(raw) {
		return dst, i, faultAt(open+1+invalidAt(raw), "", ErrInvalidUTF8, "this byte is not UTF-8; convert the file to UTF-8")
	}
	return dst, i + 1, nil
}

// appendEscape appends the meaning of the escape whose backslash is at i, and returns the index after it.
func appendEscape(dst, line []byte, i int) ([]byte, int, *fault) {
	if i+1 == len(line) {
		return dst, i, faultAt(i, "", ErrSyntax, "the line ends after a backslash")
	}
	c := line[i+1]
	switch c {
	case 'n':
		c = '\n'
	case '"', '\\', '/':
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'u':
		r := hex4(line, i)
		if r < 0 {
			return dst, i, faultAt(i, "", ErrSyntax, "\\u needs four hexadecimal digits")
		}
		next := i + 6
		if utf16.IsSurrogate(r) {
			r = utf16.DecodeRune(r, hex4(line, next))
			if r == utf8.RuneError {
				return dst, i, faultAt(i, "", ErrInvalidUTF8, "\\u escape is half of a surrogate pair and stands for no character")
			}
			next += 6
		}
		return utf8.AppendRune(dst, r), next, nil
	default:
		return dst, i, faultAt(i, "", ErrSyntax, "\\%c is not an escape of JSON; write \\\\ for a backslash", runeAt(line, i+1))
	}
	return append(dst, c), i + 2, nil
}

// hex4 returns the number in the four digits of a \u escape at i, -1 if there is none.
func hex4(line []byte, i int) rune {
	if i+6 > len(line) || line[i] != '\\' || line[i+1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range line[i+2 : i+6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

// literal returns the end of the number or boolean at i.
func literal(line []byte, i int, name string) (int, *fault) {
	if i == len(line) {
		return i, unexpected(line, i, "a value")
	}
	switch c := line[i]; {
	case c == '{' || c == '[':
		return i, faultAt(i, name, ErrNested, "the value is an object or a list; parameters are strings")
	case c == '-' || isDigit(c):
		return number(line, i, name)
	}
	for _, word := range []string{"true", "false", "null"} {
		if end := i + len(word); end <= len(line) && string(line[i:end]) == word {
			if word == "null" {
				return i, faultAt(i, name, ErrNull, "the value is null; give a string, or leave the parameter out")
			}
			return end, nil
		}
	}
	f := unexpected(line, i, "a value in double quotes")
	f.name = name
	return i, f
}

// number returns the end of the number at i.
func number(line []byte, i int, name string) (int, *fault) {
	digits := func() bool {
		from := i
		for i < len(line) && isDigit(line[i]) {
			i++
		}
		return i > from
	}
	bad := func() (int, *fault) {
		return i, faultAt(i, name, ErrSyntax, "not a number as JSON writes one; put the value in double quotes")
	}
	if line[i] == '-' {
		i++
	}
	if i < len(line) && line[i] == '0' {
		if i++; i < len(line) && isDigit(line[i]) {
			return i, faultAt(i-1, name, ErrSyntax, "a number cannot begin with 0; put the value in double quotes")
		}
	} else if !digits() {
		return bad()
	}
	if i < len(line) && line[i] == '.' {
		if i++; !digits() {
			return bad()
		}
	}
	if i < len(line) && (line[i] == 'e' || line[i] == 'E') {
		if i++; i < len(line) && (line[i] == '+' || line[i] == '-') {
			i++
		}
		if !digits() {
			return bad()
		}
	}
	return i, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func skipSpace(line []byte, i int) int {
	for i < len(line) && isSpace(line[i]) {
		i++
	}
	return i
}

// isSpace reports whether c is white space in JSON.
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// notObject says what a line is that does not begin as an object.
func notObject(line []byte, i int) *fault {
	if i < len(line) {
		switch c := line[i]; {
		case c == '[':
			return faultAt(i, "", ErrNotObject, "the line begins a JSON list; a data file has no brackets around it, only one object a line")
		case c == '"', c == '-', isDigit(c):
			return faultAt(i, "", ErrNotObject, "the line is not a JSON object; is this CSV? Read it with FromCSV")
		}
		for _, word := range []string{"true", "false", "null"} {
			if bytes.HasPrefix(line[i:], []byte(word)) {
				return faultAt(i, "", ErrNotObject, "the line is not a JSON object")
			}
		}
	}
	return unexpected(line, i, "{")
}

// unexpected says what stands at i where something else should.
func unexpected(line []byte, i int, want string) *fault {
	if i == len(line) {
		return faultAt(i, "", ErrSyntax, "the line ends where %s should follow; each device needs its whole object on one line", want)
	}
	hint := ""
	r := runeAt(line, i)
	switch r {
	case '“', '”', '„', '«', '»', '‘', '’', '\'':
		hint = `; JSON wants the plain double quote "`
	case '}', ']':
		hint = "; is there a comma too many before it?"
	case '\u00a0', '\u200b', '\ufeff', '\u3000':
		hint = "; it is a kind of space that JSON does not know"
	case utf8.RuneError:
		if _, n := utf8.DecodeRune(line[i:]); n == 1 {
			return faultAt(i, "", ErrInvalidUTF8, "byte 0x%02x is not UTF-8; convert the file to UTF-8", line[i])
		}
	}
	return faultAt(i, "", ErrSyntax, "found %q where %s should be%s", r, want, hint)
}

func runeAt(line []byte, i int) rune {
	r, _ := utf8.DecodeRune(line[i:])
	return r
}
