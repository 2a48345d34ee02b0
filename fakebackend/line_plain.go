package fakebackend

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// plainLine reads a line of the kind that nearly all are: an object of strings in ASCII, with no escapes but those of one
// letter. It takes a fifth of the time of [decodeLine], which reads a CSR three times over. To any other line, good or bad,
// it says no.
func plainLine(raw []byte) (values map[string]string, ok bool) {
	p := plainReader{raw}
	values = make(map[string]string)
	if !p.take('{') {
		return nil, false
	}
	for {
		name, ok := p.text()
		if !ok || !p.take(':') {
			return nil, false
		}
		if values[name], ok = p.text(); !ok {
			return nil, false
		}
		if !p.take(',') {
			return values, p.take('}') && len(p.rest) == 0
		}
	}
}

// plainReader is what is left of a plain line.
type plainReader struct{ rest []byte }

// take passes over one character of punctuation and the white space around it.
func (p *plainReader) take(c byte) bool {
	p.rest = bytes.TrimLeft(p.rest, jsonSpace)
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = bytes.TrimLeft(p.rest[1:], jsonSpace)
	return true
}

const jsonSpace = " \t\r\n"

func (p *plainReader) text() (string, bool) {
	if len(p.rest) == 0 || p.rest[0] != '"' {
		return "", false
	}
	escapes := 0
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			inner := p.rest[1:i]
			p.rest = p.rest[i+1:]
			if escapes == 0 {
				return string(inner), true
			}
			return unescape(inner, len(inner)-escapes)
		case c == '\\':
			escapes++
			i++
		case c < ' ' || c >= utf8.RuneSelf:
			return "", false
		}
	}
	return "", false
}

// unescape puts in what escapes of one letter stand for; length is that of the result.
func unescape(inner []byte, length int) (string, bool) {
	var b strings.Builder
	b.Grow(length)
	for {
		i := bytes.IndexByte(inner, '\\')
		if i < 0 {
			b.Write(inner)
			return b.String(), true
		}
		at := strings.IndexByte(`"\/bfnrt`, inner[i+1])
		if at < 0 {
			return "", false
		}
		b.Write(inner[:i])
		b.WriteByte("\"\\/\b\f\n\r\t"[at])
		inner = inner[i+2:]
	}
}
