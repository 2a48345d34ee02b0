package iam

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// Store holds the roles and managed policies of one account. It is safe for concurrent use, and everything it returns
// is the caller's own copy.
type Store struct {
	partition, account string
	mu                 sync.Mutex
	seed               []byte
	state              State
}

// State is everything a store holds, for snapshots. It can be written as JSON.
type State struct {
	Roles    map[string]*Role   // by name in lower case: IAM's names differ by more than case
	Policies map[string]*Policy // customer managed policies, by ARN
	Made     int                // ids given out so far
}

// NewStore makes a store without roles. Partition is aws, aws-cn or aws-us-gov; account has 12 digits.
func NewStore(partition, account string) *Store {
	s := &Store{partition: partition, account: account}
	s.Restore(State{})
	return s
}

// SetSeed sets what ids follow from, beside the number of those made so far. Without it they are those of every store.
func (s *Store) SetSeed(seed []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seed = slices.Clone(seed)
}

// Snapshot returns a copy of all roles and policies.
func (s *Store) Snapshot() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.clone()
}

// Restore replaces all roles and policies by a copy of state. The zero State empties the store.
func (s *Store) Restore(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state.clone()
}

func (st State) clone() State {
	out := State{Roles: map[string]*Role{}, Policies: map[string]*Policy{}, Made: st.Made}
	for name, role := range st.Roles {
		out.Roles[name] = role.clone()
	}
	for arn, policy := range st.Policies {
		out.Policies[arn] = policy.clone()
	}
	return out
}

// Tag is a name and a value on a role or policy.
type Tag struct{ Key, Value string }

// id returns the 21 characters of an IAM id, such as AROA… for a role.
func (s *Store) id(prefix, name string) string {
	s.state.Made++
	// Strings and a number always encode.
	data, _ := json.Marshal([]any{s.seed, s.partition, s.account, prefix, name, s.state.Made})
	sum := sha256.Sum256(data)
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

// checkTags refuses tags that are too many for one role or policy, or that hold the same key twice.
func checkTags(tags []Tag, quota string) error {
	seen := map[string]bool{}
	for _, t := range tags {
		fold := strings.ToLower(t.Key)
		if seen[fold] {
			return invalidInput("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[fold] = true
		if strings.HasPrefix(fold, "aws:") {
			return invalidInput("aws: prefixed tag key names are not allowed for external use.")
		}
	}
	if len(tags) > maxTags {
		return limitExceeded("Cannot exceed quota for %s: %d", quota, maxTags)
	}
	return nil
}

// Assume lets a service take on a role, as sts:AssumeRole would. The error is NoSuchEntity when there is no such role,
// and AccessDenied when its trust policy does not let the service, or not under these condition keys.
func (s *Store) Assume(roleARN, service string, context map[string]string) (*Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var role *Role
	for _, r := range s.state.Roles {
		if r.ARN == roleARN {
			role = r
		}
	}
	if role == nil {
		return nil, noSuchEntity("The role with ARN %s cannot be found.", roleARN)
	}
	trust, err := Parse(role.Trust)
	if err != nil {
		return nil, err
	}
	r := policy.Request{Principal: service, Action: "sts:AssumeRole", Context: values(context)}
	if !policy.Evaluate(r, trust).Allowed() {
		return nil, accessDenied("%s is not authorized to perform: sts:AssumeRole on resource: %s", service, roleARN)
	}
	allowed := SessionState{RoleARN: roleARN, Context: context}
	for _, name := range slices.Sorted(maps.Keys(role.Inline)) {
		allowed.Policies = append(allowed.Policies, role.Inline[name])
	}
	for _, arn := range role.Attached {
		if text, ok := s.managed(arn); ok {
			allowed.Policies = append(allowed.Policies, text)
		}
	}
	return NewSession(allowed)
}

func sortedNames[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

func cut(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
