package template

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Statement is one statement of an AWS IoT policy.
type Statement struct {
	Effect   string   // Allow or Deny
	Action   []string // such as iot:Connect
	Resource []string // ARNs, or *
}

// Allow begins a statement: Allow("iot:Connect").On("arn:…:client/…").
func Allow(actions ...string) Statement { return Statement{Effect: "Allow", Action: actions} }

// Deny begins a statement that forbids; it wins over any that allows.
func Deny(actions ...string) Statement { return Statement{Effect: "Deny", Action: actions} }

// On returns the statement for these resources.
func (s Statement) On(resources ...string) Statement {
	s.Resource = resources
	return s
}

// Document writes an AWS IoT policy document as the string of JSON that PolicyDocument takes.
func Document(statements ...Statement) Literal {
	if statements == nil {
		statements = []Statement{}
	}
	w := &writer{}
	w.open('{')
	w.key("Version")
	w.string("2012-10-17")
	w.key("Statement")
	w.open('[')
	for _, s := range statements {
		w.open('{')
		w.key("Effect")
		w.string(s.Effect)
		w.key("Action")
		w.strings(s.Action)
		w.key("Resource")
		w.strings(s.Resource)
		w.close('}')
	}
	w.close(']')
	w.close('}')
	return Literal(w.b.String())
}

func (w *writer) strings(list []string) {
	w.open('[')
	for _, s := range list {
		w.string(s)
	}
	w.close(']')
}

// OwnTopics is a policy document that lets a device connect under its own thing name, and publish, subscribe and
// receive on topics below devices/<thing name>/, and nothing else. The certificate must be attached to the thing, as
// AWS does when the template has both. partition is "aws", "aws-cn" or "aws-us-gov".
//
// See https://docs.aws.amazon.com/iot/latest/developerguide/thing-policy-variables.html.
func OwnTopics(partition, region, account string) Literal {
	arn := fmt.Sprintf("arn:%s:iot:%s:%s:", partition, region, account)
	const own = "devices/${iot:Connection.Thing.ThingName}/*"
	return Document(
		Allow("iot:Connect").On(arn+"client/${iot:Connection.Thing.ThingName}"),
		Allow("iot:Publish", "iot:Receive").On(arn+"topic/"+own),
		Allow("iot:Subscribe").On(arn+"topicfilter/"+own),
	)
}

// policyDocument is a policy document as far as the checks look at it.
type policyDocument struct {
	Version   json.RawMessage
	Statement oneOrMore[statement]
}

type statement struct {
	Effect                                   string
	Action, NotAction, Resource, NotResource oneOrMore[string]
}

// oneOrMore is a JSON value that may be a list or, when it is only one, stand alone.
type oneOrMore[T any] []T

func (o *oneOrMore[T]) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		return json.Unmarshal(data, (*[]T)(o))
	}
	if string(data) == "null" {
		return nil
	}
	*o = make([]T, 1)
	return json.Unmarshal(data, &(*o)[0])
}

// checkDocument checks the text of a policy document.
func checkDocument(text string) []fault {
	var out []fault
	add := func(ruleName string, severity Severity, format string, args ...any) {
		out = append(out, fault{ruleName, severity, fmt.Sprintf(format, args...), nil})
	}
	if n := countNonSpace(text); n > rule.PolicyDocument {
		add(rulePolicySize, Error, "the policy document is %d characters long without white space, AWS allows %d; "+
			"make the policy beforehand and refer to it by PolicyName, or split it", n, rule.PolicyDocument)
	}
	root, syntax := readJSON(newSource([]byte(text)))
	switch {
	case syntax != nil:
		hint := ""
		if syntax.Hint != "" {
			hint = "; " + syntax.Hint
		}
		add(rulePolicyJSON, Error, "the policy document is not JSON: at byte %d: %s%s", syntax.Offset, syntax.Message, hint)
		return out
	case root.kind != kindObject:
		add(rulePolicyJSON, Error, "the policy document must be a JSON object, this is %s", root.kind)
		return out
	}
	var doc policyDocument
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		add(rulePolicyShape, Error, "the policy document does not have the form of a policy: %v", err)
		return out
	}
	if root.get("Version") == nil {
		add(rulePolicyShape, Warning, `the policy document has no Version; AWS IoT uses "2012-10-17"`)
	}
	if root.get("Statement") == nil || len(doc.Statement) == 0 {
		add(rulePolicyShape, Error, "the policy document has no Statement")
	}
	for i, s := range doc.Statement {
		switch {
		case s.Effect != "Allow" && s.Effect != "Deny":
			add(rulePolicyShape, Error, "statement %d of the policy has the Effect %q: it must be Allow or Deny", i+1, clip(s.Effect))
		case len(s.Action) == 0 && len(s.NotAction) == 0:
			add(rulePolicyShape, Error, "statement %d of the policy has no Action", i+1)
		case len(s.Resource) == 0 && len(s.NotResource) == 0:
			add(rulePolicyShape, Error, "statement %d of the policy has no Resource", i+1)
		}
	}
	return out
}

// allows reports what a policy document grants: the action, and everything at all.
func allows(text, action string) (granted, everything bool) {
	var doc policyDocument
	if json.Unmarshal([]byte(text), &doc) != nil {
		return false, false
	}
	for _, s := range doc.Statement {
		if s.Effect != "Allow" {
			continue
		}
		match := matches(s.Action, action)
		if len(s.NotAction) > 0 {
			match = !matches(s.NotAction, action)
		}
		granted = granted || match
		all := matches(s.Action, "iot:") || len(s.NotAction) > 0
		for _, r := range s.Resource {
			// The whole account is everything too: arn:aws:iot:us-east-1:123456789012:*
			whole := r == "*" || strings.HasSuffix(r, ":*") && strings.Count(r, ":") == 5
			everything = everything || all && whole
		}
	}
	return granted, everything
}

// matches reports whether one of the patterns covers the action. Action names do not depend on case.
func matches(patterns []string, action string) bool {
	for _, p := range patterns {
		// An action has no slash, and path.Match's other special characters do not occur in actions.
		if ok, err := path.Match(strings.ToLower(p), strings.ToLower(action)); ok && err == nil {
			return true
		}
	}
	return false
}
