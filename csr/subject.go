package csr

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Subject is the distinguished name a certificate will carry: its attributes in the order they are encoded. AWS IoT
// copies the subject of a request into the certificate byte for byte.
//
//	csr.Subject{{Type: "O", Value: "MyOrg"}, {Type: "CN", Value: "device-one"}}
//
// Each attribute is a relative name of its own. Values are encoded as crypto/x509 and openssl do: PrintableString where
// the characters allow it, else UTF8String; emailAddress and DC are IA5String.
type Subject []Attribute

// Attribute is one attribute of a subject.
type Attribute struct {
	// Type is a short name such as CN, O, OU, C, ST, L, serialNumber or emailAddress, in any case, or a dotted object
	// identifier such as 2.5.4.97.
	Type string
	// Value is the text as it shall be, not escaped.
	Value string
}

// SubjectError reports what is wrong with a subject or a pattern, and where.
type SubjectError struct {
	Attribute string // the attribute's type as far as known, else empty
	Field     string // the field of a [Pattern] that the row has not, or has empty; empty for every other fault
	Offset    int    // byte offset in the text parsed; -1 when the subject did not come from a text
	Reason    string // what is wrong and what to do
}

// Error returns attribute, reason and place.
func (e *SubjectError) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("field %q %s; the subject needs it for %s", e.Field, e.Reason, e.Attribute)
	}
	var b strings.Builder
	b.WriteString("subject not valid: ")
	if e.Attribute != "" {
		b.WriteString(e.Attribute)
		b.WriteString(" ")
	}
	b.WriteString(e.Reason)
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " (at byte %d)", e.Offset)
	}
	return b.String()
}

// CommonName is the subject with a CN alone.
func CommonName(name string) Subject { return Subject{{Type: "CN", Value: name}} }

// String writes the subject as [ParseSubject] reads it, first attribute first: "C=US,O=MyOrg,CN=device-one". Special
// characters are escaped as in RFC 4514, which however would write the attributes in reverse.
func (s Subject) String() string {
	var b strings.Builder
	for i, a := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(a.Type)
		b.WriteByte('=')
		appendEscaped(&b, a.Value)
	}
	return b.String()
}

func appendEscaped(b *strings.Builder, v string) {
	for i := 0; i < len(v); {
		r, n := utf8.DecodeRuneInString(v[i:])
		switch {
		case r == utf8.RuneError && n == 1, r < ' ', r == 0x7f:
			fmt.Fprintf(b, `\%02X`, v[i])
		case strings.ContainsRune(`,+"\<>;{}`, r), r == '#' && i == 0, r == ' ' && (i == 0 || i == len(v)-1):
			b.WriteByte('\\')
			b.WriteString(v[i : i+n])
		default:
			b.WriteString(v[i : i+n])
		}
		i += n
	}
}

// Check reports whether the subject can be encoded: known types, lengths within the bounds of X.520 (CN, O and OU 64
// characters, L and ST 128, C exactly two letters, …), valid UTF-8 without control characters, nothing empty. The error
// is a [*SubjectError].
func (s Subject) Check() error {
	_, err := s.DER()
	return err
}

// DER encodes the subject as an X.501 Name. The error is a [*SubjectError], as of [Subject.Check].
func (s Subject) DER() ([]byte, error) { return s.appendDER(nil) }

func (s Subject) appendDER(b []byte) ([]byte, error) {
	if len(s) == 0 {
		return nil, &SubjectError{Offset: -1, Reason: "is empty; give at least a CN"}
	}
	content := 0
	types := make([]*attributeType, 0, 8) // on the stack for the usual number of attributes
	for _, a := range s {
		t, err := attributeNamed(a.Type)
		if err == nil {
			err = t.check(a.Value)
		}
		if err != nil {
			return nil, err
		}
		types = append(types, t)
		content += elementLen(t.pairLen(a.Value))
	}
	b = slices.Grow(b, elementLen(content))
	b = appendHeader(b, tagSequence, content)
	for i, a := range s {
		t := types[i]
		pair := t.pairLen(a.Value)
		b = appendHeader(b, tagSet, pair)
		b = appendHeader(b, tagSequence, len(t.oid)+elementLen(len(a.Value)))
		b = append(b, t.oid...)
		b = appendHeader(b, t.tag(a.Value), len(a.Value))
		b = append(b, a.Value...)
	}
	return b, nil
}

// pairLen is the length of AttributeTypeAndValue with its header.
func (t *attributeType) pairLen(v string) int { return elementLen(len(t.oid) + elementLen(len(v))) }

type stringKind byte

const (
	directory stringKind = iota // PrintableString where possible, else UTF8String
	printable                   // PrintableString only
	ia5                         // IA5String only: ASCII
	country                     // two letters
)

// attributeType is what is known of one type of attribute.
type attributeType struct {
	name string
	oid  []byte // the whole element
	kind stringKind
	max  int // characters, 0 for no bound
}

func (t *attributeType) tag(v string) byte {
	switch t.kind {
	case ia5:
		return tagIA5
	case printable, country:
		return tagPrintable
	}
	if printableUntil(v) == len(v) {
		return tagPrintable
	}
	return tagUTF8
}

