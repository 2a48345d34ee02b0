package fleet

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// Register provisions one device now, at the site that its record names; see [provision.Run.Register]. A device that no
// site takes, or whose name a device of another site has, is refused before anything is sent: the result is Failed, and
// no ledger keeps it. It may be called before the fleet has its list, and not while only part of the list is in the
// ledgers.
//
// An error of the site is a [*SiteError]. The first call reads the sites' ledgers if devices come with their keys.
func (f *Fleet) Register(ctx context.Context, d provision.Device) (*Result, error) {
	fresh, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.noneOrAll(ctx); err != nil {
		return nil, err
	}
	d = withoutKeys(d)
	s, refused := f.choose(d)
	if refused != nil {
		return notSent(d, f.commonName(d), refused)
	}
	if s.step != nil && !f.keysKnown {
		if sv, err := f.survey(ctx, fresh); err != nil {
			return nil, err
		} else if err := f.joined(sv.broken); err != nil {
			return nil, err
		}
	}
	d = f.opts.Route.strip(s, d)
	return f.register(ctx, s, d)
}

// register registers a device at its site, unless another site has its name.
func (f *Fleet) register(ctx context.Context, s *site, d provision.Device) (*Result, error) {
	name := s.thingName(d.Name, d.Row)
	other, err := f.elsewhere(ctx, s, name, false)
	if err != nil {
		return nil, err
	}
	if other != nil {
		return notSent(d, name, heldBy(other, name))
	}
	res, err := s.run.Register(ctx, d)
	if err != nil {
		err = &SiteError{Site: s.name, Err: err}
	}
	if res == nil {
		return nil, err
	}
	return &Result{Site: s.name, Result: *res}, err
}

// notSent returns the result of a device that no site takes.
func notSent(d provision.Device, name string, why *refusal) (*Result, error) {
	return &Result{Result: why.result(0, d, name, 0)}, fmt.Errorf("%s is failed: %w", called(name, d.Source), why)
}

// noneOrAll refuses a single device while only part of the list is in the ledgers: the rest may have that device.
func (f *Fleet) noneOrAll(ctx context.Context) error {
	const missing = "the ledgers hold part of the list, so no single device is registered; give the devices to Run again first"
	if !f.record.Spooled {
		for _, err := range f.ledger.Devices(ctx, provision.DeviceFilter{Limit: 1}) {
			if err != nil {
				return fmt.Errorf("the fleet's ledger: %w", err)
			}
			return errors.New(missing)
		}
	}
	for _, s := range f.sites {
		record, err := s.record(ctx)
		if err != nil {
			return &SiteError{Site: s.name, Err: fmt.Errorf("reading its ledger, which may have the device: %w", err)}
		}
		whole := record.Spooled == f.record.Spooled
		if whole && !record.Spooled { // neither has a list
			for _, err := range s.ledger.Devices(ctx, provision.DeviceFilter{AfterSeq: record.Ahead, Limit: 1}) {
				if err != nil {
					return &SiteError{Site: s.name, Err: err}
				}
				whole = false
			}
		}
		if !whole {
			return &SiteError{Site: s.name, Err: errors.New(missing)}
		}
	}
	return nil
}
