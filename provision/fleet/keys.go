package fleet

import (
	"context"
	"fmt"
	"iter"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// uniqueKeys makes a credential step refuse devices whose public key a device of another site has. Within a site the
// run sees to that. A step that makes a key for each device needs no watching.
func (f *Fleet) uniqueKeys(s *site, c provision.Credential) provision.Credential {
	if _, makes := provision.As[provision.KeyFinder](c); makes {
		return c
	}
	s.givenKeys = true
	return &uniqueKeys{Credential: c, fleet: f, site: s}
}

// uniqueKeys is a credential step whose keys are looked at.
type uniqueKeys struct {
	provision.Credential
	fleet *Fleet
	site  *site
}

// Unwrap returns the step itself to provision.As, which finds its abilities.
func (u *uniqueKeys) Unwrap() provision.Credential { return u.Credential }

// Prepare runs the step and fails the devices whose key is taken.
func (u *uniqueKeys) Prepare(ctx context.Context, devices iter.Seq2[provision.Candidate, error]) iter.Seq2[provision.Candidate, error] {
	return func(yield func(provision.Candidate, error) bool) {
		for p, err := range u.Credential.Prepare(ctx, devices) {
			if err == nil && p.Err == nil {
				if other := u.fleet.claimKey(u.site, p.Match); other != nil {
					p.Err = &sharedKeyError{other.name}
				}
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// sharedKeyError is why a device is not sent whose public key a device of another site has.
type sharedKeyError struct{ site string }

func (e *sharedKeyError) Error() string {
	return fmt.Sprintf("a device of site %q has the same public key; each device needs a key of its own", e.site)
}

// Cause sorts the failure as it is sorted within a site.
func (e *sharedKeyError) Cause() provision.Cause { return provision.CauseDuplicate }

// claimKey records the key that a match stands for, if it stands for one, and returns the other site that has it.
func (f *Fleet) claimKey(s *site, m provision.Match) *site {
	digest, ok := m.Key()
	if !ok {
		return nil
	}
	if first, taken := f.keys.add(string(digest[:]), int64(s.index)); taken && first != int64(s.index) {
		return f.sites[first]
	}
	return nil
}
