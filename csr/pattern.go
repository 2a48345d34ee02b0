package csr

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pattern is a subject with fields to be filled from a device's row: C=US,O=MyOrg,CN={ThingName}. It is parsed before any
// value is known, so a value with commas, slashes or braces in it stays the value of its attribute and cannot add
// another one. It is safe for concurrent use.
type Pattern struct {
	source     string
	attributes []parsedAttribute
	fields     []string
}

// ErrMissingField: a pattern names a field that the row has not, or has empty. The name is in the [*MissingFieldError]
// beside it.
var ErrMissingField = errors.New("missing field")

// MissingFieldError names a field that a pattern needs and a row does not give.
type MissingFieldError struct {
	Field     string // the field
	Attribute string // the attribute it is needed for
	Empty     bool   // the row has the field, with nothing in it
}

// Error names the field and the attribute.
func (e *MissingFieldError) Error() string {
	what := "is missing in the row"
	if e.Empty {
		what = "is empty in the row"
	}
	return fmt.Sprintf("field %q %s; the subject needs it for %s", e.Field, what, e.Attribute)
}

// Is makes a MissingFieldError an [ErrMissingField].
func (e *MissingFieldError) Is(target error) bool { return target == ErrMissingField }

// ParsePattern reads a pattern: a subject in either form of [ParseSubject] whose values may hold fields in braces, alone
// or between other text, as in CN={Model}-{SerialNumber}. Write \{ and \} for the characters. The error is a
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

// Fill puts a row's values in. A field that the row has not, or has empty, is a [*MissingFieldError]; a value that its
// attribute does not allow (too long, control characters, …) a [*SubjectError].
func (p *Pattern) Fill(row map[string]string) (Subject, error) {
	return p.fill(func(field string) (string, bool) {
		v, ok := row[field]
		return v, ok
	})
}

// Subject fills the pattern from a device, for [Generator.Subject]. The field {ThingName} is the device's name where its
// row has no such column.
func (p *Pattern) Subject(d Device) (Subject, error) {
	return p.fill(func(field string) (string, bool) {
		v, ok := d.Row[field]
		if !ok && field == "ThingName" {
			return d.Name, true
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
			return "", 0, &MissingFieldError{Field: part.text, Attribute: a.typ.name, Empty: ok}
		}
		b.WriteString(v)
		fields++
	}
	return b.String(), fields, nil
}
