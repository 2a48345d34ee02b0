package fleet

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// step is the credential step of a site whose devices come with their keys, requests or certificates. It refuses a
// device whose public key a device of another site has, and one whose request or certificate has the name of such a
// device. Within a site the run sees to that. A step that makes a key for each device needs no watching.
type step struct {
	provision.Credential
	fleet *Fleet
	site  *site
	lines provision.LineMatcher // of the step; nil if it has none
	names provision.NameReader  // of the step; nil if it has none
	check *check                // the Check that is in progress
}

// watch returns the step that the site's run works with.
func (f *Fleet) watch(s *site, c provision.Credential) provision.Credential {
	if _, makes := provision.As[provision.KeyFinder](c); makes {
		return c
	}
	s.step = &step{Credential: c, fleet: f, site: s}
	s.step.lines, _ = provision.As[provision.LineMatcher](c)
	s.step.names, _ = provision.As[provision.NameReader](c)
	return s.step
}

// Unwrap returns the step itself to provision.As, which finds its other abilities.
func (st *step) Unwrap() provision.Credential { return st.Credential }

// Prepare runs the step and fails the devices that came with what is another site's.
func (st *step) Prepare(ctx context.Context, devices iter.Seq2[provision.Candidate, error]) iter.Seq2[provision.Candidate, error] {
	return func(yield func(provision.Candidate, error) bool) {
		for p, err := range st.Credential.Prepare(ctx, devices) {
			if err == nil && p.Err == nil {
				var why *refusal
				if why, err = st.refuse(ctx, p); why != nil {
					p.Err = why
				}
			}
			if !yield(p, err) || err != nil {
				return
			}
		}
	}
}

func (st *step) refuse(ctx context.Context, p provision.Candidate) (*refusal, error) {
	for _, name := range st.otherNames(p.Name, p.Row) {
		other := st.fleet.routedTo(st.fleet.reading, name)
		if other == nil {
			var err error
			if other, err = st.fleet.elsewhere(ctx, st.site, name, true); err != nil {
				return nil, err
			}
		}
		if other != nil {
			return nameOfOther(name, other), nil
		}
	}
	if other := st.fleet.claimKey(st.site, p.Match); other != nil {
		return sharedKey(other), nil
	}
	return nil, nil
}

// otherNames are the names that a device's request or certificate has beside its own.
func (st *step) otherNames(thing string, row map[string]string) []string {
	if st.names == nil {
		return nil
	}
	var names []string
	for _, name := range st.names.Names(row) {
		if name != thing {
			names = append(names, name)
		}
	}
	return names
}

// MatchLine asks the step. A dry run asks for every record that its site would take, and refuses those for which the error
// has a cause.
func (st *step) MatchLine(thing string, row map[string]string) (m provision.Match, err error) {
	if st.lines != nil {
		m, err = st.lines.MatchLine(thing, row)
	} else if st.check == nil {
		err = errors.New("the credential step can't recognise lines")
	}
	if st.check != nil && err == nil {
		if why := st.check.refuse(st, thing, row, m); why != nil {
			return "", why
		}
	}
	return m, err
}

// Names asks the step.
func (st *step) Names(row map[string]string) []string {
	if st.names == nil {
		return nil
	}
	return st.names.Names(row)
}

func nameOfOther(name string, other *site) *refusal {
	return &refusal{provision.CauseInvalidRecord, fmt.Sprintf(
		"it comes with the request or certificate of %s, a device of site %q; give each device its own", rule.Quote(name), other.name)}
}

func sharedKey(other *site) *refusal {
	return &refusal{provision.CauseDuplicate, fmt.Sprintf("a device of site %q has the same public key; each device needs a key of its own", other.name)}
}

// claimKey records the key that a match stands for, if it stands for one, as the site's, and returns the other site that
// has it.
func (f *Fleet) claimKey(s *site, m provision.Match) *site { return f.claim(&f.keys, s, m) }

func (f *Fleet) claim(keys *firsts, s *site, m provision.Match) *site {
	digest, ok := m.Key()
	if !ok {
		return nil
	}
	if first, taken := keys.add(string(digest[:]), int64(s.index)); taken && first != int64(s.index) {
		return f.sites[first]
	}
	return nil
}
