package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

// Request is one question to policies: may this principal do this to that?
type Request struct {
	Principal string  // a service such as iot.amazonaws.com, or an ARN; only statements with principals look at it
	Action    string  // such as iot:Publish; case does not count
	Resource  string  // the ARN acted upon; empty for a trust policy, which is about its own role
	Name      string  // follows Resource, so that the two need not be joined: a topic after arn:…:topic/
	Context   Context // values of condition keys and variables; nil for none

	// Partial means that Context is not all: a key that it does not have may have any value, unless the Context has a
	// method Absent(key string) bool that returns true for it. Then a decision that depends on such a key is
	// [Decision.Undecided].
	Partial bool
}

// Context has the values of condition keys, which are those of variables too: aws:SourceIp, iot:ClientId,
// iot:Connection.Thing.Attributes[color].
type Context interface {
	// Values returns the values of a key as it is written in the document, whose case does not count; none if the
	// request does not have the key. Most keys have one value; iot:ConnectAttributes is one with several. A variable
	// has a value only if its key has exactly one.
	Values(key string) []string
}

// Values is a Context with the values of each key.
type Values map[string][]string

// Values returns the values of a key.
func (v Values) Values(key string) []string {
	if values, ok := v[key]; ok {
		return values
	}
	for k, values := range v {
		if strings.EqualFold(k, key) {
			return values
		}
	}
	return nil
}

func (r *Request) values(key string) []string {
	if r.Context == nil {
		return nil
	}
	return r.Context.Values(key)
}

func (r *Request) value(key string) (string, bool) {
	if values := r.values(key); len(values) == 1 {
		return values[0], true
	}
	return "", false
}

// unknown reports whether a key that has no value in the context may have one all the same.
func (r *Request) unknown(key string) bool {
	if !r.Partial || len(r.values(key)) > 0 {
		return false
	}
	c, ok := r.Context.(interface{ Absent(key string) bool })
	return !ok || !c.Absent(key)
}

// Decision is what policies decide about a request. The zero value is the implicit denial: no statement matched.
type Decision struct {
	Effect    Effect     // of the statement that decided; empty if none matched
	Undecided bool       // the decision depends on keys that a partial request does not have
	Policy    int        // index of the document that decided
	Statement *Statement // the statement that decided; nil if none matched
}

// Allowed reports whether the request is allowed: a statement allows it and none denies it.
func (d Decision) Allowed() bool { return d.Effect == Allow && !d.Undecided }

// Denied reports whether a statement denies the request, whatever else there is.
func (d Decision) Denied() bool { return d.Effect == Deny && !d.Undecided }

// String names the statement that decided: "statement 2 (Sid NoState) of policy 1 denies it".
func (d Decision) String() string { return d.in(fmt.Sprintf("policy %d", d.Policy+1)) }

// in names the statement that decided, as one of a policy that has a name: "statement 2 of the policy pumps denies it".
func (d Decision) in(policy string) string {
	if d.Statement == nil {
		return "no statement allows it"
	}
	verb := "allows"
	if d.Effect == Deny {
		verb = "denies"
	}
	if d.Undecided {
		verb = "may " + strings.TrimSuffix(verb, "s")
	}
	sid := ""
	if d.Statement.SID != "" {
		sid = " (Sid " + d.Statement.SID + ")"
	}
	return fmt.Sprintf("statement %d%s of %s %s it", d.Statement.Index+1, sid, policy, verb)
}

// Why is what decided among policies with such names: "statement 2 of the policy pumps denies it", "no statement of the
// policy pumps allows it".
func (d Decision) Why(policies []string) string {
	switch {
	case d.Statement != nil:
		return d.in(policies[d.Policy])
	case len(policies) == 0:
		return "the device has no policy"
	}
	return "no statement of " + strings.Join(policies, " or of ") + " allows it"
}

