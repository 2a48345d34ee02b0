package iam

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// Session is a role as a service has assumed it: what the role's policies said at that moment. It is safe for
// concurrent use.
type Session struct {
	RoleARN   string   // as it was assumed; not to be changed
	policies  []string // the documents as text
	documents []*Document
	context   map[string]string
	rulings   sync.Map // action to *ruling
}

// SessionState is what a session allows, for snapshots: it does not follow from the role, which may have changed since or
// be gone. It can be written as JSON.
type SessionState struct {
	RoleARN  string
	Policies []string          // documents
	Context  map[string]string // condition keys
}

// NewSession makes a session of its state. It fails when a policy is not a policy document.
func NewSession(st SessionState) (*Session, error) {
	s := &Session{RoleARN: st.RoleARN, policies: slices.Clone(st.Policies), context: maps.Clone(st.Context)}
	for _, text := range st.Policies {
		d, err := Parse(text)
		if err != nil {
			return nil, err
		}
		s.documents = append(s.documents, d)
	}
	return s, nil
}

// State returns what NewSession makes an equal session of.
func (s *Session) State() SessionState {
	return SessionState{s.RoleARN, slices.Clone(s.policies), maps.Clone(s.context)}
}

// Allows reports whether the role may do action to the resource: some policy allows it and none denies it. What the
// policies say to an action is worked out when it is first asked for, and kept as long as the session.
func (s *Session) Allows(action, resource string) bool {
	kept, ok := s.rulings.Load(action)
	if !ok {
		kept, _ = s.rulings.LoadOrStore(action, s.ruling(action))
	}
	r := kept.(*ruling)
	covered := func(set resourceSet) bool { return set.includes(resource) }
	return !slices.ContainsFunc(r.denied, covered) && slices.ContainsFunc(r.allowed, covered)
}

// ruling is what a session's policies say to one action. Whether a statement is about the session's principal and the
// action, and whether its conditions hold, is the same for every resource; so only the resources of the statements that
// pass are left.
type ruling struct {
	denied, allowed []resourceSet
}

func (s *Session) ruling(action string) *ruling {
	r := new(ruling)
	request := Request{Principal: s.RoleARN, Action: action, Context: s.context}
	for _, d := range s.documents {
		for i := range d.Statements {
			statement := &d.Statements[i]
			if !statement.applies(request, d.variables()) {
				continue
			}
			set := statement.resources(s.context, d.variables())
			if statement.Effect == DenyEffect {
				r.denied = append(r.denied, set)
			} else {
				r.allowed = append(r.allowed, set)
			}
		}
	}
	return r
}

// resourceSet is the resources that a statement is about.
type resourceSet struct {
	all     bool     // every resource is in, whatever in says
	in, out []string // patterns without variables
}

// resources puts the values of the context into the statement's patterns. A pattern whose variable has no value matches
// nothing and is left out.
func (s *Statement) resources(context map[string]string, variables bool) resourceSet {
	expanded := func(patterns []string) (out []string) {
		for _, p := range patterns {
			if p, ok := expand(p, context, variables); ok {
				out = append(out, p)
			}
		}
		return out
	}
	set := resourceSet{all: len(s.Resource) == 0, in: expanded(s.Resource), out: expanded(s.NotResource)}
	set.all = set.all || slices.ContainsFunc(set.in, func(p string) bool { return strings.Trim(p, "*") == "" && p != "" })
	return set
}

func (set *resourceSet) includes(resource string) bool {
	matches := func(pattern string) bool { return glob(pattern, resource, false) }
	return (set.all || slices.ContainsFunc(set.in, matches)) && !slices.ContainsFunc(set.out, matches)
}
