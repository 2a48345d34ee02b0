package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/task"
)

// lookAtEnd looks through the certificates that were made since the run began: for those of others on things of the run,
// when it has just finished or an earlier call has found some, and for orphans, if devices of it were sent and failed and
// nobody has looked since. That a look failed is a note in the summary.
func (c *call) lookAtEnd(ctx context.Context, s *Summary, finished bool) error {
	lister, ok := task.As[task.CertificateLister](c.backend)
	if s.Pending > 0 || !ok {
		return nil
	}
	sent := 0
	if s.Failed > 0 && s.OrphansLooked.IsZero() {
		for d, err := range c.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Failed}}) {
			if err != nil {
				return err
			}
			if d.Attempts > 0 {
				sent++
			}
		}
	}
	// Where others register at the same time, most of what is new is theirs, and each is asked for by itself.
	const spare = 1000
	l := c.account.lookThrough(lister)
	l.orphans, l.others = sent > 0, c.account.looks && len(s.Tasks) > 0 && s.Provisioned+s.NoKey > 0
	l.most = spare + 2*max(sent, int(s.Provisioned+s.NoKey))
	if c.account.looks && s.Meanwhile > 0 {
		s.OrphansError = l.forget(ctx)
	}
	if l.orphans || l.others && finished {
		s.OrphansError = errors.Join(s.OrphansError, l.all(ctx))
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if !l.changed {
		return nil
	}
	counts, _, err := (&replacer{session: c.session}).all(ctx) // which only counts, with no Existing
	if err != nil {
		return err
	}
	s.Meanwhile = counts.meanwhile
	return s.countOrphans(ctx, c.session)
}

// lookThrough looks through the certificates that were made since a run began.
type lookThrough struct {
	*account
	lister  task.CertificateLister
	pace    *throttle
	orphans bool // look for those that this run caused and that no device of it uses
	others  bool // look for those that others have put on things of the run
	most    int  // how many that the ledger does not know are asked for; 0 means all

	asked   map[string]bool // by certificate id, and those that nobody needs to ask for
	asks    int
	changed bool // something was recorded
}

func (ac *account) lookThrough(lister task.CertificateLister) *lookThrough {
	return &lookThrough{account: ac, lister: lister, pace: newThrottle(ac.rates.resolve(ac.identity().Fake).Certificates), asked: map[string]bool{}}
}

// findOrphans records the certificates that this run caused and that no device of it uses.
func (ac *account) findOrphans(ctx context.Context, lister task.CertificateLister) error {
	l := ac.lookThrough(lister)
	l.orphans = true
	return l.all(ctx)
}

// all looks at all certificates. The listing is begun again where the service throttles it.
func (l *lookThrough) all(ctx context.Context) error {
	const page = 250
	since, err := l.began(ctx)
	if err != nil {
		return err
	}
	orphans, err := l.ledger.Orphans(ctx)
	if err != nil {
		return err
	}
	for _, o := range orphans { // they stay as they are, with what was seen first
		l.asked[o.CertificateID] = true
	}
	var failed error // of what is asked about a certificate, which was repeated already
	err = retry(ctx, func() error {
		var certs []*task.Certificate
		listed, bound := 0, 0
		for c, err := range l.lister.ListCertificates(ctx, since) {
			if err != nil {
				return fmt.Errorf("listing certificates: %w", err)
			}
			if listed == 0 {
				bound = l.mostSince(since, c.Created)
			}
			if listed++; listed > bound {
				return fmt.Errorf("listing certificates: there are more than %d since %v, which AWS cannot have issued: the listing has no end",
					bound, since.UTC().Format(time.RFC3339))
			}
			if certs = append(certs, c); len(certs) == page {
				if failed = l.sortOut(ctx, certs); failed != nil {
					return nil
				}
				certs = certs[:0]
			}
		}
		failed = l.sortOut(ctx, certs)
		return nil
	})
	if err = cmp.Or(err, failed); err != nil || !l.orphans {
		return err
	}
	l.record.OrphansLooked = time.Now()
	l.changed = true
	return l.ledger.Apply(ctx, Change{Run: l.record})
}

