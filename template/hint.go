package template

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// slipOf returns the known name that name is, or was probably meant to be; "" if none is near.
func slipOf(name string, known []string) string {
	if slices.Contains(known, name) {
		return name
	}
	for _, k := range known {
		if plainName(name) == plainName(k) {
			return k
		}
	}
	best, most := "", 3
	for _, k := range known {
		// One wrong letter in a short name is likely to be another name.
		if d := spelling.Distance(plainName(name), plainName(k)); d < most && d <= len(k)/4 {
			best, most = k, d
		}
	}
	return best
}

// plainName drops what people vary: case, separators and a plural s.
func plainName(s string) string {
	return strings.TrimSuffix(spelling.Fold(s), "s")
}

func isFunction(name string) bool { return name == fnRef || slices.Contains(functionNames, name) }

// functionSlip looks at the only member of an object. It returns a message when that looks like a function but is not
// one a template can have.
func functionSlip(m member) (message, hint string) {
	switch {
	case m.key == fnRef && m.value.kind == kindString:
		return refSlip(m.value.text)
	case isFunction(m.key):
		return "", ""
	case strings.EqualFold(m.key, fnRef), strings.EqualFold(m.key, "!Ref"), strings.EqualFold(m.key, "Fn::Ref"):
		return fmt.Sprintf("there is no function %s", rule.Quote(m.key)), `write {"Ref": "Name"}`
	case !looksLikeFunction(m.key):
		return "", ""
	}
	message = fmt.Sprintf("there is no function %s: templates know Ref, %s", rule.Quote(m.key), strings.Join(functionNames, ", "))
	if plainName(m.key) == plainName("Fn::GetAtt") {
		return message, "Fn::GetAtt is CloudFormation's; here a device's own values are parameters: " +
			`declare a parameter and write {"Ref": "Name"}`
	}
	if meant := slipOf(m.key, functionNames); meant != "" {
		return message, fmt.Sprintf("did you mean %q?", meant)
	}
	return message, "this one belongs to CloudFormation; work the value out beforehand and give it as a parameter"
}

// looksLikeFunction tells FN::join, Fn:Join and Fn::GetAtt from an ordinary name.
func looksLikeFunction(name string) bool {
	if strings.HasPrefix(strings.ToLower(name), "fn:") {
		return true
	}
	p := plainName(name)
	return strings.HasPrefix(p, "fn") && slices.ContainsFunc(functionNames, func(f string) bool { return plainName(f) == p })
}

func refSlip(name string) (message, hint string) {
	quoted := rule.Quote(name)
	meant := fmt.Sprintf(`did you mean {"Ref": %s}?`, rule.Quote(strings.Trim(name, "{}$<> ")))
	switch {
	case strings.HasPrefix(name, "{{"), strings.HasPrefix(name, "${"), strings.HasPrefix(name, "<") && strings.HasSuffix(name, ">"):
		return quoted + " is not the name of a parameter", "brackets mark text to be replaced; " + meant
	case name == "":
		return "Ref has an empty name", `write {"Ref": "Name"} with the name of a parameter`
	case strings.TrimSpace(name) != name:
		return quoted + " has spaces around the parameter's name", meant
	}
	return "", ""
}

func oneOf(names []string) string {
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
