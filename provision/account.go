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

// account reads devices back from the account, where the backend can.
type account struct {
	*session
	shape        *shape
	handover     *handover
	settleWindow time.Duration
	reader       task.DeviceReader // nil if the backend can't read devices
	looks        bool              // for certificates of others, too
	rates        LookRates
}

func newAccount(s *session, sh *shape, h *handover, settleWindow time.Duration) *account {
	a := &account{session: s, shape: sh, handover: h, settleWindow: settleWindow}
	a.reader, _ = task.As[task.DeviceReader](s.backend)
	return a
}

// resolveUnknown gives every device that is Unknown a verdict, if the backend can read devices back. Devices that an
// interrupted Register left behind are Unknown, too: no part resolves them.
func (ac *account) resolveUnknown(ctx context.Context) error {
	if err := ac.disownSingles(ctx); err != nil {
		return err
	}
	if ac.reader == nil {
		return nil
	}
	return ac.update(ctx, Unknown, func(d *DeviceRecord) (bool, error) {
		found, err := ac.awaitDevice(ctx, d)
		if err != nil || found {
			return found, err
		}
		why := d.Message
		d.fail(CauseTask, "read back and not registered")
		if why != "" {
			d.Message += "; before that: " + why
		}
		return true, nil
	})
}

// disownSingles makes devices Unknown that were sent by themselves and whose answer nobody waits for any more.
func (ac *account) disownSingles(ctx context.Context) error {
	return ac.update(ctx, Submitted, func(d *DeviceRecord) (bool, error) {
		if d.Part != 0 {
			return false, nil
		}
		d.Verdict, d.Message = Unknown, "the program ended before the answer to RegisterThing was recorded"
		return true, nil
	})
}

// update lets change work on the devices that have a verdict, and stores those it reports true of.
func (ac *account) update(ctx context.Context, v Verdict, change func(*DeviceRecord) (bool, error)) error {
	var batch []*DeviceRecord
	for d, err := range ac.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{v}}) {
		if err != nil {
			return err
		}
		changed, err := change(d)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		d.Updated = time.Now()
		if batch = append(batch, d); len(batch) == deliverBatch {
			if err := ac.handover.commit(ctx, Change{Devices: batch}); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return ac.handover.commit(ctx, Change{Devices: batch})
}

// find looks at a device's thing in the account. It reports true if that settles the device: its line went through, and
// commit then makes it Provisioned, or the certificate that the account holds for it is wrong, and it is Failed. Further
// certificates for its key are recorded as orphans: the device will use another one.
func (ac *account) find(ctx context.Context, d *DeviceRecord) (bool, error) {
	dev, err := ac.read(ctx, d.Name)
	if dev == nil {
		return false, err
	}
	found := judge(d, ac.shape.want(d.Row), dev, ac.identity())
	if err := ac.orphans(ctx, d, found.leftovers, "read back: it is for the device's key, and incomplete or one too many"); err != nil {
		return false, err
	}
	if found.wrong != nil {
		d.fail(CauseCertificate, fmt.Sprintf("read back from the account, and not to be used: %v; look at the thing %s there, and take "+
			"off it what is wrong before the device is sent again", found.wrong, rule.Quote(d.Name)))
		return true, nil
	}
	if !found.registered {
		return false, nil
	}
	d.registered(dev, found.own)
	return true, nil
}

// registered makes a device Provisioned that was found in the account. c is nil if its line makes no certificate.
func (d *DeviceRecord) registered(dev *task.Device, c *task.Certificate) {
	d.ThingARN = dev.ThingARN
	if c != nil {
		d.CertificateARN, d.CertificateID, d.CertificatePEM = c.ARN, c.ID, c.PEM
		d.Policies = slices.Sorted(slices.Values(c.Policies))
	}
	d.provisioned()
}

// awaitDevice does what find does. A device that was sent by itself, and whose answer was lost, is looked for until the
// settle window is over: its request may still take effect, and whoever sends it again before would make a second
// certificate.
func (ac *account) awaitDevice(ctx context.Context, d *DeviceRecord) (bool, error) {
	var left time.Duration
	if d.Part == 0 && (d.Verdict == Unknown || d.Verdict == Submitted) {
		left = min(ac.settleWindow, ac.settleWindow-time.Since(d.Updated)) // the clock may have been set back
	}
	deadline := time.Now().Add(left)
	var pause pauser
	for {
		late := !time.Now().Before(deadline)
		if found, err := ac.find(ctx, d); err != nil || found || late {
			return found, err
		}
		if err := pause.wait(ctx); err != nil {
			return false, err
		}
	}
}

// recordLeftovers records every certificate for a device's key on its thing as an orphan, because another one will be
// issued.
func (ac *account) recordLeftovers(ctx context.Context, d *DeviceRecord) error {
	dev, err := ac.read(ctx, d.Name)
	if dev == nil {
		return err
	}
	want := ac.shape.want(d.Row)
	found := judge(d, want, dev, ac.identity())
	if found.own != nil && want.issued {
		found.leftovers = append(found.leftovers, found.own)
	}
	return ac.orphans(ctx, d, found.leftovers, "read back: it was issued for a record that was changed since")
}

// read returns a device's thing; nil if there is none.
func (ac *account) read(ctx context.Context, name string) (dev *task.Device, err error) {
	err = retry(ctx, func() (err error) {
		dev, err = ac.reader.ReadDevice(ctx, name)
		return err
	})
	if errors.Is(err, task.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading device %q back: %w", name, err)
	}
	return dev, nil
}

func (ac *account) orphans(ctx context.Context, d *DeviceRecord, certs []*task.Certificate, why string) error {
	for _, c := range certs {
		if err := ac.orphan(ctx, d, c.ID, c.ARN, why); err != nil {
			return err
		}
	}
	return nil
}
