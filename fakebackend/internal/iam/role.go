package iam

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// Role is a role as the account holds it.
type Role struct {
	Name        string
	Path        string
	ARN         string
	ID          string // AROA and 17 characters
	Trust       string // the policy document about who may assume the role
	Description string
	MaxSession  time.Duration
	Created     time.Time
	Tags        []Tag             // in the order they were set
	Inline      map[string]string // policy documents by name
	Attached    []string          // ARNs of managed policies, in the order they were attached
}

func (r *Role) clone() *Role {
	out := *r
	out.Tags, out.Attached, out.Inline = slices.Clone(r.Tags), slices.Clone(r.Attached), maps.Clone(r.Inline)
	if out.Inline == nil {
		out.Inline = map[string]string{}
	}
	return &out
}

// NewRole is the role to create.
type NewRole struct {
	Name        string
	Path        string // empty for /
	Trust       string // policy document
	Description string
	MaxSession  time.Duration // 0 for 1 hour
	Tags        []Tag
}

// Quotas of IAM. Those of documents are in characters, white space not counted.
const (
	maxTrust          = 2048
	maxInline         = 10240 // all inline policies of a role together
	maxManaged        = 6144
	maxAttached       = 10 // managed policies of a role
	maxRoleName       = 64
	maxPolicyName     = 128
	maxPolicyVersions = 5
	maxTags           = 50 // of a role or a policy
	defaultMaxSession = time.Hour
)

// CreateRole makes a role.
func (s *Store) CreateRole(in NewRole, now time.Time) (*Role, error) {
	if in.Path == "" {
		in.Path = "/"
	}
	if in.MaxSession == 0 {
		in.MaxSession = defaultMaxSession
	}
	if err := name(in.Name, "roleName", maxRoleName); err != nil {
		return nil, err
	}
	if err := path(in.Path); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags, "TagsPerRole"); err != nil {
		return nil, err
	}
	if err := checkTrust(in.Trust); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.ToLower(in.Name)
	if _, exists := s.state.Roles[key]; exists {
		return nil, alreadyExists("Role with name %s already exists.", in.Name)
	}
	role := &Role{
		Name: in.Name, Path: in.Path, ARN: fmt.Sprintf("arn:%s:iam::%s:role%s%s", s.partition, s.account, in.Path, in.Name),
		ID: s.id("AROA", in.Name), Trust: in.Trust, Description: in.Description, MaxSession: in.MaxSession, Created: cut(now),
		Tags: slices.Clone(in.Tags), Inline: map[string]string{},
	}
	s.state.Roles[key] = role
	return role.clone(), nil
}

// GetRole returns a role.
func (s *Store) GetRole(roleName string) (*Role, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	role, err := s.role(roleName)
	if err != nil {
		return nil, err
	}
	return role.clone(), nil
}

// Roles returns all roles whose path begins with the prefix, sorted by name.
func (s *Store) Roles(pathPrefix string) []*Role {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*Role
	for _, key := range sortedNames(s.state.Roles) {
		if strings.HasPrefix(s.state.Roles[key].Path, pathPrefix) {
			out = append(out, s.state.Roles[key].clone())
		}
	}
	return out
}

func (s *Store) role(roleName string) (*Role, error) {
	if err := name(roleName, "roleName", maxRoleName); err != nil {
		return nil, err
	}
	role, ok := s.state.Roles[strings.ToLower(roleName)]
	if !ok {
		return nil, noSuchEntity("The role with name %s cannot be found.", roleName)
	}
	return role, nil
}

// change runs f on a role under the lock.
func (s *Store) change(roleName string, f func(*Role) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	role, err := s.role(roleName)
	if err != nil {
		return err
	}
	return f(role)
}

// UpdateRole changes the description and the greatest session duration; nil and 0 leave them as they are.
func (s *Store) UpdateRole(roleName string, description *string, maxSession time.Duration) error {
	return s.change(roleName, func(r *Role) error {
		if description != nil {
			r.Description = *description
		}
		if maxSession != 0 {
			r.MaxSession = maxSession
		}
		return nil
	})
}

// UpdateAssumeRolePolicy replaces the trust policy.
func (s *Store) UpdateAssumeRolePolicy(roleName, document string) error {
	if err := checkTrust(document); err != nil {
		return err
	}
	return s.change(roleName, func(r *Role) error {
		r.Trust = document
		return nil
	})
}

// DeleteRole removes a role that has no policies left.
func (s *Store) DeleteRole(roleName string) error {
	return s.change(roleName, func(r *Role) error {
		if len(r.Inline) > 0 {
			return deleteConflict("Cannot delete entity, must delete policies first.")
		}
		if len(r.Attached) > 0 {
			return deleteConflict("Cannot delete entity, must detach all policies first.")
		}
		delete(s.state.Roles, strings.ToLower(r.Name))
		return nil
	})
}

