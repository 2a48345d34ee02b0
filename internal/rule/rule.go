// Package rule holds the lengths and character sets that AWS IoT demands of names and values, so that the template
// checker, the data file checker and the fake refuse the same things for the same reason.
//
// The figures are those of the AWS IoT API model (2015-05-28).
package rule

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
)

// Rule is what AWS demands of one kind of string.
type Rule struct {
	What    string // the kind of value, for people: "thing name"
	Min     int    // least number of characters
	Max     int    // greatest number of characters
	Pattern string // AWS's regular expression for the whole value, as published
	ok      *[256]bool
}

// The rules, by the shapes of the API model.
var (
	ThingName        = charRule("thing name", 1, 128, `[a-zA-Z0-9:_-]+`, alnum+":_-")
	ThingTypeName    = charRule("thing type name", 1, 128, `[a-zA-Z0-9:_-]+`, alnum+":_-")
	ThingGroupName   = charRule("thing group name", 1, 128, `[a-zA-Z0-9:_-]+`, alnum+":_-")
	BillingGroupName = charRule("billing group name", 1, 128, `[a-zA-Z0-9:_-]+`, alnum+":_-")
	AttributeName    = charRule("attribute name", 1, 128, `[a-zA-Z0-9_.,@/:#-]+`, alnum+"_.,@/:#-")
	AttributeValue   = charRule("attribute value", 0, 800, `[a-zA-Z0-9_.,@/:#=\[\]-]*`, alnum+"_.,@/:#=[]-")
	PolicyName       = charRule("policy name", 1, 128, `[\w+=,.@-]+`, alnum+"_+=,.@-")
	CertificateID    = charRule("certificate id", 64, 64, `(0x)?[a-fA-F0-9]+`, "x0123456789abcdefABCDEF")
	Bucket           = charRule("bucket name", 3, 256, `[a-zA-Z0-9._-]+`, alnum+"._-")
	ObjectKey        = charRule("data file key", 1, 1024, `[a-zA-Z0-9!_.*'()-\/]+`, alnum+"!_.*'()+,-./")
)

// Limits of the registry and of tasks, in the unit that each comment names.
const (
	TemplateBody         = 10240     // characters of a template
	DataFileLine         = 256 << 10 // bytes of one line of a data file, without its newline
	CSR                  = 4096      // characters of a certificate signing request
	ParameterName        = 2048      // characters, RegisterThing
	ParameterValue       = 4096      // characters, RegisterThing
	PolicyDocument       = 2048      // characters of a policy document, white space not counted
	AttributesWithout    = 3         // attributes of a thing that has no type
	AttributesWith       = 50        // attributes of a thing that has a type
	GroupsPerThing       = 10
	PoliciesPerPrincipal = 10
)

const alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func charRule(what string, minLen, maxLen int, pattern, chars string) *Rule {
	var ok [256]bool
	for i := range len(chars) {
		ok[chars[i]] = true
	}
	return &Rule{what, minLen, maxLen, pattern, &ok}
}

// Violation holds which rule a value breaks and where.
type Violation struct {
	Rule  *Rule
	Value string
	// Offset is the byte offset of the first character outside the set; -1 when the length is what is wrong.
	Offset int
}

// Error names the rule and, for a character, its place in the value. It quotes at most 64 bytes of the value.
func (v *Violation) Error() string {
	if v.Offset < 0 {
		n := utf8.RuneCountInString(v.Value)
		if n < v.Rule.Min {
			return fmt.Sprintf("%s is %d characters long, AWS wants %d at least", v.Rule.What, n, v.Rule.Min)
		}
		return fmt.Sprintf("%s is %d characters long, AWS allows %d", v.Rule.What, n, v.Rule.Max)
	}
	r, _ := utf8.DecodeRuneInString(v.Value[v.Offset:])
	return fmt.Sprintf("%s %s has %q at byte %d; AWS allows %s", v.Rule.What, Quote(v.Value), r, v.Offset, v.Rule.Pattern)
}

// GoString keeps the value out of %#v as well, beyond what Error shows of it.
func (v *Violation) GoString() string { return fmt.Sprintf("&rule.Violation{%q}", v.Error()) }

// Check returns a *Violation if s breaks the rule, else nil.
func (r *Rule) Check(s string) error {
	// Every allowed character is one byte, so the byte count is the character count unless a character is refused.
	for i := range len(s) {
		if !r.ok[s[i]] {
			return &Violation{r, s, i}
		}
	}
	if len(s) < r.Min || len(s) > r.Max {
		return &Violation{r, s, -1}
	}
	if r == CertificateID {
		for i := range len(s) {
			if s[i] == 'x' && (i != 1 || s[0] != '0') {
				return &Violation{r, s, i}
			}
		}
	}
	return nil
}

// Quote quotes a value for an error message and cuts a long one at 64 bytes. Of a private key, which may have got into
// the wrong column of a list, it shows nothing, nor of what is left of one.
func Quote(s string) string {
	if strings.Contains(s, "PRIVATE KEY") || privatekey.In(s) {
		return "[private key]"
	}
	start, rest := Cut(s, 64)
	return fmt.Sprintf("%q", start) + rest
}

// Cut returns the start of a text, of most bytes or a little less, and what to write in place of the rest: "" if that is
// empty.
func Cut(s string, most int) (start, rest string) {
	if len(s) <= most {
		return s, ""
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most], fmt.Sprintf("… (%d bytes)", len(s))
}
