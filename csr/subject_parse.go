package csr

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// ParseSubject reads a subject in one of two forms and keeps the order as written:
//
//	C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept     commas; space around types and values is dropped
//	/C=US/ST=WA/L=Seattle/O=MyOrg/CN=MyDept    as openssl's -subj takes it
//
// In the first form \ escapes a special character (, + " \ < > ; = # { } and space) or writes a byte as two hex digits,
// as in RFC 4514. In the second it takes the next character as it is. Relative names of several attributes
// (CN=a+serialNumber=b) are refused, and so are braces, which belong to [ParsePattern]. The error is a [*SubjectError]
// with the place.
func ParseSubject(s string) (Subject, error) {
	attributes, err := parseName(s, false)
	if err != nil {
		return nil, err
	}
	subject := make(Subject, len(attributes))
	for i, a := range attributes {
		subject[i] = Attribute{Type: a.typ.name, Value: a.parts[0].text}
	}
	return subject, nil
}

// part is a piece of an attribute's value: a literal text or the name of a field.
type part struct {
	text  string
	field bool
}

// parsedAttribute is one attribute as parsed. Its parts are never empty; without fields there is exactly one.
type parsedAttribute struct {
	typ    *attributeType
	offset int // of the value in the text
	parts  []part
}

type nameParser struct {
	s       string
	pos     int
	sep     byte // ',' or '/'
	pattern bool
}

func parseName(s string, pattern bool) ([]parsedAttribute, error) {
	p := &nameParser{s: s, sep: ',', pattern: pattern}
	if strings.TrimSpace(s) == "" {
		return nil, &SubjectError{Offset: 0, Reason: "is empty; give at least a CN, as in CN=device-one"}
	}
	if s[0] == '/' {
		p.sep, p.pos = '/', 1
	}
	var attributes []parsedAttribute
	for {
		a, err := p.attribute()
		if err != nil {
			return nil, err
		}
		attributes = append(attributes, a)
		if p.pos == len(s) {
			return attributes, nil
		}
		p.pos++ // the separator
	}
}

