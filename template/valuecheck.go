package template

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// fault is a breach of a rule by one value, before it is known where the value stands.
type fault struct {
	rule     finding.Rule
	severity finding.Severity
	message  string
	err      error // the cause, for errors.As; may be nil
}

// valueRule ties a property to the rule for its values.
type valueRule struct {
	name finding.Rule
	rule *rule.Rule
}

var valueRules = map[string]valueRule{
	"ThingName":        {ruleThingName, rule.ThingName},
	"ThingTypeName":    {ruleThingType, rule.ThingTypeName},
	"ThingGroups":      {ruleThingGroup, rule.ThingGroupName},
	"BillingGroup":     {ruleBillingGroup, rule.BillingGroupName},
	"AttributePayload": {ruleAttribute, rule.AttributeValue},
	"PolicyName":       {rulePolicyName, rule.PolicyName},
	"CertificateId":    {ruleCertificateID, rule.CertificateID},
}

const maxCertificate = 65536 // characters of a PEM certificate

// checkValue checks the value of a property; for AttributePayload and ThingGroups that is one attribute or group.
func checkValue(property, value string) []fault {
	if privatekey.In(value) {
		return []fault{{rulePrivateKey, finding.Error, privateKeyMessage, nil}}
	}
	if vr, ok := valueRules[property]; ok {
		if err := vr.rule.Check(value); err != nil {
			return []fault{{vr.name, finding.Error, err.Error() + placeholderHint(value), err}}
		}
		return nil
	}
	one := func(ruleName finding.Rule, format string, args ...any) []fault {
		return []fault{{ruleName, finding.Error, fmt.Sprintf(format, args...), nil}}
	}
	n := utf8.RuneCountInString(value)
	switch property {
	case "CertificateSigningRequest":
		switch {
		case value == "":
			return one(ruleCSR, "the certificate signing request is empty")
		case n > rule.CSR:
			return one(ruleCSR, "the certificate signing request is %d characters long, AWS allows %d", n, rule.CSR)
		case !strings.Contains(value, "CERTIFICATE REQUEST-----"):
			return one(ruleCSR, "this is not a certificate signing request in PEM: there is no line BEGIN CERTIFICATE REQUEST")
		}
	case "CertificatePem", "CACertificatePem":
		switch {
		case value == "":
			return one(ruleCertPEM, "the certificate is empty")
		case n > maxCertificate:
			return one(ruleCertPEM, "the certificate is %d characters long, AWS allows %d", n, maxCertificate)
		case !strings.Contains(value, "-----BEGIN CERTIFICATE-----"):
			return one(ruleCertPEM, "this is not a certificate in PEM: there is no line BEGIN CERTIFICATE")
		}
	case "PolicyDocument":
		_, faults := checkDocument(value)
		return faults
	case "Status":
		if !isStatus(value) {
			return one(ruleCertificateStatus, "%s%s", statusMessage(value), placeholderHint(value))
		}
	case "ThingPrincipalType":
		if value != string(ExclusiveThing) && value != string(NonExclusiveThing) {
			return one(ruleThingPrincipal, "ThingPrincipalType is %s: AWS takes EXCLUSIVE_THING and NON_EXCLUSIVE_THING%s", rule.Quote(value),
				placeholderHint(value))
		}
	}
	return nil
}

// unset is what to ask about a constant that is empty.
const unset = "was a variable of the shell not set?"

// placeholders are how people write text that is to be replaced.
var placeholders = regexp.MustCompile(`^\$[A-Za-z_]|\$\{|\{\{|^<.*>$|^%[A-Za-z_]+%$|^\[[A-Za-z_ ]+\]$`)

// placeholderHint asks about a value that breaks a rule and looks like one that was to be replaced.
func placeholderHint(value string) string {
	if placeholders.MatchString(value) {
		return "; is it a placeholder that was to be filled in?"
	}
	return ""
}

func checkAttributeCount(n int, hasType bool) []fault {
	most, with := rule.AttributesWithout, "without a thing type"
	if hasType {
		most, with = rule.AttributesWith, "with a thing type"
	}
	if n <= most {
		return nil
	}
	return []fault{{ruleAttributeCount, finding.Error, fmt.Sprintf("%d attributes; AWS allows %d %s", n, most, with), nil}}
}

func checkGroups(groups []string) []fault {
	var out []fault
	if n := len(groups); n > rule.GroupsPerThing {
		out = append(out, fault{ruleGroupCount, finding.Error,
			fmt.Sprintf("%d groups; AWS allows %d", n, rule.GroupsPerThing), nil})
	}
	seen := map[string]bool{}
	for _, g := range groups {
		if seen[g] {
			out = append(out, fault{ruleGroupRepeated, finding.Warning, fmt.Sprintf("group %s is named twice", rule.Quote(g)), nil})
		}
		seen[g] = true
	}
	return out
}

const privateKeyMessage = "the value is a private key, which must never leave its keeper: give the certificate signing request"