// Evaluate asks documents together, as AWS does: a denial in one wins over every permission in any, and what no
// statement allows is not allowed. The first statement that decides is named.
//
// A statement without resources, as in a trust policy, matches every resource; one without principals matches every
// principal.
func Evaluate(r Request, documents ...*Document) Decision {
	var allow, maybeAllow, maybeDeny Decision
	for i, d := range documents {
		for j := range d.Statements {
			s := &d.Statements[j]
			if s.Effect == "" || s.Effect == Allow && allow.Statement != nil {
				continue
			}
			t := s.matches(&r)
			found := Decision{Effect: s.Effect, Undecided: t == maybe, Policy: i, Statement: s}
			switch {
			case t == no:
			case t == yes && s.Effect == Deny:
				return found
			case t == yes:
				allow = found
			case s.Effect == Deny && maybeDeny.Statement == nil:
				maybeDeny = found
			case s.Effect == Allow && maybeAllow.Statement == nil:
				maybeAllow = found
			}
		}
	}
	switch {
	case allow.Statement == nil:
		return maybeAllow // a denial makes no difference to what is not allowed
	case maybeDeny.Statement != nil:
		return maybeDeny
	}
	return allow
}

// Missing returns the keys that statements about the request's action refer to and the request does not have, each once.
func Missing(r Request, documents ...*Document) []string {
	var missing []string
	add := func(key string) {
		if len(r.values(key)) == 0 && !slices.Contains(missing, key) {
			missing = append(missing, key)
		}
	}
	for _, d := range documents {
		for i := range d.Statements {
			s := &d.Statements[i]
			if !s.MatchesAction(r.Action) {
				continue
			}
			for _, p := range slices.Concat(s.resources, s.notResources) {
				p.keys(add)
			}
			for j := range s.Conditions {
				add(s.Conditions[j].Key)
				for _, p := range s.Conditions[j].values {
					p.keys(add)
				}
			}
		}
	}
	return missing
}

// truth is the answer to a question that may depend on something unknown: the and of several is the least, the or is
// the greatest.
type truth int8

const (
	no truth = iota
	maybe
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (s *Statement) matches(r *Request) truth {
	if !s.MatchesAction(r.Action) ||
		s.Principals != nil && !s.Principals.include(r.Principal) || s.NotPrincipals != nil && s.NotPrincipals.include(r.Principal) {
		return no
	}
	t := s.matchesResource(r)
	for i := range s.Conditions {
		if t == no {
			break
		}
		t = min(t, s.Conditions[i].holds(r))
	}
	return t
}

// MatchesAction reports whether the statement is about an action.
func (s *Statement) MatchesAction(action string) bool {
	one := func(p pattern) bool { return p.match(action, nil) == yes }
	if len(s.notActions) > 0 {
		return !slices.ContainsFunc(s.notActions, one)
	}
	return slices.ContainsFunc(s.actions, one)
}

func (s *Statement) matchesResource(r *Request) truth {
	on := subject{r.Resource, r.Name}
	t := truthOf(len(s.resources) == 0)
	for i := range s.resources {
		if t = max(t, s.resources[i].matchSubject(on, r)); t == yes {
			break
		}
	}
	for i := range s.notResources {
		p := &s.notResources[i]
		if !p.resolved(r) {
			return no // a variable without a value makes the statement match nothing
		}
		t = min(t, yes-p.matchSubject(on, r))
	}
	return t
}

// include reports whether the principal is among p. A principal that is an account, by number or root ARN, stands for
// everyone in it.
func (p Principals) include(principal string) bool {
	if slices.Contains(p["AWS"], "*") {
		return true
	}
	if !strings.HasPrefix(principal, "arn:") {
		return slices.Contains(p["Service"], principal)
	}
	of, _ := partition.ParseARN(principal)
	return slices.ContainsFunc(p["AWS"], func(name string) bool {
		if name == principal || name == of.Account && name != "" {
			return true
		}
		a, _ := partition.ParseARN(name)
		return a.Account == of.Account && of.Account != "" && a.Resource == "root"
	})
}