func (p *nameParser) fail(offset int, attribute, format string, args ...any) error {
	return &SubjectError{Attribute: attribute, Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// at sets the place of a SubjectError in the text.
func at(err error, offset int) error {
	if e, ok := errors.AsType[*SubjectError](err); ok {
		e.Offset = offset
	}
	return err
}

func (p *nameParser) attribute() (parsedAttribute, error) {
	start := p.pos
	end := start + strings.IndexAny(p.s[start:]+"=", "="+string(p.sep))
	name := strings.Trim(p.s[start:min(end, len(p.s))], " ")
	if end >= len(p.s) || p.s[end] != '=' {
		if name == "" {
			return parsedAttribute{}, p.fail(start, "", "has nothing between two separators or at its end")
		}
		return parsedAttribute{}, p.fail(start, "", `%s is not TYPE=value; if it belongs to the value before it, write \%c there`, rule.Quote(name), p.sep)
	}
	typ, err := attributeNamed(name)
	if err != nil {
		if strings.Contains(name, "{") && p.pattern {
			return parsedAttribute{}, p.fail(start, "", "has a field in place of a type; a field can only stand in a value")
		}
		return parsedAttribute{}, at(err, start)
	}
	p.pos = end + 1
	return p.value(typ)
}

// value reads up to the next separator that is not escaped.
func (p *nameParser) value(typ *attributeType) (parsedAttribute, error) {
	a := parsedAttribute{typ: typ, offset: p.pos}
	if p.sep == ',' {
		for p.pos < len(p.s) && p.s[p.pos] == ' ' {
			p.pos++
		}
		a.offset = p.pos
		if p.pos < len(p.s) && p.s[p.pos] == '#' {
			return a, p.fail(p.pos, typ.name, `starts with #, which announces hex; write \# for the character`)
		}
	}
	var text []byte
	keep := 0 // text up to here does not end in spaces to be dropped
	for p.pos < len(p.s) && p.s[p.pos] != p.sep {
		start, c := p.pos, p.s[p.pos]
		switch {
		case c == '\\':
			b, err := p.escape(typ)
			if err != nil {
				return a, err
			}
			text = append(text, b...)
			keep = len(text)
			continue
		case c == '+':
			return a, p.fail(start, typ.name, `is joined to another attribute by +; names of several attributes are not supported, write \+ for the character`)
		case c == '{' && p.pattern:
			name, err := p.field(typ)
			if err != nil {
				return a, err
			}
			if len(text) > 0 {
				a.parts = append(a.parts, part{text: string(text)})
			}
			a.parts = append(a.parts, part{text: name, field: true})
			text, keep = nil, 0
			continue
		case c == '{' || c == '}':
			hint := "parse it as a pattern if it stands for a field"
			if p.pattern {
				hint = "it closes no field"
			}
			return a, p.fail(start, typ.name, `has %q; %s, or write \%c for the character`, c, hint, c)
		case p.sep == ',' && strings.IndexByte(`;"<>`, c) >= 0:
			return a, p.fail(start, typ.name, `has %q; write \%c for the character`, c, c)
		}
		text = append(text, c)
		if c != ' ' || p.sep == '/' {
			keep = len(text)
		}
		p.pos++
	}
	if text = text[:keep]; len(text) > 0 {
		a.parts = append(a.parts, part{text: string(text)})
	}
	if len(a.parts) == 0 {
		return a, p.fail(a.offset, typ.name, "is empty; leave the attribute out or give it a value")
	}
	// A literal value must satisfy its type now. Of one with fields, only the literals can be looked at.
	for _, l := range a.parts {
		if l.field {
			continue
		}
		var err error
		if len(a.parts) == 1 {
			err = typ.check(l.text)
		} else if !utf8.ValidString(l.text) {
			err = &SubjectError{Attribute: typ.name, Reason: "is not valid UTF-8"}
		}
		if err != nil {
			return a, at(err, a.offset)
		}
	}
	return a, nil
}

// escape reads a backslash and what it escapes.
func (p *nameParser) escape(typ *attributeType) (string, error) {
	start := p.pos
	rest := p.s[start+1:]
	if rest == "" {
		return "", p.fail(start, typ.name, `ends in a backslash; write \\ for the character`)
	}
	if p.sep == '/' { // openssl: the next character as it is
		_, n := utf8.DecodeRuneInString(rest)
		p.pos += 1 + n
		return rest[:n], nil
	}
	if strings.IndexByte(`,+"\<>;=# {}/`, rest[0]) >= 0 {
		p.pos += 2
		return rest[:1], nil
	}
	if len(rest) >= 2 {
		if b, err := hex.DecodeString(rest[:2]); err == nil {
			p.pos += 3
			return string(b), nil
		}
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return "", p.fail(start, typ.name, `escapes %q, which needs no escape; write \\ for a backslash`, r)
}

// field reads {Name}.
func (p *nameParser) field(typ *attributeType) (string, error) {
	start := p.pos
	n := strings.IndexByte(p.s[start:], '}')
	if n < 0 {
		return "", p.fail(start, typ.name, `has a field that is not closed; write \{ for the character`)
	}
	name := p.s[start+1 : start+n]
	switch {
	case strings.TrimSpace(name) == "":
		return "", p.fail(start, typ.name, "has a field without a name; write {ThingName}, for instance")
	case strings.ContainsAny(name, "{\\"):
		return "", p.fail(start, typ.name, "has a field name with %q in it; close the field before it", name[strings.IndexAny(name, `{\`)])
	case name != strings.TrimSpace(name):
		return "", p.fail(start, typ.name, "has space around the field name %s", rule.Quote(name))
	case !utf8.ValidString(name):
		return "", p.fail(start, typ.name, "has a field name that is not valid UTF-8")
	}
	p.pos += n + 1
	return name, nil
}
