package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/task"
)

// findOrphans records the certificates that this run caused and that no device of it uses.
func (ac *account) findOrphans(ctx context.Context, lister task.CertificateLister) error {
	const skew = 15 * time.Minute // between this machine's clock and the service's
	const page = 250
	since := ac.record.Created
	parts, err := ac.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.Adopted && p.Started.Before(since) {
			since = p.Started
		}
	}
	orphans, err := ac.ledger.Orphans(ctx)
	if err != nil {
		return err
	}
	recorded := make(map[string]bool, len(orphans)) // they stay as they are, with what was seen first
	for _, o := range orphans {
		recorded[o.CertificateID] = true
	}
	// More than this AWS cannot have issued since: its quotas are some tens of certificates a second.
	const burst, rate = 10_000, 500
	most := burst + rate*int(max(0, time.Since(since.Add(-skew))).Seconds())
	listed := 0
	var certs []*task.Certificate
	for c, err := range lister.ListCertificates(ctx, since.Add(-skew)) {
		if err != nil {
			return fmt.Errorf("listing certificates: %w", err)
		}
		if listed++; listed > most {
			return fmt.Errorf("listing certificates: there are more than %d since %v, which AWS cannot have issued: the listing has no end",
				most, since.Add(-skew).UTC().Format(time.RFC3339))
		}
		if recorded[c.ID] {
			continue
		}
		if certs = append(certs, c); len(certs) == page {
			if err := ac.sortOut(ctx, lister, certs); err != nil {
				return err
			}
			certs = certs[:0]
		}
	}
	return ac.sortOut(ctx, lister, certs)
}

// sortOut records those of the certificates that carry the key of one of the run's devices and are not that device's
// own.
func (ac *account) sortOut(ctx context.Context, lister task.CertificateLister, certs []*task.Certificate) error {
	ids := make([]string, len(certs))
	for i, c := range certs {
		ids[i] = c.ID
	}
	known, err := ac.ledger.FindCertificates(ctx, ids)
	if err != nil {
		return err
	}
	for _, c := range certs {
		if _, ok := known[c.ID]; ok {
			continue
		}
		var full *task.Certificate
		err := retry(ctx, func() (err error) {
			full, err = lister.ReadCertificate(ctx, c.ID)
			return err
		})
		if errors.Is(err, task.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading certificate %s: %w", c.ID, err)
		}
		digest, err := csr.CertificateKeySHA256([]byte(full.PEM))
		if err != nil {
			continue // a key that no device of ours can have
		}
		owner, err := ac.ledger.FindMatches(ctx, []Match{MatchKey(digest)})
		if err != nil {
			return err
		}
		seq, ok := owner[MatchKey(digest)]
		if !ok {
			continue
		}
		d, err := ac.device(ctx, seq)
		if err != nil {
			return err
		}
		if !hasVerdict(d) || !ac.shape.want(d.Row).issued {
			continue
		}
		why := "no result names it: its line was refused after it was issued, or registered twice"
		if err := ac.orphan(ctx, d, full.ID, full.ARN, why); err != nil {
			return err
		}
	}
	return nil
}

// hasVerdict reports whether no certificate of a device can become its own any more without being looked at first.
func hasVerdict(d *DeviceRecord) bool {
	return d.Verdict == Provisioned || d.Verdict == NoKey || d.Verdict == Failed
}

// countOrphans counts the orphans of a ledger that were not removed and that no device has come to use.
func countOrphans(ctx context.Context, ledger Ledger) (int, error) {
	orphans, err := ledger.Orphans(ctx)
	if err != nil {
		return 0, err
	}
	var left []string
	for _, o := range orphans {
		if o.Removed.IsZero() {
			left = append(left, o.CertificateID)
		}
	}
	used, err := ledger.FindCertificates(ctx, left)
	return len(left) - len(used), err
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
