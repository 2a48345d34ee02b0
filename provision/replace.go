package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// replacer takes the certificates out of service that those of provisioned devices replace.
type replacer struct {
	*session
	existing Existing
	rates    LookRates
	remover  task.Remover
}

// replaced is how far the replacing of older certificates is.
type replaced struct {
	certificates int64 // taken out of service, by any call
	// still are the devices that have an older one in service: those that are left to a call with ReplaceExisting, or after
	// [Run.Stop] to the next one, and those whose certificate the service refuses to give up.
	still     int64
	meanwhile int64 // devices that have one of somebody else since they were looked at
}

// all does so for every provisioned device of the run for which it is not done yet. The devices in failed keep no other one
// from it.
func (r *replacer) all(ctx context.Context) (sum replaced, failed, err error) {
	pace := newThrottle(r.rates.resolve(r.record.Identity.Fake).Certificates)
	var refused unlucky
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Provisioned, NoKey}, Existing: true}) {
		if err != nil {
			return replaced{}, nil, err
		}
		if slices.ContainsFunc(d.Existing, func(c ExistingCertificate) bool { return c.Meanwhile }) {
			sum.meanwhile++
		}
		if d.Verdict == NoKey {
			continue
		}
		sum.certificates += d.retired()
		if !replaces(d) {
			continue
		}
		if r.existing != ReplaceExisting || r.stopped() {
			sum.still++
			continue
		}
		if err := pace.take(ctx, 1); err != nil {
			return replaced{}, nil, err
		}
		before := d.retired()
		err := r.one(ctx, d)
		sum.certificates += d.retired() - before
		if ofOneDevice(err) {
			sum.still++
			refused.add(err)
			continue
		}
		if err != nil {
			return replaced{}, nil, err
		}
	}
	return sum, refused.join(), nil
}

// retired is how many older certificates of a device were taken out of service.
func (d *DeviceRecord) retired() (n int64) {
	for _, c := range d.Existing {
		if !c.Retired.IsZero() {
			n++
		}
	}
	return n
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
		var others []string
		err := retry(ctx, func() (err error) {
			others, err = r.remover.RetireCertificate(ctx, d.Name, c.ID)
			return err
		})
		if err != nil {
			return fmt.Errorf("device %q is provisioned, and the certificate %s that it replaces is still in service: %w; call it again to go on", d.Name, c.ID, err)
		}
		c.Retired = time.Now()
		if len(others) > 0 { // they go on using it
			c.SerialNumber = ""
		}
		if err := r.ledger.Apply(context.WithoutCancel(ctx), Change{Devices: []*DeviceRecord{d}}); err != nil {
			return err
		}
	}
	return nil
}

// ofOneDevice reports whether an error of the service is about the device that it was asked to change, and not about
// the others.
func ofOneDevice(err error) bool {
	return errors.Is(err, task.ErrConflict) || errors.Is(err, task.ErrInvalidRequest)
}

// unlucky collects the errors of devices that keep no other one.
type unlucky struct {
	shown []error
	more  int
}

func (f *unlucky) add(err error) {
	const most = 10
	if len(f.shown) == most {
		f.more++
		return
	}
	f.shown = append(f.shown, err)
}

// join returns all of them as one error, the first ten in full.
func (f *unlucky) join() error {
	if f.more > 0 {
		f.shown = append(f.shown, fmt.Errorf("and %s more", rule.Count(f.more, "device")))
	}
	return errors.Join(f.shown...)
}