// TagRole sets tags on a role.
func (s *Store) TagRole(roleName string, tags []Tag) error {
	return s.change(roleName, func(r *Role) error {
		if err := checkTags(tags, "TagsPerRole"); err != nil {
			return err
		}
		merged := slices.Clone(r.Tags)
		for _, t := range tags {
			if i := slices.IndexFunc(merged, func(old Tag) bool { return strings.EqualFold(old.Key, t.Key) }); i >= 0 {
				merged[i] = t
			} else {
				merged = append(merged, t)
			}
		}
		if err := checkTags(merged, "TagsPerRole"); err != nil {
			return err
		}
		r.Tags = merged
		return nil
	})
}

// UntagRole removes tags from a role; keys that are not there do no harm.
func (s *Store) UntagRole(roleName string, keys []string) error {
	return s.change(roleName, func(r *Role) error {
		r.Tags = slices.DeleteFunc(r.Tags, func(t Tag) bool {
			return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, t.Key) })
		})
		return nil
	})
}

// PutRolePolicy adds or replaces an inline policy.
func (s *Store) PutRolePolicy(roleName, policyName, document string) error {
	if err := name(policyName, "policyName", maxPolicyName); err != nil {
		return err
	}
	if err := checkIdentity(document); err != nil {
		return err
	}
	return s.change(roleName, func(r *Role) error {
		total := policy.Size(document)
		for other, text := range r.Inline {
			if other != policyName {
				total += policy.Size(text)
			}
		}
		if total > maxInline {
			return limitExceeded("Maximum policy size of %d bytes exceeded for role %s", maxInline, r.Name)
		}
		r.Inline[policyName] = document
		return nil
	})
}

// GetRolePolicy returns the document of an inline policy.
func (s *Store) GetRolePolicy(roleName, policyName string) (document string, err error) {
	if err := name(policyName, "policyName", maxPolicyName); err != nil {
		return "", err
	}
	err = s.change(roleName, func(r *Role) error {
		text, ok := r.Inline[policyName]
		if !ok {
			return noSuchEntity("The role policy with name %s cannot be found.", policyName)
		}
		document = text
		return nil
	})
	return document, err
}

// ListRolePolicies returns the names of a role's inline policies, sorted.
func (s *Store) ListRolePolicies(roleName string) (names []string, err error) {
	err = s.change(roleName, func(r *Role) error {
		names = sortedNames(r.Inline)
		return nil
	})
	return names, err
}

// DeleteRolePolicy removes an inline policy.
func (s *Store) DeleteRolePolicy(roleName, policyName string) error {
	return s.change(roleName, func(r *Role) error {
		if _, ok := r.Inline[policyName]; !ok {
			return noSuchEntity("The role policy with name %s cannot be found.", policyName)
		}
		delete(r.Inline, policyName)
		return nil
	})
}

// AttachRolePolicy attaches a managed policy, AWS's or the account's own. Attaching it twice is no error.
func (s *Store) AttachRolePolicy(roleName, policyARN string) error {
	if !strings.HasPrefix(policyARN, "arn:") {
		return notARN()
	}
	return s.change(roleName, func(r *Role) error {
		if _, ok := s.managed(policyARN); !ok {
			return noSuchEntity("Policy %s does not exist or is not attachable.", policyARN)
		}
		if slices.Contains(r.Attached, policyARN) {
			return nil
		}
		if len(r.Attached) >= maxAttached {
			return limitExceeded("Cannot exceed quota for PoliciesPerRole: %d", maxAttached)
		}
		r.Attached = append(r.Attached, policyARN)
		return nil
	})
}

// DetachRolePolicy takes a managed policy off a role.
func (s *Store) DetachRolePolicy(roleName, policyARN string) error {
	if !strings.HasPrefix(policyARN, "arn:") {
		return notARN()
	}
	return s.change(roleName, func(r *Role) error {
		i := slices.Index(r.Attached, policyARN)
		if i < 0 {
			return noSuchEntity("Policy %s was not found.", policyARN)
		}
		r.Attached = slices.Delete(r.Attached, i, i+1)
		return nil
	})
}

// AttachedPolicy names a managed policy of a role.
type AttachedPolicy struct{ Name, ARN string }

// ListAttachedRolePolicies returns a role's managed policies whose path begins with the prefix, in the order they were
// attached.
func (s *Store) ListAttachedRolePolicies(roleName, pathPrefix string) (out []AttachedPolicy, err error) {
	err = s.change(roleName, func(r *Role) error {
		for _, arn := range r.Attached {
			_, rest, _ := strings.Cut(arn, ":policy")
			slash := strings.LastIndexByte(rest, '/')
			if slash < 0 || !strings.HasPrefix(rest[:slash+1], pathPrefix) {
				continue
			}
			out = append(out, AttachedPolicy{Name: rest[slash+1:], ARN: arn})
		}
		return nil
	})
	return out, err
}
