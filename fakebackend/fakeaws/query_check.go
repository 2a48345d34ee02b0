package fakeaws

import (
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
	min, max int            // characters; max 0 is no limit
	pattern  string         // as published
	ok       *regexp.Regexp // nil for any
}

// parameterShapes are the shapes of the parameters that are strings, by their names: each has the same in every action.
// Numbers, tags and paths are checked where they are read.
var parameterShapes = map[string]parameterShape{
	"RoleName":                 {1, 64, `[\w+=,.@-]+`, regexp.MustCompile(`^[\w+=,.@-]+$`)},
	"PolicyName":               {1, 128, `[\w+=,.@-]+`, regexp.MustCompile(`^[\w+=,.@-]+$`)},
	"PolicyArn":                {20, 2048, "", nil},
	"AssumeRolePolicyDocument": documentShape,
	"PolicyDocument":           documentShape,
	"VersionId":                {0, 0, `v[1-9][0-9]*(\.[A-Za-z0-9-]*)?`, regexp.MustCompile(`^v[1-9][0-9]*(\.[A-Za-z0-9-]*)?$`)},
	"Path":                     {1, 512, "", nil},
	"PathPrefix":               {1, 512, `\u002F[\u0021-\u007F]*`, regexp.MustCompile(`^/[\x{21}-\x{7f}]*$`)},
	"Marker":                   {1, 320, `[\u0020-\u00FF]+`, regexp.MustCompile(`^[\x{20}-\x{ff}]+$`)},
}

var documentShape = parameterShape{1, 131072, `[\u0009\u000A\u000D\u0020-\u00FF]+`, regexp.MustCompile(`^[\t\n\r\x{20}-\x{ff}]+$`)}

// check refuses a form that breaks the API model: everything that is wrong with it in one error, in AWS's words.
func (a *queryAction) check(form url.Values) error {
	var failures []string
	fail := func(value, parameter, constraint string) {
		failures = append(failures, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", value, lowerFirst(parameter), constraint))
	}
	for _, parameter := range slices.Concat(a.required, a.optional) {
		if !form.Has(parameter) {
			if slices.Contains(a.required, parameter) && !hasMembers(form, parameter) {
				fail("null", parameter, "Member must not be null")
			}
			continue
		}
		value, shape := form.Get(parameter), parameterShapes[parameter]
		n := utf8.RuneCountInString(value)
		quoted := "'" + value + "'"
		if len(value) > 256 {
			quoted = "'" + strings.ToValidUTF8(value[:256], "") + "...'"
		}
		if shape.ok != nil && !shape.ok.MatchString(value) {
			fail(quoted, parameter, "Member must satisfy regular expression pattern: "+shape.pattern)
		}
		if n < shape.min {
			fail(quoted, parameter, "Member must have length greater than or equal to "+strconv.Itoa(shape.min))
		}
		if shape.max > 0 && n > shape.max {
			fail(quoted, parameter, "Member must have length less than or equal to "+strconv.Itoa(shape.max))
		}
	}
	if len(failures) == 0 {
		return nil
	}
	counted := "1 validation error detected: "
	if n := len(failures); n > 1 {
		counted = strconv.Itoa(n) + " validation errors detected: "
	}
	return &iam.Error{Code: "ValidationError", Message: counted + strings.Join(failures, "; "), Status: http.StatusBadRequest}
}