// began is a time by the service's clock before which nothing of this run was made. This machine's clock may be wrong, or
// may have been wrong when the run began, so what it showed is corrected by the times that the service has stated of the
// run's tasks.
func (ac *account) began(ctx context.Context) (time.Time, error) {
	parts, err := ac.ledger.Parts(ctx)
	if err != nil {
		return time.Time{}, err
	}
	since, ahead, known := ac.record.Created, time.Duration(0), false
	for _, p := range parts {
		if p.TaskCreated.IsZero() {
			continue
		}
		known = true
		ahead = max(ahead, p.Started.Sub(p.TaskCreated))
		if p.Adopted && p.TaskCreated.Before(since) {
			since = p.TaskCreated
		}
	}
	if known {
		return since.Add(-ahead - skew), nil
	}
	return since.Add(-blindSkew), nil
}

const (
	skew      = 15 * time.Minute // how far this machine's clock may have gone wrong since it was compared with the service's
	blindSkew = 24 * time.Hour   // the same if nothing is known of the service's clock
)

// mostSince is how many certificates AWS can have issued from a time until the newest was made: its quotas are some tens a
// second. A newest one of the far future is not believed.
func (ac *account) mostSince(since, newest time.Time) int {
	const burst, rate = 10_000, 500
	passed := min(newest.Sub(since), max(0, time.Since(ac.record.Created))+2*blindSkew)
	return burst + rate*int(max(0, passed).Seconds())
}

