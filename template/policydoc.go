package template

import (
	"fmt"
	"path"
	"slices"
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

// statement is a statement of a policy document as far as the checks look at it.
type statement struct {
	effect                                   string
	action, notAction, resource, notResource []string
	conditional                              bool
}

// checkDocument checks the text of a policy document and returns its statements, as far as they can be read.
func checkDocument(text string) ([]statement, []fault) {
	d := &documentChecker{}
	if n := countNonSpace(text); n > rule.PolicyDocument {
		d.add(rulePolicySize, Error, "the policy document is %d characters long without white space, AWS allows %d; "+
			"make the policy beforehand and refer to it by PolicyName, or split it", n, rule.PolicyDocument)
	}
	root, syntax := readJSON(newSource([]byte(text)))
	switch {
	case syntax != nil:
		hint := ""
		if syntax.Hint != "" {
			hint = "; " + syntax.Hint
		}
		d.add(rulePolicyJSON, Error, "the policy document is not JSON: at byte %d: %s%s", syntax.Offset, syntax.Message, hint)
	case root.kind != kindObject:
		d.add(rulePolicyJSON, Error, "the policy document must be a JSON object, this is %s", root.kind)
	default:
		d.document(root)
	}
	return d.statements, d.faults
}

// documentChecker goes through a policy document. Names of members count to the letter, as in a template.
type documentChecker struct {
	statements []statement
	faults     []fault
}

func (d *documentChecker) add(ruleName string, severity Severity, format string, args ...any) {
	d.faults = append(d.faults, fault{ruleName, severity, fmt.Sprintf(format, args...), nil})
}

func (d *documentChecker) document(root *node) {
	const version = "2012-10-17"
	d.members(root, "the policy document", "Version", "Id", "Statement")
	if v := root.get("Version"); v == nil {
		d.add(rulePolicyShape, Warning, "the policy document has no Version; AWS IoT uses %q", version)
	} else if v.kind != kindString || v.text != version {
		d.add(rulePolicyShape, Warning, "the Version of the policy document is %s; AWS IoT uses %q", rule.Quote(v.text), version)
	}
	list := root.get("Statement")
	switch {
	case list == nil, list.kind == kindNull, list.kind == kindArray && len(list.elems) == 0:
		d.add(rulePolicyShape, Error, "the policy document has no Statement")
	case list.kind == kindArray:
		for i, n := range list.elems {
			d.statement(n, fmt.Sprintf("statement %d of the policy", i+1))
		}
	default:
		d.statement(list, "the Statement of the policy")
	}
}

func (d *documentChecker) statement(n *node, where string) {
	if n.kind != kindObject {
		d.add(rulePolicyShape, Error, "%s must be an object, this is %s", where, n.kind)
		return
	}
	d.members(n, where, "Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition")
	s := statement{
		action: d.texts(n, where, "Action"), notAction: d.texts(n, where, "NotAction"),
		resource: d.texts(n, where, "Resource"), notResource: d.texts(n, where, "NotResource"),
	}
	if c := n.get("Condition"); c != nil {
		s.conditional = c.kind != kindNull && (c.kind != kindObject || len(c.members) > 0)
	}
	effect := n.get("Effect")
	if effect != nil && effect.kind == kindString {
		s.effect = effect.text
	}
	switch {
	case effect == nil:
		d.add(rulePolicyShape, Error, "%s has no Effect: it must be Allow or Deny", where)
	case s.effect != "Allow" && s.effect != "Deny":
		d.add(rulePolicyShape, Error, "%s has the Effect %s: it must be Allow or Deny", where, rule.Quote(effect.text))
	case len(s.action) == 0 && len(s.notAction) == 0:
		d.add(rulePolicyShape, Error, "%s has no Action", where)
	case len(s.resource) == 0 && len(s.notResource) == 0:
		d.add(rulePolicyShape, Error, "%s has no Resource", where)
	}
	d.statements = append(d.statements, s)
}

// members notes names that policies do not have, and names that stand twice.
func (d *documentChecker) members(n *node, where string, known ...string) {
	for _, m := range n.dups {
		d.add(rulePolicyShape, Warning, "%s has %s twice; the last one counts", where, rule.Quote(m.key))
	}
	for _, m := range n.members {
		if !slices.Contains(known, m.key) {
			d.add(rulePolicyShape, Warning, "%s has %s, which AWS does not document for AWS IoT policies%s", where, rule.Quote(m.key),
				didYouMean(m.key, known))
		}
	}
}

// texts returns what a member holds: a string, or a list of them.
func (d *documentChecker) texts(n *node, where, name string) []string {
	v := n.get(name)
	if v == nil || v.kind == kindNull {
		return nil
	}
	elems := v.elems
	if v.kind != kindArray {
		elems = []*node{v}
	}
	texts := make([]string, 0, len(elems))
	for _, e := range elems {
		if e.kind != kindString {
			d.add(rulePolicyShape, Error, "%s: %s must be a string or a list of strings, here is %s", where, name, e.kind)
			continue
		}
		texts = append(texts, e.text)
	}
	return texts
}

const actionConnect = "iot:Connect"

// connects reports what statements say about connecting: whether one may allow it, to any client, and whether one denies
// it to every client, whatever others allow.
func connects(statements []statement) (allowed, denied bool) {
	for _, s := range statements {
		switch {
		case !s.covers(actionConnect):
		case s.effect == "Allow":
			allowed = allowed || slices.ContainsFunc(s.resource, mayBeClient) ||
				len(s.notResource) > 0 && !slices.ContainsFunc(s.notResource, isEveryClient)
		case s.effect == "Deny":
			denied = denied || !s.conditional && slices.ContainsFunc(s.resource, isEveryClient)
		}
	}
	return allowed, denied
}

// allowsEverything reports whether a statement allows all actions, or all but some, on everything, or on all but some.
func allowsEverything(statements []statement) bool {
	return slices.ContainsFunc(statements, func(s statement) bool {
		// A pattern that takes an action without a name takes every one.
		return s.effect == "Allow" && s.covers("iot:") && (slices.ContainsFunc(s.resource, isEverything) ||
			len(s.notResource) > 0 && !slices.ContainsFunc(s.notResource, isEverything))
	})
}

func (s *statement) covers(action string) bool {
	return matches(s.action, action) || len(s.notAction) > 0 && !matches(s.notAction, action)
}

// isEverything recognises *, and an ARN of all there is in a region or an account: arn:aws:iot:us-east-1:123456789012:*
func isEverything(resource string) bool {
	if strings.Trim(resource, "*") == "" {
		return resource != ""
	}
	parts := strings.SplitN(resource, ":", 6)
	return parts[0] == "arn" && strings.HasSuffix(resource, "*") && (len(parts) < 6 || strings.Trim(parts[5], "*") == "")
}

const clientPrefix = "client/"

func isEveryClient(resource string) bool {
	parts := strings.SplitN(resource, ":", 6)
	return isEverything(resource) || len(parts) == 6 && strings.TrimRight(parts[5], "*") == clientPrefix && parts[5] != clientPrefix
}

// mayBeClient reports whether a resource can be what a device connects as: arn:…:client/…. An ARN of topics, for one,
// cannot.
func mayBeClient(resource string) bool {
	parts := strings.SplitN(resource, ":", 6)
	if parts[0] != "arn" || len(parts) < 6 {
		return true
	}
	fixed := parts[5]
	if i := strings.IndexAny(fixed, "*?$"); i >= 0 {
		fixed = fixed[:i]
		return strings.HasPrefix(clientPrefix, fixed) || strings.HasPrefix(fixed, clientPrefix)
	}
	return strings.HasPrefix(fixed, clientPrefix)
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
