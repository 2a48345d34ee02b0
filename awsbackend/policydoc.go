package awsbackend

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// parsePolicy reads a document that an account has. What the account took is not refused for members or operators that
// are unknown here.
func parsePolicy(text string) (*policy.Document, error) {
	d, problems := policy.Parse(text)
	for _, p := range problems {
		switch p.Kind {
		case policy.UnknownMember, policy.UnknownVersion, policy.UnknownOperator, policy.NoStatement:
		default:
			return nil, fmt.Errorf("read policy document: %w", p)
		}
	}
	return d, nil
}

// roleMay asks a role's policies about an action on a resource. What the request would bring with it is not known, so
// what depends on conditions is undecided.
func roleMay(policies []*policy.Document, action, resource string) policy.Decision {
	return policy.Evaluate(policy.Request{Action: action, Resource: resource, Partial: true}, policies...)
}

// allowsSome reports whether an Allow names an action at all, for whatever resource.
func allowsSome(policies []*policy.Document, action string) bool {
	return slices.ContainsFunc(policies, func(d *policy.Document) bool {
		return slices.ContainsFunc(d.Statements, func(s policy.Statement) bool {
			return s.Effect == policy.Allow && s.MatchesAction(action)
		})
	})
}

const sourceAccount = "aws:SourceAccount"

// trusts asks a trust policy whether AWS IoT may assume the role on behalf of an account. A role that lets everybody in
// without naming AWS IoT is not taken for a service role.
func trusts(trust *policy.Document, account string) policy.Decision {
	if !slices.ContainsFunc(trust.Statements, letsIn) {
		return policy.Decision{}
	}
	r := policy.Request{Principal: partition.IoT, Action: "sts:AssumeRole", Partial: true}
	if account != "" {
		r.Context = policy.Values{sourceAccount: {account}}
	}
	return policy.Evaluate(r, trust)
}

// letsIn reports whether a statement lets in AWS IoT by name.
func letsIn(s policy.Statement) bool {
	return s.Effect == policy.Allow && slices.Contains(s.Principals["Service"], partition.IoT)
}

// suffices reports whether EnsureRole can leave a trust policy alone: AWS IoT is let in and, if a guard account is
// asked for, only on behalf of that account. Conditions that nobody asked for stay: they were put there on purpose.
func suffices(trust *policy.Document, guard string) bool {
	if d := trusts(trust, guard); !d.Allowed() && !d.Undecided {
		return false
	}
	return guard == "" || !slices.ContainsFunc(trust.Statements, func(s policy.Statement) bool {
		return letsIn(s) && !slices.ContainsFunc(s.Conditions, func(c policy.Condition) bool { return guards(c, guard) })
	})
}

// guards reports whether a condition demands that the source is an account. All conditions of a statement must hold.
func guards(c policy.Condition, account string) bool {
	return (c.Operator == "StringEquals" || c.Operator == "StringLike") && strings.EqualFold(c.Key, sourceAccount) &&
		slices.Contains(c.Values, account)
}

// trustedBeside lists everyone but AWS IoT whom the policy lets in.
func trustedBeside(trust *policy.Document) []string {
	var others []string
	for _, s := range trust.Statements {
		if s.Effect != policy.Allow {
			continue
		}
		for kind, names := range s.Principals {
			for _, name := range names {
				if kind != "Service" || name != partition.IoT {
					others = append(others, name)
				}
			}
		}
	}
	slices.Sort(others)
	return slices.Compact(others)
}
