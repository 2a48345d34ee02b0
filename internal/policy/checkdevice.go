package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// CheckDevice looks for what keeps statements of an AWS IoT policy from having the effect that was meant: actions,
// variables and condition keys that AWS does not document for devices, resources of a type that does not go with the
// actions, MQTT's wildcards in topics, and ARNs with something to be filled in. AWS takes such documents, and the device
// is denied what they were to allow.
//
// The kinds of problems are [UnknownAction], [UnknownVariable], [WrongResource], [UnusedResource], [TopicWildcard] and
// [Placeholder].
func (d *Document) CheckDevice() []Problem {
	c := &deviceCheck{placeholders: map[string]bool{}}
	for i := range d.Statements {
		c.statement(&d.Statements[i])
	}
	return c.problems
}

type deviceCheck struct {
	problems     []Problem
	s            *Statement
	placeholders map[string]bool // those that were reported: most documents have one in every resource
}

func (c *deviceCheck) add(kind Kind, name, meant, format string, args ...any) {
	message := fmt.Sprintf("statement %d of the policy: ", c.s.Index+1) + fmt.Sprintf(format, args...)
	if meant != "" {
		message += fmt.Sprintf("; did you mean %s?", meant)
	}
	c.problems = append(c.problems, Problem{Kind: kind, Statement: c.s.Index, Name: name, Meant: meant, Message: message})
}

func (c *deviceCheck) statement(s *Statement) {
	c.s = s
	known := true // every action is one whose resources are known
	for _, a := range slices.Concat(s.Actions, s.NotActions) {
		known = c.action(a) && known
	}
	whole := true // every resource can be understood
	for _, r := range slices.Concat(s.Resources, s.NotResources) {
		c.variables(r)
		whole = c.resource(r) && whole
	}
	for _, cond := range s.Conditions {
		if !strings.Contains(cond.Key, Hole) {
			c.name(cond.Key, "condition key", keyNames)
		}
		for _, v := range cond.Values {
			c.variables(v)
		}
	}
	if whole && len(s.NotActions) == 0 && len(s.NotResources) == 0 {
		c.pairs(known)
	}
}

// action reports whether it is known what the action acts on.
func (c *deviceCheck) action(action string) bool {
	namespace, _, _ := strings.Cut(strings.ToLower(action), ":")
	switch p := compile(action, fold); {
	case strings.Contains(action, Hole):
		return false
	case slices.ContainsFunc(actionNames, func(name string) bool { return p.match(name, nil) == yes }):
		return true
	case strings.ContainsAny(namespace, "*?"):
		return false
	}
	near := ""
	// sns:Publish is no slip for iot:Publish.
	own := !strings.Contains(action, ":") || slices.ContainsFunc([]string{"iot", "iotjobsdata", "greengrass", "mqtt", "iotdata", "iotcore"},
		func(known string) bool { return spelling.Distance(spelling.Fold(namespace), known) < 2 })
	if own && !strings.ContainsAny(action, "*?") {
		near = meant(action, actionNames)
	}
	c.add(UnknownAction, action, near, "AWS documents no action %s for devices: it allows or denies them nothing", rule.Quote(action))
	return false
}

// variables looks at the variables in a text.
func (c *deviceCheck) variables(text string) {
	names, outside := variables(text)
	for _, name := range names {
		key, _, _ := strings.Cut(name, ",") // what follows is a default
		if key = strings.TrimSpace(key); slices.Contains([]string{"*", "?", "$"}, key) || strings.Contains(key, Hole) {
			continue
		}
		c.name(key, "variable", variableNames)
	}
	if strings.Contains(outside, "${") {
		c.add(UnknownVariable, text, "", "a variable in %s is not closed: } is missing", rule.Quote(text))
		return
	}
	for _, bare := range []string{"iot:ClientId", "iot:Connection.", "iot:Certificate"} {
		if strings.Contains(outside, bare) {
			c.add(UnknownVariable, text, "", "%s stands in %s without ${ and } around it, so it is plain text", bare, rule.Quote(text))
			return
		}
	}
}

// name looks at the name of a variable or of a condition's key.
func (c *deviceCheck) name(name, what string, known []string) {
	namespace, _, hasNamespace := strings.Cut(strings.ToLower(name), ":")
	quoted := rule.Quote(name)
	if what == "variable" {
		quoted = rule.Quote("${" + name + "}")
	}
	switch {
	case !hasNamespace:
		near := ""
		for _, k := range known {
			if strings.EqualFold(lastWord(k), name) {
				near = k
				break
			}
		}
		c.add(UnknownVariable, name, near, "%s is no %s of AWS's; is it a placeholder that was to be filled in?", quoted, what)
	case strings.HasPrefix(name, "AWS::"):
		c.add(UnknownVariable, name, "", "%s is CloudFormation's, and nothing fills it in an AWS IoT policy", quoted)
	case namespace == "iot" && !isVariable(name, known):
		c.add(UnknownVariable, name, meant(name, known), "there is no %s %s, so nothing matches it", what, quoted)
	case namespace == "aws" && !isVariable(name, globalNames):
		if near := meant(name, globalNames); near != "" {
			c.add(UnknownVariable, name, near, "there is no %s %s that a device's connection has", what, quoted)
		}
	}
}

