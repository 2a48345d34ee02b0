package provision

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// carriers returns the devices of the run that have a certificate of their own and whose things have this one, too.
func (l *lookThrough) carriers(ctx context.Context, arn string) (list []*DeviceRecord, err error) {
	names, err := l.things(ctx, arn)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	ours, err := l.ledger.FindNames(ctx, names)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		seq, ok := ours[name]
		if !ok {
			continue
		}
		d, err := l.device(ctx, seq)
		if err != nil {
			return nil, err
		}
		if d.CertificateID != "" && (d.Verdict == Provisioned || d.Verdict == NoKey) {
			list = append(list, d)
		}
	}
	return list, nil
}

// things returns the names of the things that have a certificate.
func (l *lookThrough) things(ctx context.Context, arn string) (names []string, err error) {
	err = retry(ctx, func() (err error) {
		if err := l.pace.take(ctx, 1); err != nil {
			return err
		}
		names, err = l.lister.CertificateThings(ctx, arn)
		return err
	})
	return names, err
}

// meanwhile records a certificate of somebody else with the devices on whose things it is, unless it was seen there before
// they were sent.
func (l *lookThrough) meanwhile(ctx context.Context, c *task.Certificate, carriers []*DeviceRecord) error {
	for _, d := range carriers {
		if !d.addMeanwhile(c) {
			continue
		}
		if err := l.keep(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// addMeanwhile reports false if the device has the certificate already.
func (d *DeviceRecord) addMeanwhile(c *task.Certificate) bool {
	if slices.ContainsFunc(d.Existing, func(e ExistingCertificate) bool { return e.ID == c.ID }) {
		return false
	}
	d.Existing = append(d.Existing, ExistingCertificate{ID: c.ID, ARN: c.ARN, Created: c.Created, Meanwhile: true})
	return true
}

func (l *lookThrough) keep(ctx context.Context, d *DeviceRecord) error {
	l.changed, d.Updated = true, time.Now()
	return l.ledger.Apply(context.WithoutCancel(ctx), Change{Devices: []*DeviceRecord{d}, InputStays: true})
}

// forget takes those of such certificates out of the records that are not ACTIVE on the thing any more: somebody has decided
// which of the two the device keeps.
func (l *lookThrough) forget(ctx context.Context) error {
	for d, err := range l.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Provisioned, NoKey}, Existing: true}) {
		if err != nil {
			return err
		}
		var there []ExistingCertificate
		for _, c := range d.Existing {
			if c.Meanwhile {
				on, err := l.isOn(ctx, d.Name, c)
				if err != nil {
					return err
				}
				if !on {
					continue
				}
			}
			there = append(there, c)
		}
		if len(there) == len(d.Existing) {
			continue
		}
		d.Existing = there
		if err := l.keep(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// isOn reports whether a thing has a certificate, ACTIVE.
func (l *lookThrough) isOn(ctx context.Context, thing string, c ExistingCertificate) (bool, error) {
	names, err := l.things(ctx, c.ARN)
	if err != nil || !slices.Contains(names, thing) {
		return false, err
	}
	var now *task.Certificate
	err = retry(ctx, func() (err error) {
		now, err = l.lister.ReadCertificate(ctx, c.ID)
		return err
	})
	if errors.Is(err, task.ErrNotFound) {
		return false, nil
	}
	return err == nil && strings.EqualFold(now.Status, statusActive), err
}
