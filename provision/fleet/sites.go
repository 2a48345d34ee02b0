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

// gather calls do for every site at once and returns what each returned, with their errors as one. Sites without a run are
// passed over; if none has one, the error is [provision.ErrNoRun].
func gather[T any](ctx context.Context, f *Fleet, do func(context.Context, *site) (T, error)) ([]T, error) {
	got := make([]T, len(f.sites))
	errs := f.atSites(ctx, func(ctx context.Context, s *site) (err error) {
		got[s.index], err = do(ctx, s)
		return err
	})()
	none := 0
	for i, err := range errs {
		if errors.Is(err, provision.ErrNoRun) {
			errs[i] = nil
			none++
		}
	}
	if none == len(f.sites) {
		return nil, provision.ErrNoRun
	}
	return got, f.joined(errs)
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
	var turn sync.Mutex
	counts, err := gather(ctx, f, func(ctx context.Context, s *site) (int64, error) {
		turn.Lock()
		defer turn.Unlock()
		return s.run.Deliver(ctx, out)
	})
	return sum(counts), err
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
	found, err := gather(ctx, f, func(ctx context.Context, s *site) ([]*provision.Orphan, error) { return s.run.FindOrphans(ctx) })
	var all []*Orphan
	for i, orphans := range found {
		for _, o := range orphans {
			all = append(all, &Orphan{Site: f.sites[i].name, Orphan: *o})
		}
	}
	return all, err
}

// RemoveOrphans removes the orphans of every site and returns how many it removed; see [provision.Run.RemoveOrphans].
// The error joins a [*SiteError] for each site that failed or kept some.
func (f *Fleet) RemoveOrphans(ctx context.Context) (int, error) {
	removed, err := gather(ctx, f, func(ctx context.Context, s *site) (int, error) { return s.run.RemoveOrphans(ctx) })
	return sum(removed), err
}

func sum[N int | int64](counts []N) (all N) {
	for _, n := range counts {
		all += n
	}
	return all
}

// elsewhere returns another site that has a device of this name; nil if none has. A record that was refused before it
// was sent, or whose device was removed, holds no name; with all it counts all the same.
func (f *Fleet) elsewhere(ctx context.Context, s *site, name string, all bool) (*site, error) {
	if name == "" {
		return nil, nil
	}
	for _, other := range f.sites {
		if other == s {
			continue
		}
		has, err := other.has(ctx, name, all)
		if err != nil {
			return nil, fmt.Errorf("reading the ledger of site %q, which may have device %q: %w", other.name, name, err)
		}
		if has {
			return other, nil
		}
	}
	return nil, nil
}

// has reports whether the site has a device of this name, or with all a record of any kind.
func (s *site) has(ctx context.Context, name string, all bool) (bool, error) {
	for d, err := range s.ledger.Devices(ctx, provision.DeviceFilter{Name: name}) {
		if err != nil || all || holdsName(d) {
			return err == nil, err
		}
	}
	return false, nil
}

// holdsName reports whether no other site may have the name and the public key of this record's device. One that was never
// sent, and one that was removed, leave nothing at their site, so that the device can go to another. Within its run, the
// record of a removed device keeps its name.
func holdsName(d *provision.DeviceRecord) bool {
	return d.Name != "" && d.Verdict != provision.Removed && (d.Verdict != provision.Failed || d.Attempts > 0)
}

// heldBy is why a device is not sent whose name a device of another site has.
func heldBy(other *site, name string) *refusal {
	return &refusal{provision.CauseDuplicate, fmt.Sprintf("site %q has a device %q; a name belongs to one site; to move the device, remove it there first (Fleet.Remove)", other.name, name)}
}
