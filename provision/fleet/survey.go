package fleet

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/seed1ff6f450/iotfleet/internal/panics"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// survey reads what the sites' ledgers hold: names holds at which site a device is, so that none is taken to another,
// and the public keys that were given with devices are claimed for their sites. It holds bytesPerEntry bytes for each
// device that is in a ledger.
//
// A ledger that can't be read is in broken, by site. Nobody knows what it holds, so sites that would still take devices
// they did not have before are broken, too, unless the fleet is new and no ledger can hold anything of it.
func (f *Fleet) survey(ctx context.Context, fresh bool) (names *firsts, broken []error) {
	names, broken = &firsts{}, make([]error, len(f.sites))
	guard := panics.NewGuard(func() {})
	var wg sync.WaitGroup
	for _, s := range f.sites {
		wg.Go(func() {
			if err := guard.Do(func() error { return f.surveySite(ctx, s, names) }); err != nil {
				broken[s.index] = fmt.Errorf("reading its ledger: %w", err)
			}
		})
	}
	wg.Wait()
	guard.Raise()
	f.keysKnown = true
	for _, s := range f.sites {
		if broken[s.index] == nil {
			continue
		}
		f.keysKnown = false
		if fresh {
			continue
		}
		for _, other := range f.sites {
			if broken[other.index] == nil && !other.complete(ctx) {
				broken[other.index] = fmt.Errorf("it takes no further devices while the ledger of site %q can't be read: they might be that site's", s.name)
			}
		}
		break
	}
	return names, broken
}

// complete reports whether the site's run has all of its input, so that it refuses any further device.
func (s *site) complete(ctx context.Context) bool {
	if s.ledger == nil {
		return false
	}
	record, err := s.ledger.Run(ctx)
	return err == nil && record.Spooled
}

func (f *Fleet) surveySite(ctx context.Context, s *site, names *firsts) error {
	keys := s.givenKeys && !f.keysKnown
	for d, err := range s.devices(ctx) {
		if err != nil {
			return err
		}
		if d.Name != "" {
			names.add(d.Name, int64(s.index))
		}
		if keys && (d.Verdict != provision.Failed || d.Attempts > 0) {
			f.claimKey(s, d.Match)
		}
	}
	return nil
}

// devices yields what the site has. Of a run that made its own ledger the matches are not known; what this Fleet has
// seen of them is claimed already.
func (s *site) devices(ctx context.Context) iter.Seq2[*provision.DeviceRecord, error] {
	if s.ledger != nil {
		return s.ledger.Devices(ctx, provision.DeviceFilter{})
	}
	return func(yield func(*provision.DeviceRecord, error) bool) {
		for r, err := range s.run.Results(ctx) {
			var d *provision.DeviceRecord
			if err == nil {
				d = &provision.DeviceRecord{Result: *r}
			}
			if !yield(d, err) {
				return
			}
		}
	}
}
