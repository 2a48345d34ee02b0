package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// survey is what the sites' ledgers held at the beginning of a call. It holds bytesPerEntry bytes for each device.
type survey struct {
	input firsts // names of the input, with their site: none is taken to another
	alone firsts // names of devices that were registered one by one, with their site
	// broken holds the errors of sites whose ledger can't be read. Nobody knows what it holds, so sites that would still
	// take devices they did not have before are broken, too, unless the fleet is new and no ledger can hold anything of it.
	broken []error
	// twice holds, by site, that it has a device whose name another site has. No call of a Fleet brings that about.
	twice []error
}

// survey reads the sites' ledgers. The public keys that were given with devices are claimed for their sites.
func (f *Fleet) survey(ctx context.Context, fresh bool) (*survey, error) {
	sv := &survey{twice: make([]error, len(f.sites))}
	alone := make([][]string, len(f.sites))
	sv.broken = f.atSites(ctx, func(ctx context.Context, s *site) (err error) {
		if alone[s.index], err = f.surveySite(ctx, s, sv); err != nil {
			return fmt.Errorf("reading its ledger: %w", err)
		}
		return nil
	})()
	f.keysKnown = true
	for _, s := range f.sites {
		if sv.broken[s.index] == nil {
			continue
		}
		f.keysKnown = false
		if fresh {
			continue
		}
		for _, other := range f.sites {
			if sv.broken[other.index] == nil && !other.complete(ctx) {
				sv.broken[other.index] = fmt.Errorf("it takes no further devices while the ledger of site %q can't be read: they might be that site's", s.name)
			}
		}
		break
	}
	for i, names := range alone {
		for _, name := range names {
			if err := sv.addAlone(ctx, f.sites[i], f, name); err != nil {
				return nil, err
			}
		}
	}
	return sv, nil
}

// addAlone adds a device that was registered by itself, and notes if another site has one of its name.
func (sv *survey) addAlone(ctx context.Context, s *site, f *Fleet, name string) error {
	at, known := sv.alone.add(name, int64(s.index))
	if !known {
		at, known = sv.input.find(name)
	}
	if !known || at == int64(s.index) || sv.broken[at] != nil {
		return nil
	}
	other, err := f.elsewhere(ctx, s, name, false)
	if err == nil && other != nil && sv.twice[s.index] == nil {
		sv.twice[s.index] = fmt.Errorf("device %q is at site %q as well, and one of the two was registered by another program than this fleet: "+
			"find out which is right, and remove the other (Fleet.Remove, with its site)", name, other.name)
	}
	return err
}

// complete reports whether the site's run has all of its input, so that it refuses any further device.
func (s *site) complete(ctx context.Context) bool {
	record, err := s.record(ctx)
	return err == nil && record.Spooled
}

// record is the record of the site's run; an empty one if it was never begun.
func (s *site) record(ctx context.Context) (*provision.RunRecord, error) {
	record, err := s.ledger.Run(ctx)
	if errors.Is(err, provision.ErrNoRun) {
		return &provision.RunRecord{}, nil
	}
	return record, err
}

// surveySite returns the names that were registered one by one.
func (f *Fleet) surveySite(ctx context.Context, s *site, sv *survey) (alone []string, err error) {
	record, err := s.record(ctx)
	if err != nil {
		return nil, err
	}
	keys := s.step != nil && !f.keysKnown
	for d, err := range s.ledger.Devices(ctx, provision.DeviceFilter{}) {
		if err != nil {
			return nil, err
		}
		switch ofInput := d.Seq > record.Ahead && (!record.Spooled || d.Seq <= record.Ahead+record.Input); {
		case ofInput && d.Name != "":
			sv.input.add(d.Name, int64(s.index))
		case !ofInput && holdsName(d):
			alone = append(alone, d.Name)
		}
		if keys && holdsName(d) {
			f.claimKey(s, d.Match)
		}
	}
	return alone, nil
}
