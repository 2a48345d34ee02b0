package provision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// replacer takes the certificates out of service that those of provisioned devices replace.
type replacer struct {
	*session
	existing Existing
	rates    LookRates
	remover  task.Remover
}

// all does so for every provisioned device of the run for which it is not done yet. After [Run.Stop] it leaves the rest
// to the next call, and returns true.
func (r *replacer) all(ctx context.Context) (left bool, err error) {
	if r.existing != ReplaceExisting {
		return false, nil
	}
	pace := newThrottle(r.rates.resolve(r.record.Identity.Fake).Certificates)
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Provisioned}}) {
		if err != nil {
			return false, err
		}
		if !replaces(d) {
			continue
		}
		if r.stopped() {
			return true, nil
		}
		if err := pace.take(ctx, 1); err != nil {
			return false, err
		}
		if err := r.one(ctx, d); err != nil {
			return false, err
		}
	}
	return false, nil
}

// replaces reports whether a device has certificates that its own replaces and that are still in service.
func replaces(d *DeviceRecord) bool {
	return slices.ContainsFunc(d.Existing, func(c ExistingCertificate) bool {
		return c.Replace && c.Retired.IsZero() && c.ID != d.CertificateID
	})
}

// one does so for one provisioned device, and records it.
func (r *replacer) one(ctx context.Context, d *DeviceRecord) error {
	if r.existing != ReplaceExisting {
		return nil
	}
	for i := range d.Existing {
		c := &d.Existing[i]
		if !c.Replace || !c.Retired.IsZero() || c.ID == d.CertificateID {
			continue
		}
		err := retry(ctx, func() error {
			_, err := r.remover.RetireCertificate(ctx, d.Name, c.ID)
			return err
		})
		if err != nil {
			return fmt.Errorf("device %q is provisioned, and the certificate %s that it replaces is still in service: %w; call it again to go on", d.Name, c.ID, err)
		}
		c.Retired = time.Now()
		if err := r.ledger.Apply(context.WithoutCancel(ctx), Change{Devices: []*DeviceRecord{d}}); err != nil {
			return err
		}
	}
	return nil
}
