package csr

import (
	"slices"
	"strings"
)

// Pattern is a subject with fields to be filled from a device's row: C=US,O=MyOrg,CN={ThingName}. It is parsed before
// any value is known, so a value with commas, slashes or braces in it stays the value of its attribute and cannot add
// another one. It is safe for concurrent use.
type Pattern struct {
	source     string
	attributes []parsedAttribute
	fields     []string
}

// ParsePattern reads a pattern: a subject in either form of [ParseSubject] whose values may hold fields in braces,
// alone or between other text, as in CN={Model}-{SerialNumber}. Write \{ and \} for the characters. The error is a
// [*SubjectError] with the place.
func ParsePattern(s string) (*Pattern, error) {
	attributes, err := parseName(s, true)
	if err != nil {
		return nil, err
	}
	p := &Pattern{source: s, attributes: attributes}
	for _, a := range attributes {
		for _, part := range a.parts {
			if part.field && !slices.Contains(p.fields, part.text) {
				p.fields = append(p.fields, part.text)
			}
		}
	}
	return p, nil
}

// String returns the pattern as it was given to ParsePattern.
func (p *Pattern) String() string { return p.source }

// Fields returns the names of the fields, each once, in order of appearance.
func (p *Pattern) Fields() []string { return slices.Clone(p.fields) }

// Subject returns the subject of a device, for [Generator.Subject]: the pattern with the values of its row. The field
// {ThingName} is the device's name where its row has no such column. The error is a [*SubjectError]: with its Field for
// a field that the row has not, or has empty, without for a value that its attribute does not allow (too long, control
// characters, …).
func (p *Pattern) Subject(d Device) (Subject, error) {
	return p.fill(func(field string) (string, bool) {
		v, ok := d.Row[field]
		if !ok && field == "ThingName" {
			return d.Name, d.Name != ""
		}
		return v, ok
	})
}

func (p *Pattern) fill(value func(string) (string, bool)) (Subject, error) {
	subject := make(Subject, len(p.attributes))
	for i, a := range p.attributes {
		text, fields, err := a.fill(value)
		if err == nil && fields > 0 {
			err = a.typ.check(text)
		}
		if err != nil {
			return nil, err
		}
		subject[i] = Attribute{Type: a.typ.name, Value: text}
	}
	return subject, nil
}

func (a *parsedAttribute) fill(value func(string) (string, bool)) (text string, fields int, err error) {
	if len(a.parts) == 1 && !a.parts[0].field {
		return a.parts[0].text, 0, nil
	}
	var b strings.Builder
	for _, part := range a.parts {
		if !part.field {
			b.WriteString(part.text)
			continue
		}
		v, ok := value(part.text)
		if v == "" {
			what := "is missing in the row"
			if ok {
				what = "is empty in the row"
			}
			return "", 0, &SubjectError{Attribute: a.typ.name, Field: part.text, Offset: -1, Reason: what}
		}
		b.WriteString(v)
		fields++
	}
	return b.String(), fields, nil
}
