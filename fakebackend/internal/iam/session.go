package iam

import (
	"maps"
	"slices"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// Session is a role as a service has assumed it, with the policies that the role had at that moment. It is safe for
// concurrent use.
type Session struct {
	RoleARN   string // as it was assumed; not to be changed
	state     SessionState
	documents []*policy.Document
	context   policy.Values
}

// SessionState is what a session allows, for snapshots: it does not follow from the role, which may have changed since
// or be gone. It can be written as JSON.
type SessionState struct {
	RoleARN  string
	Policies []string          // documents
	Context  map[string]string // condition keys
}

func (st SessionState) clone() SessionState {
	return SessionState{st.RoleARN, slices.Clone(st.Policies), maps.Clone(st.Context)}
}

// NewSession makes a session of its state. It fails when a policy is not a policy document.
func NewSession(st SessionState) (*Session, error) {
	s := &Session{RoleARN: st.RoleARN, state: st.clone(), context: values(st.Context)}
	for _, text := range st.Policies {
		d, err := Parse(text)
		if err != nil {
			return nil, err
		}
		s.documents = append(s.documents, d)
	}
	return s, nil
}

func values(context map[string]string) policy.Values {
	out := policy.Values{}
	for key, value := range context {
		out[key] = []string{value}
	}
	return out
}

// State returns what NewSession makes an equal session of.
func (s *Session) State() SessionState { return s.state.clone() }

// Allows reports whether the role may do action to the resource: some policy allows it and none denies it.
func (s *Session) Allows(action, resource string) bool {
	r := policy.Request{Principal: s.RoleARN, Action: action, Resource: resource, Context: s.context}
	return policy.Evaluate(r, s.documents...).Allowed()
}