// sortOut records those of the certificates that carry the key of one of the run's devices and are not that device's
// own, and those of others that are on things of the run.
func (l *lookThrough) sortOut(ctx context.Context, certs []*task.Certificate) error {
	if err := l.pace.take(ctx, 1); err != nil {
		return err
	}
	ids := make([]string, len(certs))
	for i, c := range certs {
		ids[i] = c.ID
	}
	known, err := l.ledger.FindCertificates(ctx, ids)
	if err != nil {
		return err
	}
	for _, c := range certs {
		if _, ok := known[c.ID]; ok || l.asked[c.ID] {
			continue
		}
		if l.asks++; l.most > 0 && l.asks > l.most {
			return fmt.Errorf("more than %d certificates were made since the run began that it does not know, and not all were looked at; "+
				"FindOrphans looks at all", l.most)
		}
		l.asked[c.ID] = true
		if l.asks%100 == 0 {
			l.observe(EventLookedThrough{Others: l.asks})
		}
		var carriers []*DeviceRecord
		if l.others && strings.EqualFold(c.Status, statusActive) {
			if carriers, err = l.carriers(ctx, c.ARN); err != nil {
				return fmt.Errorf("looking which things have certificate %s: %w", c.ID, err)
			}
		}
		if !l.orphans && len(carriers) == 0 {
			continue
		}
		switch known, err := l.orphaned(ctx, c.ID); {
		case err != nil:
			return err
		case known:
		default:
			if err := l.meanwhile(ctx, c, carriers); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphaned reports whether a certificate carries the key of one of the run's devices, or is gone, and records it as an
// orphan if the device has a verdict and another certificate.
func (l *lookThrough) orphaned(ctx context.Context, id string) (bool, error) {
	var full *task.Certificate
	err := retry(ctx, func() (err error) {
		full, err = l.lister.ReadCertificate(ctx, id)
		return err
	})
	if errors.Is(err, task.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading certificate %s: %w", id, err)
	}
	digest, err := csr.CertificateKeySHA256([]byte(full.PEM))
	if err != nil {
		return false, nil // a key that no device of ours can have
	}
	owner, err := l.ledger.FindMatches(ctx, []Match{MatchKey(digest)})
	if err != nil {
		return false, err
	}
	seq, ok := owner[MatchKey(digest)]
	if !ok {
		return false, nil
	}
	d, err := l.device(ctx, seq)
	if err != nil || !hasVerdict(d) || !l.shape.want(d.Row).made {
		return true, err
	}
	l.changed = true
	why := "no result names it: its line was refused after it was issued or registered, or was registered twice"
	return true, l.orphan(ctx, d, full.ID, full.ARN, why)
}

// hasVerdict reports whether no certificate of a device can become its own any more without being looked at first.
func hasVerdict(d *DeviceRecord) bool {
	return d.Verdict == Provisioned || d.Verdict == NoKey || d.Verdict == Failed || d.Verdict == Removed || d.Verdict == Removing
}

// countOrphans counts the orphans of a ledger that were not removed.
func countOrphans(ctx context.Context, ledger Ledger) (int, error) {
	orphans, err := ledger.Orphans(ctx)
	n := 0
	for _, o := range orphans {
		if o.Removed.IsZero() {
			n++
		}
	}
	return n, err
}

// removeOrphans removes the orphans that still exist and returns how many it removed.
func (ac *account) removeOrphans(ctx context.Context, remover task.Remover) (int, error) {
	orphans, err := ac.ledger.Orphans(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	var kept []error
	for _, o := range orphans {
		if !o.Removed.IsZero() {
			continue
		}
		used, err := ac.ledger.FindCertificates(ctx, []string{o.CertificateID})
		if err != nil {
			return n, err
		}
		if seq, ok := used[o.CertificateID]; ok {
			kept = append(kept, fmt.Errorf("certificate %s was recorded as an orphan and is used by device number %d now: it is kept",
				o.CertificateID, seq))
			continue
		}
		d, err := ac.device(ctx, o.Seq)
		if err != nil {
			return n, err
		}
		if !hasVerdict(d) {
			kept = append(kept, fmt.Errorf("certificate %s was made for device %q, which is %s: it is kept until the run has settled that",
				o.CertificateID, d.Name, d.Verdict))
			continue
		}
		if used, err := ac.inUse(ctx, d, o.CertificateID); err != nil {
			return n, err
		} else if used != "" {
			kept = append(kept, fmt.Errorf("certificate %s was recorded as an orphan of device %q: %s; it is kept", o.CertificateID, d.Name, used))
			continue
		}
		var others []string
		err = retry(ctx, func() (err error) {
			others, err = remover.RetireCertificate(ctx, o.Name, o.CertificateID)
			return err
		})
		if err != nil {
			return n, fmt.Errorf("removing certificate %s of device %q: %w", o.CertificateID, o.Name, err)
		}
		if len(others) > 0 {
			kept = append(kept, fmt.Errorf("certificate %s, an orphan of device %q, is on other things, too (%s): it is detached from this one and kept",
				o.CertificateID, o.Name, strings.Join(others, ", ")))
			continue
		}
		o.Removed = time.Now()
		if err := ac.ledger.Apply(context.WithoutCancel(ctx), Change{Orphans: []*Orphan{o}}); err != nil {
			return n, err
		}
		n++
	}
	return n, errors.Join(kept...)
}

// inUse returns why an orphan may be the certificate that its device works with, for all that the ledger knows; "" if it is
// not. The ledger may be an older copy, from before the device was sent once more. A device that would be left with no
// ACTIVE certificate is not taken its last one.
func (ac *account) inUse(ctx context.Context, d *DeviceRecord, id string) (why string, err error) {
	if ac.reader == nil || d.Name == "" || d.Verdict == Removed || d.Verdict == Removing {
		return "", nil
	}
	dev, err := ac.read(ctx, d.Name)
	if err != nil || dev == nil {
		return "", err
	}
	active := func(id string) bool {
		return slices.ContainsFunc(dev.Certificates, func(c task.Certificate) bool { return c.ID == id && strings.EqualFold(c.Status, statusActive) })
	}
	switch {
	case !active(id) || d.CertificateID != "" && active(d.CertificateID):
		return "", nil
	case d.Verdict == Provisioned || d.Verdict == NoKey:
		return fmt.Sprintf("it is on its thing, and the certificate %s that the ledger has for the device is not, so the ledger may be an older copy",
			d.CertificateID), nil
	}
	if own := judge(copyDevice(d), ac.shape.want(d.Row), dev, ac.identity()); !own.registered || own.own == nil || own.own.ID != id {
		return "", nil
	}
	call := "Run.Amend"
	if d.Cause.Retryable() {
		call = "Run.Retry"
	}
	return fmt.Sprintf("the device is registered with it, complete, in the account, though it is %s in the ledger: %s takes it up, and Run.Remove takes it away",
		d.Verdict, call), nil
}
