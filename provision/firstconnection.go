package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// errFirstConnection is the error of calls that are about registering devices now.
var errFirstConnection = errors.New("provision: with Options.FirstConnection no device is registered by the run; Run issues and hands over")

// ruleFirstConnection is the rule of a finding about the CA that registers devices at their first connection.
const ruleFirstConnection finding.Rule = "first-connection"

// firstConnections is the stage in place of parts, tasks and reports when devices are left to their first connection: it
// issues their certificates and hands them over.
type firstConnections struct {
	*session
	shape    *shape
	parts    *parts // takes devices that wait
	handover *handover
}

// all issues and hands over what waits. Stop ends it between two batches.
func (f *firstConnections) all(ctx context.Context) error {
	for !f.stopped() {
		waiting, err := f.parts.waiting(ctx, 0, deliverBatch)
		if err != nil || len(waiting) == 0 {
			return err
		}
		devices, err := f.parts.admit(ctx, waiting)
		if err != nil {
			return err
		}
		if len(devices) == 0 { // all of them have verdicts, which are in the ledger
			continue
		}
		if err := f.issue(ctx, devices); err != nil {
			return err
		}
	}
	return nil
}

// issue makes the keys and certificates of devices durable, hands them over, and records that.
func (f *firstConnections) issue(ctx context.Context, devices []*DeviceRecord) error {
	b := newBatch()
	if err := f.parts.credentials.prepare(ctx, b, devices, never); err != nil {
		return err
	}
	if err := f.parts.credentials.step.Sync(ctx); err != nil {
		return fmt.Errorf("making the keys durable: %w", err)
	}
	event := EventIssued{}
	now := time.Now()
	var change Change
	var issued []*DeviceRecord
	for _, l := range b.lines {
		d := l.DeviceRecord
		d.Updated = now
		change.Devices = append(change.Devices, d)
		if l.row == nil {
			event.Failed++
			continue
		}
		want, err := f.shape.resolve(l.row)
		if err == nil && want.Certificate == nil {
			err = errors.New("the template makes no certificate of it")
		}
		if err == nil {
			d.CertificatePEM = want.Certificate.CertificatePEM
			d.CertificateID, err = task.CertificateID(d.CertificatePEM)
		}
		if err != nil {
			d.fail(CauseInvalidRecord, err.Error())
			event.Failed++
			continue
		}
		d.Verdict, d.Cause, d.Message = Issued, CauseNone, ""
		issued = append(issued, d)
	}
	// A store that does not hold what it has just made durable is broken: no device may leave with such a key.
	if err := f.parts.keys.require(ctx, issued); err != nil {
		return err
	}
	event.Issued = len(issued)
	if err := f.handover.commit(ctx, change); err != nil {
		return err
	}
	f.observe(event)
	return nil
}

// sameWay refuses to go on with a run in another way than it was begun: its devices would be issued for a first connection and
// not be looked for, or be in a part and not be registered; and those that are issued have certificates of one CA, which is
// delivered with them.
func (c *call) sameWay(ctx context.Context) error {
	first := c.run.opts.FirstConnection
	if first {
		if parts, err := c.ledger.Parts(ctx); err != nil || len(parts) > 0 {
			return cmp.Or(err, fmt.Errorf("%w: it was begun with registration tasks; go on without Options.FirstConnection (-cert-mode jit), or begin a new run", ErrElsewhere))
		}
	}
	for d, err := range c.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Issued}, Limit: 1}) {
		if err != nil {
			return err
		}
		if !first {
			return fmt.Errorf("%w: its devices were left to their first connections; go on with Options.FirstConnection (-cert-mode jit)", ErrElsewhere)
		}
		if step, ok := As[*IssueCertificate](c.run.opts.Credential); ok {
			if err := step.CA.Check(d.CertificatePEM); err != nil {
				return fmt.Errorf("device %q is issued: %w", d.Name, err)
			}
		}
	}
	return nil
}

