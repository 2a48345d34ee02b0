package iam

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// Parse reads a policy document as IAM does when it is given one. The error is an [*Error] with the code
// MalformedPolicyDocument.
func Parse(text string) (*policy.Document, error) {
	d, problems := policy.Parse(text)
	if len(problems) > 0 {
		return nil, refusal(problems[0])
	}
	for i := range d.Statements {
		s := &d.Statements[i]
		for _, action := range slices.Concat(s.Actions, s.NotActions) {
			switch vendor, name, ok := strings.Cut(action, ":"); {
			case action == "*":
			case !ok || vendor == "" || name == "":
				return nil, malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc. (statement %d)", i+1)
			case strings.Contains(name, ":"):
				return nil, malformed("Actions/Condition can contain only one colon. (statement %d)", i+1)
			case strings.ContainsFunc(vendor, func(c rune) bool { return c <= ' ' || c > '~' }):
				return nil, malformed("Vendor %s is not valid (statement %d)", vendor, i+1)
			}
		}
		for _, r := range slices.Concat(s.Resources, s.NotResources) {
			if r != "*" && !strings.HasPrefix(r, "arn:") && !strings.HasPrefix(r, "*") && !strings.HasPrefix(r, "$") {
				return nil, malformed("Resource %s must be in ARN format or \"*\". (statement %d)", r, i+1)
			}
			if err := checkARN(r); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// checkARN refuses what begins like an ARN and lacks a part of it, or has one that cannot be.
func checkARN(arn string) error {
	parts := strings.SplitN(arn, ":", 6) // arn:partition:service:region:account:resource
	if parts[0] != "arn" {
		return nil
	}
	known := func(p partition.Partition) bool { return p.Name == parts[1] }
	switch {
	case len(parts) < 3:
		return malformed("Resource vendor must be fully qualified and cannot contain regexes.")
	case !strings.ContainsAny(parts[1], "*?$") && !slices.ContainsFunc(partition.All(), known):
		return malformed("Partition %q is not valid for resource %q.", parts[1], arn)
	case len(parts) < 6:
		return malformed("The policy failed legacy parsing")
	case parts[2] == "s3" && parts[3] != "" && parts[3] != "*" && parts[4] == "": // an access point has both
		return malformed("Resource %s can not contain region information.", arn)
	case parts[2] == "iam" && parts[3] != "" && parts[3] != "*":
		return malformed("IAM resource %s cannot contain region information.", arn)
	}
	return nil
}

func malformed(format string, args ...any) *Error {
	return &Error{Code: "MalformedPolicyDocument", Message: fmt.Sprintf(format, args...), Status: 400}
}

// refusal words a problem as IAM does, where its words are known.
func refusal(p policy.Problem) *Error {
	number := p.Statement + 1
	switch p.Kind {
	case policy.NotJSON:
		return malformed("This policy contains invalid Json")
	case policy.RepeatedSID:
		return malformed("Statement IDs (SID) in a single policy must be unique.")
	case policy.NoAction:
		return malformed("Policy statement must contain actions. (statement %d)", number)
	case policy.UnknownOperator:
		return malformed("Invalid Condition type : %s (statement %d)", p.Name, number)
	case policy.WrongPrincipal:
		return malformed("Invalid principal in policy: %q (statement %d)", p.Name, number)
	default:
		return malformed("Syntax errors in policy: %s", p.Message)
	}
}

// checkTrust refuses what cannot be a trust policy.
func checkTrust(document string) error {
	d, err := Parse(document)
	if err != nil {
		return err
	}
	for i := range d.Statements {
		switch s := &d.Statements[i]; {
		case len(s.Resources) > 0 || len(s.NotResources) > 0:
			return malformed("Has prohibited field Resource")
		case s.Principals == nil && s.NotPrincipals == nil:
			return malformed("Missing required field Principal")
		case slices.ContainsFunc(s.Actions, func(a string) bool {
			return a != "*" && !strings.HasPrefix(strings.ToLower(a), "sts:")
		}):
			return malformed("AssumeRole policy must contain only statements that allow or deny sts actions")
		}
	}
	if policy.Size(document) > maxTrust {
		return limitExceeded("Cannot exceed quota for ACLSizePerRole: %d", maxTrust)
	}
	return nil
}

// checkIdentity refuses what cannot be an inline or managed policy.
func checkIdentity(document string) error {
	d, err := Parse(document)
	if err != nil {
		return err
	}
	for i := range d.Statements {
		switch s := &d.Statements[i]; {
		case s.Principals != nil || s.NotPrincipals != nil:
			return malformed("Policy document should not specify a principal.")
		case len(s.Resources) == 0 && len(s.NotResources) == 0:
			return malformed("Policy statement must contain resources.")
		}
	}
	return nil
}
