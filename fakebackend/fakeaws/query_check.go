package fakeaws

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
)

// parameterShape is what IAM's API model demands of a parameter.
type parameterShape struct {
	form     parameterForm
	min, max int            // characters of a string, value of a number, members of a list; max 0 is no limit
	pattern  string         // as published
	ok       *regexp.Regexp // nil for any
}

type parameterForm int

const (
	aString parameterForm = iota
	aNumber
	aList
)

// parameterShapes are the shapes of the parameters, by action and name where an action has its own, else by name. A
// member of a list has the list's name with ".member" added.
var parameterShapes = map[string]parameterShape{
	"RoleName":                 {aString, 1, 64, `[\w+=,.@-]+`, regexp.MustCompile(`^[\w+=,.@-]+$`)},
	"PolicyName":               {aString, 1, 128, `[\w+=,.@-]+`, regexp.MustCompile(`^[\w+=,.@-]+$`)},
	"PolicyArn":                {aString, 20, 2048, "", nil},
	"AssumeRolePolicyDocument": documentShape,
	"PolicyDocument":           documentShape,
	"VersionId":                {aString, 0, 0, `v[1-9][0-9]*(\.[A-Za-z0-9-]*)?`, regexp.MustCompile(`^v[1-9][0-9]*(\.[A-Za-z0-9-]*)?$`)},
	"Path":                     {aString, 1, 512, `(\u002F)|(\u002F[\u0021-\u007E]+\u002F)`, regexp.MustCompile(`^(/|/[\x{21}-\x{7e}]+/)$`)},
	"CreatePolicy.Path":        {aString, 1, 512, `((/[A-Za-z0-9\.,\+@=_-]+)*)/`, regexp.MustCompile(`^(/[A-Za-z0-9.,+@=_-]+)*/$`)},
	"PathPrefix":               {aString, 1, 512, `\u002F[\u0021-\u007F]*`, regexp.MustCompile(`^/[\x{21}-\x{7f}]*$`)},
	"Marker":                   {aString, 1, 320, `[\u0020-\u00FF]+`, regexp.MustCompile(`^[\x{20}-\x{ff}]+$`)},
	"Description":              {aString, 0, 1000, `[\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*`, regexp.MustCompile(`^[\t\n\r\x{20}-\x{7e}\x{a1}-\x{ff}]*$`)},
	"CreatePolicy.Description": {aString, 0, 1000, "", nil},
	"MaxItems":                 {aNumber, 1, 1000, "", nil},
	"MaxSessionDuration":       {aNumber, 3600, 43200, "", nil},
	"Tags":                     {aList, 0, 50, "", nil},
	"Tags.member.Key":          {aString, 1, 128, tagPattern + "+", regexp.MustCompile("^" + tagPattern + "+$")},
	"Tags.member.Value":        {aString, 0, 256, tagPattern + "*", regexp.MustCompile("^" + tagPattern + "*$")},
	"TagKeys":                  {aList, 0, 50, "", nil},
	"TagKeys.member":           {aString, 1, 128, tagPattern + "+", regexp.MustCompile("^" + tagPattern + "+$")},
}

const tagPattern = `[\p{L}\p{Z}\p{N}_.:/=+\-@]`

var documentShape = parameterShape{aString, 1, 131072, `[\u0009\u000A\u000D\u0020-\u00FF]+`, regexp.MustCompile(`^[\t\n\r\x{20}-\x{ff}]+$`)}

// broken returns the constraints that a value breaks, in AWS's words and order.
func (s *parameterShape) broken(value string) []string {
	var out []string
	what, n := "length", utf8.RuneCountInString(value)
	if s.form == aNumber {
		var err error
		if n, err = strconv.Atoi(value); err != nil {
			return []string{"Member must be a number"}
		}
		what = "value"
	}
	if s.ok != nil && !s.ok.MatchString(value) {
		out = append(out, "Member must satisfy regular expression pattern: "+s.pattern)
	}
	if n < s.min {
		out = append(out, fmt.Sprintf("Member must have %s greater than or equal to %d", what, s.min))
	}
	if s.max > 0 && n > s.max {
		out = append(out, fmt.Sprintf("Member must have %s less than or equal to %d", what, s.max))
	}
	return out
}

// check refuses a form that breaks the API model: everything that is wrong with it in one error, in AWS's words.
func (a *queryAction) check(form url.Values) error {
	var failures []string
	fail := func(value, member, constraint string) {
		failures = append(failures, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", value, member, constraint))
	}
	// one checks the parameter of a name in the form against the shape of a name in the table.
	one := func(name, shapeName, member string, required bool) {
		if !form.Has(name) {
			if required {
				fail("null", member, "Member must not be null")
			}
			return
		}
		shape, ok := parameterShapes[a.name+"."+shapeName]
		if !ok {
			shape = parameterShapes[shapeName]
		}
		for _, constraint := range shape.broken(form.Get(name)) {
			fail(quoted(form.Get(name)), member, constraint)
		}
	}
	for _, parameter := range slices.Concat(a.required, a.optional) {
		required := slices.Contains(a.required, parameter)
		list := parameterShapes[parameter]
		if list.form != aList {
			one(parameter, parameter, lowerFirst(parameter), required)
			continue
		}
		n := lengthOf(form, parameter)
		if n == 0 && required && !form.Has(parameter) { // an empty list is the bare name
			fail("null", lowerFirst(parameter), "Member must not be null")
		}
		if n > list.max {
			fail(quoted(listText(form, parameter, n)), lowerFirst(parameter), fmt.Sprintf("Member must have length less than or equal to %d", list.max))
			continue
		}
		for i := range n {
			name, member := memberOf(parameter, i+1), lowerFirst(memberOf(parameter, i+1))
			if _, plain := parameterShapes[parameter+".member"]; plain {
				one(name, parameter+".member", member, true)
				continue
			}
			for _, field := range []string{"Key", "Value"} {
				one(name+"."+field, parameter+".member."+field, strings.Replace(member, ".member.", ".", 1)+".member."+lowerFirst(field), true)
			}
		}
	}
	if len(failures) == 0 {
		if form.Has("PermissionsBoundary") { // a role without its boundary would be allowed more than the caller believes
			return &iam.Error{Code: "NotImplemented", Message: "The fake has no permissions boundaries.", Status: http.StatusNotImplemented}
		}
		return nil
	}
	counted := "1 validation error detected: "
	if n := len(failures); n > 1 {
		counted = strconv.Itoa(n) + " validation errors detected: "
	}
	return &iam.Error{Code: "ValidationError", Message: counted + strings.Join(failures, "; "), Status: http.StatusBadRequest}
}

// quoted is a value as it stands in a message, cut if it is long.
func quoted(value string) string {
	if len(value) > 256 {
		value = strings.ToValidUTF8(value[:256], "") + "..."
	}
	return "'" + value + "'"
}

func listText(form url.Values, name string, n int) string {
	var out []string
	for i := range n {
		prefix := memberOf(name, i+1)
		out = append(out, cmp.Or(form.Get(prefix), form.Get(prefix+".Key")))
	}
	return "[" + strings.Join(out, ", ") + "]"
}
