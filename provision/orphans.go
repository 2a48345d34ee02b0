package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/task"
)

// FindOrphans looks for certificates that this run caused and that no device of it uses: issued for a line that failed
// later, or for a line that was registered twice. It reads the certificates created since the run began, keeps what it
// finds in the ledger, and returns all orphans of the run, those found earlier included.
//
// It needs a backend with task.CertificateLister. AWS lists 250 certificates a page; only those that the ledger does not
// know are read one by one. Certificates of devices that have no verdict yet are passed over, for they may turn out to be
// the right ones: settle the run first.
func (r *Run) FindOrphans(ctx context.Context) ([]*Orphan, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	lister, ok := task.As[task.CertificateLister](r.opts.Backend)
	if !ok {
		return nil, errors.New("the backend can't list certificates, so orphans can't be looked for")
	}
	if err := r.findOrphans(ctx, lister); err != nil {
		return nil, err
	}
	return r.ledger.Orphans(ctx)
}

func (r *Run) findOrphans(ctx context.Context, lister task.CertificateLister) error {
	const skew = 15 * time.Minute // between this machine's clock and the service's
	const page = 250
	since := r.record.Created
	parts, err := r.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.Adopted && p.Started.Before(since) {
			since = p.Started
		}
	}
	orphans, err := r.ledger.Orphans(ctx)
	if err != nil {
		return err
	}
	recorded := make(map[string]bool, len(orphans)) // they stay as they are, with what was seen first
	for _, o := range orphans {
		recorded[o.CertificateID] = true
	}
	var certs []*task.Certificate
	for c, err := range lister.ListCertificates(ctx, since.Add(-skew)) {
		if err != nil {
			return fmt.Errorf("listing certificates: %w", err)
		}
		if recorded[c.ID] {
			continue
		}
		if certs = append(certs, c); len(certs) == page {
			if err := r.sortOut(ctx, lister, certs); err != nil {
				return err
			}
			certs = certs[:0]
		}
	}
	return r.sortOut(ctx, lister, certs)
}

// sortOut records those of the certificates that carry the key of one of the run's devices and are not that device's own.
func (r *Run) sortOut(ctx context.Context, lister task.CertificateLister, certs []*task.Certificate) error {
	ids := make([]string, len(certs))
	for i, c := range certs {
		ids[i] = c.ID
	}
	known, err := r.ledger.FindCertificates(ctx, ids)
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
		owner, err := r.ledger.FindMatches(ctx, []Match{MatchKey(digest)})
		if err != nil {
			return err
		}
		seq, ok := owner[MatchKey(digest)]
		if !ok {
			continue
		}
		d, err := r.device(ctx, seq)
		if err != nil {
			return err
		}
		if !isSettled(d) || !r.issues(d) {
			continue
		}
		why := "no result names it: its line was refused after it was issued, or registered twice"
		if err := r.orphan(ctx, d, full.ID, full.ARN, why); err != nil {
			return err
		}
	}
	return nil
}

// isSettled reports whether no certificate of a device can become its own any more without being looked at first.
func isSettled(d *DeviceRecord) bool { return d.Verdict == Provisioned || d.Verdict == Failed }

// issues reports whether the service issues a certificate for a device. One that was given to it is not the run's to remove.
func (r *Run) issues(d *DeviceRecord) bool {
	res, err := r.program.Resolve(r.withFills(d.Row))
	return err == nil && res.Certificate != nil && res.Certificate.CertificateSigningRequest != ""
}

// device gives one device of the run.
func (r *Run) device(ctx context.Context, seq int64) (*DeviceRecord, error) {
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{AfterSeq: seq - 1, Limit: 1}) {
		if err != nil || d.Seq == seq {
			return d, err
		}
	}
	return nil, fmt.Errorf("the ledger has no device number %d", seq)
}

// orphan records a certificate that was made for a device.
func (r *Run) orphan(ctx context.Context, d *DeviceRecord, id, arn, why string) error {
	o := &Orphan{CertificateID: id, CertificateARN: arn, Seq: d.Seq, Name: d.Name, Why: why, Found: time.Now()}
	return r.ledger.Apply(ctx, Change{Orphans: []*Orphan{o}})
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

// RemoveOrphans deactivates and deletes the run's orphans and returns how many it removed. Each is checked against the
// ledger once more: a certificate that a device uses, or that was made for a device without a verdict, is not removed; it
// is named in the error, and the others are removed all the same. It needs a backend with task.CertificateRemover.
func (r *Run) RemoveOrphans(ctx context.Context) (int, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.leave()
	if err := r.open(ctx); err != nil {
		return 0, err
	}
	remover, ok := task.As[task.CertificateRemover](r.opts.Backend)
	if !ok {
		return 0, errors.New("the backend can't remove certificates")
	}
	orphans, err := r.ledger.Orphans(ctx)
	if err != nil {
		return 0, err
	}
	n := 0
	var kept []error
	for _, o := range orphans {
		if !o.Removed.IsZero() {
			continue
		}
		used, err := r.ledger.FindCertificates(ctx, []string{o.CertificateID})
		if err != nil {
			return n, err
		}
		if seq, ok := used[o.CertificateID]; ok {
			kept = append(kept, fmt.Errorf("certificate %s was recorded as an orphan and is used by device number %d now: it is kept",
				o.CertificateID, seq))
			continue
		}
		d, err := r.device(ctx, o.Seq)
		if err != nil {
			return n, err
		}
		if !isSettled(d) {
			kept = append(kept, fmt.Errorf("certificate %s was made for device %q, which is %s: it is kept until the run has settled that",
				o.CertificateID, d.Name, d.Verdict))
			continue
		}
		if err := retry(ctx, func() error { return remover.RemoveCertificate(ctx, o.CertificateID) }); err != nil {
			return n, fmt.Errorf("removing certificate %s of device %q: %w", o.CertificateID, o.Name, err)
		}
		o.Removed = time.Now()
		if err := r.ledger.Apply(context.WithoutCancel(ctx), Change{Orphans: []*Orphan{o}}); err != nil {
			return n, err
		}
		n++
	}
	return n, errors.Join(kept...)
}
