package awsbackend

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

// policy is an IAM policy document, read as far as the preflight needs it.
type policy struct {
	Statement []policyStatement
}

type policyStatement struct {
	Effect      string
	Principal   trusted
	Action      words
	NotAction   words
	Resource    words
	NotResource words
	Condition   map[string]map[string]words
}

// trusted is the Principal of a statement: "*", or names by their kind.
type trusted map[string]words

// UnmarshalJSON reads "*" as anyone of kind AWS, which is what it means.
func (t *trusted) UnmarshalJSON(data []byte) error {
	var anyone string
	if json.Unmarshal(data, &anyone) == nil {
		*t = trusted{"AWS": {anyone}}
		return nil
	}
	var kinds map[string]words
	if err := json.Unmarshal(data, &kinds); err != nil {
		return err
	}
	*t = kinds
	return nil
}

// parsePolicy reads a document whose Statement is one statement or a list.
func parsePolicy(text string) (*policy, error) {
	var raw struct{ Statement json.RawMessage }
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, fmt.Errorf("read policy document: %w", err)
	}
	p := &policy{}
	if len(raw.Statement) == 0 {
		return p, nil
	}
	var err error
	if raw.Statement[0] == '[' {
		err = json.Unmarshal(raw.Statement, &p.Statement)
	} else {
		p.Statement = make([]policyStatement, 1)
		err = json.Unmarshal(raw.Statement, &p.Statement[0])
	}
	if err != nil {
		return nil, fmt.Errorf("read policy document: %w", err)
	}
	return p, nil
}

// verdict is what documents say of one request.
type verdict int

const (
	silent      verdict = iota // no statement allows it
	conditional                // it hangs on conditions that are not evaluated here
	allowed
	denied
)

// allows says whether the policies together let an action on a resource pass. Conditions are not evaluated: an Allow or
// a Deny under one makes the answer conditional.
func allows(policies []*policy, action, resource string) verdict {
	v := silent
	maybeDenied := false
	for _, p := range policies {
		for _, s := range p.Statement {
			if !s.covers(action, resource) {
				continue
			}
			switch {
			case s.Effect == "Deny" && len(s.Condition) == 0:
				return denied
			case s.Effect == "Deny":
				maybeDenied = true
			case s.Effect == "Allow" && len(s.Condition) == 0:
				v = allowed
			case s.Effect == "Allow":
				v = max(v, conditional)
			}
		}
	}
	if v == allowed && maybeDenied {
		return conditional
	}
	return v
}

func (s *policyStatement) covers(action, resource string) bool {
	exact := func(pattern string) bool { return wildcard(pattern, resource) }
	res := slices.ContainsFunc(s.Resource, exact) || len(s.NotResource) > 0 && !slices.ContainsFunc(s.NotResource, exact)
	return res && s.names(action)
}

// names reports whether the statement is about an action.
func (s *policyStatement) names(action string) bool {
	fold := func(pattern string) bool { return wildcard(strings.ToLower(pattern), strings.ToLower(action)) }
	return slices.ContainsFunc(s.Action, fold) || len(s.NotAction) > 0 && !slices.ContainsFunc(s.NotAction, fold)
}

// allowsSome reports whether an Allow names an action at all, for whatever resource.
func allowsSome(policies []*policy, action string) bool {
	return slices.ContainsFunc(policies, func(p *policy) bool {
		return slices.ContainsFunc(p.Statement, func(s policyStatement) bool { return s.Effect == "Allow" && s.names(action) })
	})
}

// trusts says whether a trust policy lets a service assume the role for an account.
func (p *policy) trusts(service, account string) verdict {
	v := silent
	maybeDenied := false
	for _, s := range p.Statement {
		everyone := s.Effect == "Deny" && slices.Contains(s.Principal["AWS"], "*")
		if !s.names("sts:AssumeRole") || !everyone && !slices.Contains(s.Principal["Service"], service) {
			continue
		}
		pass := len(s.Condition) == 0 || s.guardedFor(account)
		switch {
		case s.Effect == "Deny" && len(s.Condition) == 0:
			return denied
		case s.Effect == "Deny":
			maybeDenied = true
		case s.Effect == "Allow" && pass:
			v = allowed
		case s.Effect == "Allow":
			v = max(v, conditional)
		}
	}
	if v == allowed && maybeDenied {
		return conditional
	}
	return v
}

// suffices reports whether EnsureRole can leave a trust policy alone: AWS IoT is let in and, if a guard account is
// asked for, only on behalf of that account. Conditions that nobody asked for stay: they were put there on purpose.
func (p *policy) suffices(guard string) bool {
	if v := p.trusts(partition.IoT, guard); v != allowed && v != conditional {
		return false
	}
	return guard == "" || !slices.ContainsFunc(p.Statement, func(s policyStatement) bool {
		return s.Effect == "Allow" && slices.Contains(s.Principal["Service"], partition.IoT) && !s.guarded(guard)
	})
}

// guardedFor reports whether the statement's only condition is that the source is this account, as SourceGuard makes
// it.
func (s *policyStatement) guardedFor(account string) bool {
	tests := 0
	for _, keys := range s.Condition {
		tests += len(keys)
	}
	return tests == 1 && s.guarded(account)
}

// guarded reports whether it is among the statement's conditions that the source is this account. All of them must
// hold.
func (s *policyStatement) guarded(account string) bool {
	for _, op := range []string{"StringEquals", "StringLike"} {
		for key, values := range s.Condition[op] {
			if strings.EqualFold(key, "aws:SourceAccount") && slices.Contains(values, account) {
				return true
			}
		}
	}
	return false
}

// trustedBeside lists everyone but one service whom the policy lets in.
func (p *policy) trustedBeside(service string) []string {
	var others []string
	for _, s := range p.Statement {
		if s.Effect != "Allow" {
			continue
		}
		for kind, names := range s.Principal {
			for _, name := range names {
				if kind != "Service" || name != service {
					others = append(others, name)
				}
			}
		}
	}
	slices.Sort(others)
	return slices.Compact(others)
}

// wildcard matches IAM's * (any run of characters) and ? (one character).
func wildcard(pattern, s string) bool {
	// mark is where the last * was met, from which matching goes on with one character more under it.
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
