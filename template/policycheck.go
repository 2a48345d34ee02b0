package template

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// checkDocument checks the text of a policy document and returns it, as far as it can be read.
func checkDocument(text string) (*policy.Document, []fault) {
	var faults []fault
	add := func(ruleName finding.Rule, severity finding.Severity, format string, args ...any) {
		faults = append(faults, fault{ruleName, severity, fmt.Sprintf(format, args...), nil})
	}
	if n := policy.Size(text); n > rule.PolicyDocument {
		add(rulePolicySize, finding.Error, "the policy document is %d characters long without white space, AWS allows %d; "+
			"make the policy beforehand and refer to it by PolicyName, or split it", n, rule.PolicyDocument)
	}
	// The template's own reader knows what people get wrong in JSON and how to mend it.
	if _, syntax := readJSON(newSource([]byte(text))); syntax != nil {
		add(rulePolicyJSON, finding.Error, "the policy document is not JSON: at byte %d: %s", syntax.Offset, syntax.Message)
		return new(policy.Document), faults
	}
	d, problems := policy.Parse(text)
	unreadable := false
	for _, p := range problems {
		switch p.Kind {
		case policy.NotJSON, policy.NotObject:
			ruleName := finding.Rule(rulePolicyShape)
			if p.Statement < 0 {
				ruleName, unreadable = rulePolicyJSON, true
			}
			add(ruleName, finding.Error, "%s", p.Message)
		case policy.UnknownVersion: // below
		case policy.UnknownMember:
			add(rulePolicyShape, finding.Warning, "%s%s", p.Message, didYouMean(p.Name, p.Known))
		case policy.RepeatedMember:
			add(rulePolicyShape, finding.Warning, "%s", p.Message)
		default:
			add(rulePolicyShape, finding.Error, "%s", p.Message)
		}
	}
	switch {
	case unreadable:
		return d, faults
	case d.Version == "":
		add(rulePolicyShape, finding.Warning, "the policy document has no Version; AWS IoT uses %q", policy.Version2012)
	case d.Version != policy.Version2012:
		add(rulePolicyShape, finding.Warning, "the Version of the policy document is %s; AWS IoT uses %q", rule.Quote(d.Version), policy.Version2012)
	}
	for i := range d.Statements {
		s := &d.Statements[i]
		if len(s.Resources) == 0 && len(s.NotResources) == 0 {
			add(rulePolicyShape, finding.Error, "statement %d of the policy has no Resource", s.Index+1)
		}
		if s.Principals != nil || s.NotPrincipals != nil {
			add(rulePolicyShape, finding.Warning, "statement %d of the policy has a principal, which AWS does not document for AWS IoT policies", s.Index+1)
		}
	}
	return d, faults
}

const actionConnect = "iot:Connect"

// connects reports what a document decides about connecting: whether a statement may allow it, to any client, and
// whether one denies it to every client, whatever others allow.
func connects(d *policy.Document) (allowed, denied bool) {
	for i := range d.Statements {
		switch s := &d.Statements[i]; {
		case !s.MatchesAction(actionConnect):
		case s.Effect == policy.Allow:
			allowed = allowed || slices.ContainsFunc(s.Resources, mayBeClient) ||
				len(s.NotResources) > 0 && !slices.ContainsFunc(s.NotResources, isEveryClient)
		case s.Effect == policy.Deny:
			denied = denied || len(s.Conditions) == 0 && slices.ContainsFunc(s.Resources, isEveryClient)
		}
	}
	return allowed, denied
}

// allowsEverything reports whether a statement allows all actions, or all except some, on everything, or on all except
// some.
func allowsEverything(d *policy.Document) bool {
	return slices.ContainsFunc(d.Statements, func(s policy.Statement) bool {
		// A pattern that takes an action without a name takes every one.
		return s.Effect == policy.Allow && s.MatchesAction("iot:") && (slices.ContainsFunc(s.Resources, isEverything) ||
			len(s.NotResources) > 0 && !slices.ContainsFunc(s.NotResources, isEverything))
	})
}

// isEverything recognises *, and an ARN of everything in a region or an account: arn:aws:iot:us-east-1:123456789012:*
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
