package template

import (
	"fmt"

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
	return d, append(faults, effectFaults(d.CheckDevice())...)
}

// deviceRules ties what is found about a policy's effect to the rules of templates.
var deviceRules = map[policy.Kind]finding.Rule{
	policy.UnknownAction: rulePolicyAction, policy.UnknownVariable: rulePolicyVariable, policy.WrongResource: rulePolicyResource,
	policy.UnusedResource: rulePolicyResource, policy.TopicWildcard: rulePolicyTopic, policy.Placeholder: rulePolicyPlaceholder,
	policy.Elsewhere: rulePolicyElsewhere,
}

// effectFaults words what keeps a policy from having the effect that was meant. AWS takes such a document, so none is an
// error.
func effectFaults(problems []policy.Problem) []fault {
	faults := make([]fault, len(problems))
	for i, p := range problems {
		faults[i] = fault{deviceRules[p.Kind], finding.Warning, p.Message, nil}
		if p.Kind == policy.UnusedResource || p.Kind == policy.UnknownAction && p.Meant == "" {
			faults[i].severity = finding.Note
		}
	}
	return faults
}

// CheckPlace looks at the device's policy documents for statements that have no effect in the account and region where
// the device is registered, since all their resources are elsewhere. partition is "aws", "aws-cn" or another one of
// AWS's; an empty argument is not compared. What it finds is doubtful, never an error: AWS takes such documents.
func (r *Resolution) CheckPlace(partition, region, account string) finding.List {
	var out finding.List
	for i := range r.Policies {
		p := &r.Policies[i]
		if p.PolicyDocument == "" {
			continue
		}
		d, _ := policy.Parse(p.PolicyDocument)
		at := pointerTo("/Resources").child(p.LogicalName).child("Properties").child("PolicyDocument")
		for _, f := range effectFaults(d.CheckPlace(partition, region, account)) {
			out = append(out, finding.Finding{Rule: f.rule, Severity: f.severity, Pointer: at.String(), Message: f.message})
		}
	}
	return out
}

// AllowsConnect reports whether a policy document of the device may let it connect. A policy that the template names and
// one that a thing group carries may do that too: what they hold is in the account.
func (r *Resolution) AllowsConnect() bool {
	allowed := false
	for i := range r.Policies {
		d, _ := policy.Parse(r.Policies[i].PolicyDocument)
		grants, denies := d.Connects()
		if denies {
			return false
		}
		allowed = allowed || grants
	}
	return allowed
}