// resolveIssued makes devices Provisioned that have connected: those whose thing has their certificate, ACTIVE.
func (ac *account) resolveIssued(ctx context.Context) error {
	if ac.reader == nil {
		return nil
	}
	return ac.update(ctx, Issued, func(d *DeviceRecord) (bool, error) {
		dev, err := ac.read(ctx, d.Name)
		if err != nil {
			return false, err
		}
		c, missing := issuedCertificate(d, dev, ac.identity())
		if c != nil {
			d.registered(dev, c)
			for i := range dev.Certificates {
				if other := &dev.Certificates[i]; ac.looks && other != c && strings.EqualFold(other.Status, statusActive) {
					d.addMeanwhile(other)
				}
			}
			return true, nil
		}
		changed := d.Message != missing
		d.Message = missing
		return changed, nil
	})
}

// issuedCertificate decides from the thing of an issued device whether it is registered, and returns its certificate as the
// account has it, or what is missing; empty if the account knows nothing of the device, which has not connected then.
func issuedCertificate(d *DeviceRecord, dev *task.Device, where task.Identity) (c *task.Certificate, missing string) {
	if dev == nil {
		return nil, ""
	}
	for i := range dev.Certificates {
		c := &dev.Certificates[i]
		if c.ID != d.CertificateID {
			continue
		}
		exact, err := registration{thing: d.Name, thingARN: dev.ThingARN, certificateARN: c.ARN, certificateID: c.ID, pem: c.PEM}.check(where)
		switch {
		case err != nil:
			return nil, fmt.Sprintf("what the account has of it is not right: %v", err)
		case !strings.EqualFold(c.Status, statusActive):
			return nil, fmt.Sprintf("it has connected, and its certificate is %s: whatever registers devices of this CA has to activate it", c.Status)
		}
		c.PEM = exact
		return c, ""
	}
	return nil, fmt.Sprintf("the account has a thing %s, and its certificate is not on it", rule.Quote(d.Name))
}

// firstConnectionFindings looks at the CA that is to register devices when they first connect.
func firstConnectionFindings(ctx context.Context, backend task.Backend, issuer string) (finding.List, error) {
	report := func(severity finding.Severity, format string, args ...any) finding.List {
		return finding.List{{Rule: ruleFirstConnection, Severity: severity, Message: fmt.Sprintf(format, args...)}}
	}
	cas, ok := task.As[task.CAEnsurer](backend)
	if !ok {
		return report(finding.Unknown, "whether the CA is registered was not looked at: the backend can't read CAs"), nil
	}
	var ca *task.CA
	err := retry(ctx, func() (err error) {
		ca, err = cas.ReadCA(ctx, issuer)
		return err
	})
	if err == nil {
		ca.TemplateName, ca.TemplateBody = "", "" // by which template, if any, is not for the run to say
		err = (&task.CAInput{AutoRegister: true}).Suits(ca)
	}
	switch {
	case errors.Is(err, task.ErrNotFound):
		return report(finding.Error, "the CA of the certificates is not registered, so no device would be when it connects: run EnsureCA with AutoRegister"), nil
	case errors.Is(err, task.ErrConflict):
		return report(finding.Error, "%v", err), nil
	case errors.Is(err, task.ErrAccessDenied):
		return report(finding.Unknown, "could not check: %v", err), nil
	case err != nil:
		return nil, fmt.Errorf("looking for the CA of the certificates: %w", err)
	}
	return report(finding.OK, "the CA registers devices when they first connect"), nil
}

// firstConnectionPreflight refuses to issue certificates that nobody would register.
func (c *call) firstConnectionPreflight(ctx context.Context) error {
	if c.run.opts.SkipPreflight || c.preflown {
		return nil
	}
	for _, err := range c.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Waiting}, Limit: 1}) {
		if err != nil {
			return err
		}
		findings, err := firstConnectionFindings(ctx, c.backend, c.run.shape.issuer)
		if err != nil {
			return err
		}
		c.preflown = true
		bad := findings.Err()
		c.observe(EventPreflight{Findings: findings, Stops: bad != nil})
		if bad != nil {
			return fmt.Errorf("%w; mend this and call it again, or set SkipPreflight to issue certificates all the same: %w", ErrPreflight, bad)
		}
	}
	return nil
}
