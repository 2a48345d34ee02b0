package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed1ff6f450/iotfleet/internal/panics"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// atSites calls do for every site at once. wait returns when all have ended, with their errors by site, and may be
// called again. When one of them panics, the others are ended, and wait panics with it.
func (f *Fleet) atSites(ctx context.Context, do func(context.Context, *site) error) (wait func() []error) {
	errs := make([]error, len(f.sites))
	end := f.begin()
	ctx, cancel := context.WithCancel(ctx)
	guard := panics.NewGuard(cancel)
	var wg sync.WaitGroup
	for i, s := range f.sites {
		wg.Go(func() {
			defer f.ended(s)
			errs[i] = guard.Do(func() error { return do(ctx, s) })
		})
	}
	done := sync.OnceFunc(func() {
		wg.Wait()
		cancel()
		end()
		guard.Raise()
	})
	return func() []error {
		done()
		return errs
	}
}

// joined returns the errors of sites as one, each a [*SiteError].
func (f *Fleet) joined(errs []error) error {
	var all []error
	for i, err := range errs {
		if err != nil {
			all = append(all, &SiteError{Site: f.sites[i].name, Err: err})
		}
	}
	return errors.Join(all...)
}

// Deliver hands the Provisioned devices of every site over to out, one site after the other; see
// [provision.Run.Deliver]. It returns how many were handed over and made durable. A site's failure costs the other sites
// nothing; the error joins a [*SiteError] for each that failed. Sites without a run are passed over, and a fleet without
// any returns [provision.ErrNoRun].
func (f *Fleet) Deliver(ctx context.Context, out provision.Output) (durable int64, err error) {
	if out == nil {
		return 0, errors.New("the output is missing")
	}
	errs := make([]error, len(f.sites))
	none := 0
	for i, s := range f.sites {
		n, err := s.run.Deliver(ctx, out)
		durable += n
		if errors.Is(err, provision.ErrNoRun) {
			none++
			continue
		}
		errs[i] = err
	}
	if none == len(f.sites) {
		return 0, provision.ErrNoRun
	}
	return durable, f.joined(errs)
}

// Orphan is a certificate that a site's run caused and that no device of it uses.
type Orphan struct {
	Site string
	provision.Orphan
}

// FindOrphans looks for orphans at every site and returns those of all, site after site in order of name; see
// [provision.Run.FindOrphans]. What the other sites found is returned with the error, which joins a [*SiteError] for
// each site that failed.
func (f *Fleet) FindOrphans(ctx context.Context) ([]*Orphan, error) {
	found := make([][]*provision.Orphan, len(f.sites))
	errs := f.atSites(ctx, func(ctx context.Context, s *site) (err error) {
		found[s.index], err = s.run.FindOrphans(ctx)
		return err
	})()
	var all []*Orphan
	for i, orphans := range found {
		for _, o := range orphans {
			all = append(all, &Orphan{Site: f.sites[i].name, Orphan: *o})
		}
	}
	return all, f.joined(errs)
}

// RemoveOrphans removes the orphans of every site and returns how many it removed; see [provision.Run.RemoveOrphans].
// The error joins a [*SiteError] for each site that failed or kept some.
func (f *Fleet) RemoveOrphans(ctx context.Context) (int, error) {
	removed := make([]int, len(f.sites))
	errs := f.atSites(ctx, func(ctx context.Context, s *site) (err error) {
		removed[s.index], err = s.run.RemoveOrphans(ctx)
		return err
	})()
	all := 0
	for _, n := range removed {
		all += n
	}
	return all, f.joined(errs)
}

// elsewhere returns another site that has a device of this name; nil if none has. A record that was refused before it
// was sent holds no name; with refused it counts all the same.
func (f *Fleet) elsewhere(ctx context.Context, s *site, name string, refused bool) (*site, error) {
	if name == "" {
		return nil, nil
	}
	for _, other := range f.sites {
		if other == s {
			continue
		}
		for d, err := range other.ledger.Devices(ctx, provision.DeviceFilter{Name: name}) {
			if err != nil {
				return nil, fmt.Errorf("reading the ledger of site %q, which may have device %q: %w", other.name, name, err)
			}
			if refused || holdsName(d) {
				return other, nil
			}
		}
	}
	return nil, nil
}

// holdsName reports whether no other record may have the name of this one.
func holdsName(d *provision.DeviceRecord) bool {
	return d.Name != "" && (d.Verdict != provision.Failed || d.Attempts > 0)
}

// heldBy is why a device is not sent whose name a device of another site has.
func heldBy(other *site, name string) *refusal {
	return &refusal{provision.CauseDuplicate, fmt.Sprintf("site %q has a device %q; a name belongs to one site", other.name, name)}
}