// check applies the type's rule to a value.
func (t *attributeType) check(v string) error {
	fail := func(format string, args ...any) error {
		return &SubjectError{Attribute: t.name, Offset: -1, Reason: fmt.Sprintf(format, args...)}
	}
	if v == "" {
		return fail("is empty; leave the attribute out or give it a value")
	}
	ascii := true
	for i := range len(v) {
		if c := v[i]; c < ' ' || c == 0x7f {
			return fail("%s has the control character %q at byte %d of its value; take it out", rule.Quote(v), c, i)
		} else if c >= utf8.RuneSelf {
			ascii = false
		}
	}
	n := len(v)
	if !ascii {
		if !utf8.ValidString(v) {
			return fail("%s is not valid UTF-8", rule.Quote(v))
		}
		n = utf8.RuneCountInString(v)
	}
	switch t.kind {
	case country:
		if len(v) != 2 || !isLetter(v[0]) || !isLetter(v[1]) {
			return fail("%s is not a country code; it is exactly two letters of ISO 3166, such as US", rule.Quote(v))
		}
	case printable:
		if i := printableUntil(v); i < len(v) {
			r, _ := utf8.DecodeRuneInString(v[i:])
			return fail("%s has %q at byte %d of its value; X.520 allows letters, digits, space and '()+,-./:=? in it", rule.Quote(v), r, i)
		}
	case ia5:
		if !ascii {
			return fail("%s has characters outside ASCII; it allows none", rule.Quote(v))
		}
	}
	if t.max > 0 && n > t.max {
		return fail("%s is %d characters long, X.520 allows %d; shorten it or use another attribute", rule.Quote(v), n, t.max)
	}
	return nil
}

// printableUntil returns the number of leading bytes that fit a PrintableString as crypto/x509 writes them.
func printableUntil(v string) int {
	for i := range len(v) {
		switch c := v[i]; {
		case isLetter(c), '0' <= c && c <= '9', '\'' <= c && c <= ')', '+' <= c && c <= '/', c == ' ', c == ':', c == '=', c == '?':
		default:
			return i
		}
	}
	return len(v)
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// attributeTypes holds the types by lower-case name; the first name of each row is the one written.
var attributeTypes, attributeNames = func() (map[string]*attributeType, map[string]string) {
	byName, byOID := map[string]*attributeType{}, map[string]string{}
	for _, row := range []struct {
		names string
		oid   string
		kind  stringKind
		max   int
	}{
		{"CN commonName", "2.5.4.3", directory, 64},
		{"surname", "2.5.4.4", directory, 32768},
		{"serialNumber", "2.5.4.5", printable, 64},
		{"C countryName country", "2.5.4.6", country, 2},
		{"L localityName locality", "2.5.4.7", directory, 128},
		{"ST stateOrProvinceName", "2.5.4.8", directory, 128},
		{"street streetAddress", "2.5.4.9", directory, 128},
		{"O organizationName organization", "2.5.4.10", directory, 64},
		{"OU organizationalUnitName organizationalUnit", "2.5.4.11", directory, 64},
		{"title", "2.5.4.12", directory, 64},
		{"description", "2.5.4.13", directory, 1024},
		{"businessCategory", "2.5.4.15", directory, 128},
		{"postalCode", "2.5.4.17", directory, 40},
		{"name", "2.5.4.41", directory, 32768},
		{"GN givenName", "2.5.4.42", directory, 32768},
		{"initials", "2.5.4.43", directory, 32768},
		{"generationQualifier", "2.5.4.44", directory, 32768},
		{"dnQualifier", "2.5.4.46", printable, 0},
		{"pseudonym", "2.5.4.65", directory, 128},
		{"organizationIdentifier", "2.5.4.97", directory, 0},
		{"UID userId", "0.9.2342.19200300.100.1.1", directory, 256},
		{"DC domainComponent", "0.9.2342.19200300.100.1.25", ia5, 63},
		{"emailAddress email E", "1.2.840.113549.1.9.1", ia5, 255},
	} {
		names := strings.Fields(row.names)
		oid, ok := encodeOID(row.oid)
		if !ok {
			panic("csr: bad object identifier " + row.oid)
		}
		t := &attributeType{names[0], oid, row.kind, row.max}
		for _, n := range names {
			byName[strings.ToLower(n)] = t
		}
		byName[row.oid] = t
		byOID[row.oid] = names[0]
	}
	return byName, byOID
}()

// commonName spares the usual attribute the look-up.
var commonNameType = attributeTypes["cn"]

func attributeNamed(name string) (*attributeType, error) {
	if name == "CN" {
		return commonNameType, nil
	}
	if t, ok := attributeTypes[strings.ToLower(name)]; ok {
		return t, nil
	}
	if oid, ok := encodeOID(name); ok {
		return &attributeType{name: name, oid: oid}, nil
	}
	fail := func(reason string) error { return &SubjectError{Offset: -1, Reason: reason} }
	switch strings.ToLower(name) {
	case "":
		return nil, fail("has an attribute without a type")
	case "sn":
		return nil, fail(`type "SN" means surname to some tools and serial number to others; write serialNumber or surname`)
	case "s", "sp":
		return nil, fail(`type "` + name + `" is not known; write ST for the state or province`)
	}
	return nil, fail("type " + rule.Quote(name) + " is not known; use CN, O, OU, C, ST, L, serialNumber, emailAddress, …, or a dotted object identifier")
}

// encodeOID encodes a dotted object identifier.
func encodeOID(dotted string) ([]byte, bool) {
	if len(dotted) > 128 || strings.Count(dotted, ".") < 2 {
		return nil, false
	}
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(dotted, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil, false
		}
		oid = append(oid, int(n))
	}
	der, err := asn1.Marshal(oid)
	return der, err == nil
}
