package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// Reconcile settles every Unknown device by reading the account back: a device whose thing has a certificate for its key
// is Provisioned, one without is Failed and can be tried again. A device that got no certificate issued, but was given one
// or none, is Provisioned if its thing, with the certificate it was given, is as the template makes it. It needs a backend
// that can read devices (task.DeviceReader), and returns the run's summary, with an [*IncompleteError] if some are not
// provisioned.
//
// It helps after a cancelled task, after reports were lost, and after AWS has deleted a task's data, which it does 30 days
// after the task.
func (r *Run) Reconcile(ctx context.Context) (*Summary, error) {
	began := time.Now()
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if _, ok := task.As[task.DeviceReader](r.opts.Backend); !ok {
		return nil, errors.New("the backend can't read devices back, so what is unknown stays so")
	}
	if err := r.settleUnknown(ctx); err != nil {
		return nil, err
	}
	return r.conclude(ctx, began)
}

// settleUnknown settles what is unknown, where the backend can read devices back. Devices that an interrupted Register
// left behind are unknown, too: no part will ever settle them.
func (r *Run) settleUnknown(ctx context.Context) error {
	if err := r.disownSingles(ctx); err != nil {
		return err
	}
	reader, ok := task.As[task.DeviceReader](r.opts.Backend)
	if !ok {
		return nil
	}
	return r.eachSettled(ctx, Unknown, func(d *DeviceRecord) (bool, error) {
		found, err := r.readBackSettled(ctx, reader, d)
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
func (r *Run) disownSingles(ctx context.Context) error {
	return r.eachSettled(ctx, Submitted, func(d *DeviceRecord) (bool, error) {
		if d.Part != 0 {
			return false, nil
		}
		d.Verdict, d.Message = Unknown, "the program ended before the answer to RegisterThing was recorded"
		return true, nil
	})
}

// eachSettled lets settle change the devices that have a verdict, and stores those it reports true of.
func (r *Run) eachSettled(ctx context.Context, v Verdict, settle func(*DeviceRecord) (bool, error)) error {
	var batch []*DeviceRecord
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{v}}) {
		if err != nil {
			return err
		}
		changed, err := settle(d)
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		d.Updated = time.Now()
		if batch = append(batch, d); len(batch) == deliverBatch {
			if err := r.settle(ctx, Change{Devices: batch}); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return r.settle(ctx, Change{Devices: batch})
}

// settle makes deliveries durable, then the verdicts that rely on them.
func (r *Run) settle(ctx context.Context, change Change) error {
	if len(change.Devices) == 0 && len(change.Orphans) == 0 {
		return nil
	}
	if out := r.opts.Output; out != nil && len(change.Devices) > 0 {
		if err := out.Sync(ctx); err != nil {
			return fmt.Errorf("making the output durable: %w", err)
		}
	}
	return r.ledger.Apply(ctx, change)
}

// readBack looks at a device's thing in the account. It reports true, with the device Provisioned and delivered, when the
// thing is there with a certificate for the device's key that is in its state and has its policies. Further certificates
// for its key are recorded as orphans: the device will use another one. A certificate that was issued for its key shows
// that its line went through; one that was given to it, or none, may have been there before, and the thing must then be
// as its line makes it.
func (r *Run) readBack(ctx context.Context, reader task.DeviceReader, d *DeviceRecord) (bool, error) {
	var dev *task.Device
	err := retry(ctx, func() (err error) {
		dev, err = reader.ReadDevice(ctx, d.Name)
		return err
	})
	if errors.Is(err, task.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading device %q back: %w", d.Name, err)
	}
	cert, others := r.ownCertificates(d, dev)
	for _, o := range others {
		why := "read back: it is for the device's key, and incomplete or one too many"
		if err := r.orphan(ctx, d, o.ID, o.ARN, why); err != nil {
			return false, err
		}
	}
	if cert == nil && d.Match != MatchThing(d.Name) || !r.issues(d) && !r.asAsked(d, dev) {
		return false, nil
	}
	d.ThingARN = dev.ThingARN
	if cert != nil {
		d.CertificateARN, d.CertificateID, d.CertificatePEM = cert.ARN, cert.ID, cert.PEM
		d.Policies = slices.Sorted(slices.Values(cert.Policies))
	}
	d.Verdict, d.Cause, d.Message = Provisioned, CauseNone, ""
	if err := r.deliver(ctx, d); err != nil {
		return false, fmt.Errorf("handing over the credential of device %q: %w", d.Name, err)
	}
	return true, nil
}

// readBackSettled does what readBack does. A device that was sent by itself, and whose answer was lost, is looked for until
// the settle window is over: its request may still take effect, and whoever sends it again before would make a second
// certificate.
func (r *Run) readBackSettled(ctx context.Context, reader task.DeviceReader, d *DeviceRecord) (bool, error) {
	var left time.Duration
	if d.Part == 0 && (d.Verdict == Unknown || d.Verdict == Submitted) {
		left = min(r.opts.SettleWindow, r.opts.SettleWindow-time.Since(d.Updated)) // the clock may have been set back
	}
	deadline := time.Now().Add(left)
	var pause pauser
	for {
		late := !time.Now().Before(deadline)
		if found, err := r.readBack(ctx, reader, d); err != nil || found || late {
			return found, err
		}
		if err := pause.wait(ctx); err != nil {
			return false, err
		}
	}
}

// recordLeftovers records every certificate for a device's key on its thing as an orphan, because another one will be
// issued.
func (r *Run) recordLeftovers(ctx context.Context, reader task.DeviceReader, d *DeviceRecord) error {
	var dev *task.Device
	err := retry(ctx, func() (err error) {
		dev, err = reader.ReadDevice(ctx, d.Name)
		return err
	})
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading device %q back: %w", d.Name, err)
	}
	own, others := r.ownCertificates(d, dev)
	if own != nil && r.issues(d) {
		others = append(others, own)
	}
	for _, o := range others {
		if err := r.orphan(ctx, d, o.ID, o.ARN, "read back: it was issued for a record that was changed since"); err != nil {
			return err
		}
	}
	return nil
}

// ownCertificates finds the certificates of a thing that belong to the device's key. own is complete: in the state the
// template asks for, with the policies that the template gives it; of several it is the newest.
func (r *Run) ownCertificates(d *DeviceRecord, dev *task.Device) (own *task.Certificate, others []*task.Certificate) {
	status, policies := "ACTIVE", []template.PolicySpec(nil)
	if res, err := r.program.Resolve(r.withFills(d.Row)); err == nil {
		policies = res.Policies
		if res.Certificate != nil && res.Certificate.Status != "" {
			status = res.Certificate.Status
		}
	}
	for i := range dev.Certificates {
		c := &dev.Certificates[i]
		if MatchCertificate(c.ID) != d.Match {
			digest, err := certificateKey(c.PEM, c.ID)
			if err != nil || MatchKey(digest) != d.Match {
				continue
			}
		}
		complete := strings.EqualFold(c.Status, status) && hasPolicies(c, policies)
		newer := own == nil || cmp.Or(c.Created.Compare(own.Created), strings.Compare(c.ID, own.ID)) > 0
		switch {
		case !complete || !newer:
			others = append(others, c)
		case own != nil:
			others = append(others, own)
			own = c
		default:
			own = c
		}
	}
	if !r.issues(d) {
		others = nil
	}
	return own, others
}

// hasPolicies reports whether a certificate has the policies of a template. Those made of a document have a name that AWS
// chooses, so they are only counted.
func hasPolicies(c *task.Certificate, policies []template.PolicySpec) bool {
	for _, p := range policies {
		if p.PolicyName != "" && !slices.Contains(c.Policies, p.PolicyName) {
			return false
		}
	}
	return len(c.Policies) >= len(policies)
}

// asAsked reports whether a thing is as the line of a device makes it. What the template leaves alone on a thing that
// exists already may be anything.
func (r *Run) asAsked(d *DeviceRecord, dev *task.Device) bool {
	res, err := r.program.Resolve(r.withFills(d.Row))
	if err != nil || len(res.Things) != 1 {
		return false
	}
	want := res.Things[0]
	if want.OverrideAttributes != template.DoNothing {
		for name, value := range want.Attributes {
			if dev.Attributes[name] != value {
				return false
			}
		}
	}
	if want.ThingTypeName != "" && want.OverrideType != template.DoNothing && dev.ThingTypeName != want.ThingTypeName {
		return false
	}
	if want.OverrideGroups != template.DoNothing {
		for _, group := range want.ThingGroups {
			if !slices.Contains(dev.ThingGroups, group) {
				return false
			}
		}
	}
	return want.BillingGroup == "" || dev.BillingGroup == want.BillingGroup
}