// resource looks at one resource and reports whether it can be understood.
func (c *deviceCheck) resource(resource string) bool {
	quoted := rule.Quote(strings.ReplaceAll(resource, Hole, "…"))
	parts := splitARN(resource)
	switch {
	case resource == "":
		c.add(WrongResource, resource, "", "a resource is empty: nothing matches it")
		return false
	case strings.ContainsAny(resource[:1], "*?") || strings.HasPrefix(resource, Hole) || strings.HasPrefix(resource, "${"):
		return true
	case parts[0] != "arn":
		c.add(WrongResource, resource, "", "the resource %s is no ARN and not *: nothing matches it; "+
			"write arn:aws:iot:<region>:<account>:%s", quoted, suggestedResource(resource))
		return false
	case len(parts) < 6:
		if !open(parts[len(parts)-1]) {
			c.add(WrongResource, resource, "", "the resource %s is not a whole ARN: nothing matches it", quoted)
			return false
		}
		return true
	}
	c.arn(parts, quoted)
	name := parts[5]
	if _, outside := variables(name); strings.HasPrefix(name, typeTopic) && strings.ContainsAny(outside, "+#") {
		c.add(TopicWildcard, resource, "", "the resource %s has + or #, which no topic's name has: in a policy they stand for themselves; "+
			"write * for any characters", quoted)
	}
	if parts[2] == "iot" && !slices.ContainsFunc(deviceTypes[:], func(kind string) bool { return mayBe(resource, kind) }) {
		kind, _, _ := strings.Cut(name, "/")
		if near := meant(kind+"/", deviceTypes[:]); near != "" {
			c.add(WrongResource, resource, near, "the resource %s is of the type %s, which no action of a device acts on", quoted,
				rule.Quote(kind+"/"))
			return false
		}
	}
	return open(parts[2]) || parts[2] == "iot" || parts[2] == "greengrass"
}

// suggestedResource is what may follow an ARN's account.
func suggestedResource(resource string) string {
	if slices.ContainsFunc(deviceTypes[:], func(kind string) bool { return strings.HasPrefix(resource, kind) }) {
		return resource
	}
	return typeClient + "…"
}

// arn looks at the parts of an ARN before the resource's name.
func (c *deviceCheck) arn(parts []string, quoted string) {
	wrong := func(kind Kind, format string, args ...any) {
		c.add(kind, strings.Join(parts, ":"), "", "the resource %s %s", quoted, fmt.Sprintf(format, args...))
	}
	for _, p := range []struct {
		what, text string
		ok         func(string) bool
	}{
		{"partition", parts[1], isPartition}, {"region", parts[3], isRegion}, {"account", parts[4], partition.IsAccount},
	} {
		seen := p.what + ":" + p.text
		if open(p.text) || p.ok(p.text) || c.placeholders[seen] {
			continue
		}
		c.placeholders[seen] = true
		if p.text == "" {
			wrong(Placeholder, "has no %s: nothing matches it; * is any", p.what)
			continue
		}
		wrong(Placeholder, "has %s for its %s, so nothing matches it or any other that has it; is it a placeholder that was to be filled in?",
			rule.Quote(p.text), p.what)
	}
	if !open(parts[2]) && !slices.Contains([]string{"iot", "greengrass"}, parts[2]) {
		wrong(WrongResource, "is of the service %s; what devices act on is of iot", rule.Quote(parts[2]))
	}
}

func isPartition(s string) bool {
	return slices.ContainsFunc(partition.All(), func(p partition.Partition) bool { return p.Name == s })
}

// isRegion recognises the form of AWS's regions, also of new ones: eu-central-1, us-gov-west-1.
func isRegion(s string) bool {
	words := strings.Split(s, "-")
	last := len(words) - 1
	if last < 2 || !isDigits(words[last]) {
		return false
	}
	return !slices.ContainsFunc(words[:last], func(w string) bool { return w == "" || strings.Trim(w, "abcdefghijklmnopqrstuvwxyz") != "" })
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// pairs looks for actions of the statement that none of its resources goes with, and for resources that no action goes
// with.
func (c *deviceCheck) pairs(known bool) {
	if len(c.s.Resources) == 0 {
		return
	}
	taken := map[string]bool{} // the types that the actions take
	idle, anything := false, false
	for i, a := range c.s.Actions {
		p := &c.s.actions[i]
		fits, kind := false, ""
		for _, known := range deviceActions {
			if p.match(known.name, nil) != yes {
				continue
			}
			kind = known.kind
			taken[kind] = true
			anything = anything || kind == ""
			fits = fits || kind == "" || slices.ContainsFunc(c.s.Resources, func(r string) bool { return mayBe(r, kind) })
		}
		if !fits && kind != "" && !strings.ContainsAny(a, "*?") {
			idle = true
			c.add(WrongResource, a, "", "%s acts on resources of the type %s (arn:…:%[2]s…), and the statement has none, only %s: it has no effect",
				a, kind, rule.Quote(strings.ReplaceAll(c.s.Resources[0], Hole, "…")))
		}
	}
	if idle || anything || !known {
		return
	}
	for _, r := range c.s.Resources {
		used := func(kind string) bool { return taken[kind] && mayBe(r, kind) }
		if !slices.ContainsFunc(deviceTypes[:], used) {
			c.add(UnusedResource, r, "", "no action of the statement acts on the resource %s",
				rule.Quote(strings.ReplaceAll(r, Hole, "…")))
		}
	}
}
