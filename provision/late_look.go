package provision

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// lookAgain looks once more for an uploaded part that is about to be started, unless that was done in this call and after a
// time when others were at work: it was written where nobody could look, or its run was interrupted, or it has waited for a
// task of somebody else. Where a whole task of somebody else may have gone unseen since the look, it asks whether there are
// things now that there were not. Devices that must not be sent, for what the account has or because their certificates have
// expired meanwhile, are taken out of its file, which is then uploaded once more. If none is left, the part is collected.
func (ps *parts) lookAgain(ctx context.Context, p *part, others, unseen time.Time) error {
	if p.Adopted {
		return nil
	}
	if p.fresh && p.Looked.After(others) {
		if unseen.Sub(p.Looked) < wholeTask {
			return nil
		}
		if appeared, err := ps.looker.appeared(ctx, p.devices); err != nil || !appeared {
			return err
		}
	}
	if expires := ps.shape.issuer != "" && (p.loaded || !others.IsZero()); !ps.looker.looks() && !expires {
		return nil
	}
	if err := ps.lookLate(ctx, p); err != nil || p.State != PartWritten {
		return err
	}
	return ps.upload(ctx, p)
}

// lookLate looks for the devices of a part that is written, and takes those that must not be sent out of its file.
func (ps *parts) lookLate(ctx context.Context, p *part) error {
	looked := time.Now()
	if ps.looker.looks() {
		if _, err := ps.looker.look(ctx, p.devices); err != nil {
			return err
		}
		if err := ps.looker.refuseDelivered(ctx, p.devices); err != nil {
			return err
		}
		p.Looked, p.fresh = looked, true
	}
	if err := ps.refuseExpired(ctx, p); err != nil {
		return err
	}
	old := p.File
	keep := func(d *DeviceRecord) bool { return d.Verdict == Submitted }
	if out := slices.DeleteFunc(slices.Clone(p.devices), keep); len(out) > 0 {
		if err := ps.rewrite(ctx, p, keep); err != nil {
			return fmt.Errorf("taking %s out of part %d: %w", rule.Count(len(out), "device"), p.Number, err)
		}
		for _, d := range out {
			d.Part, d.Line = 0, 0
			d.Attempts--
		}
	}
	for _, d := range p.devices {
		d.Updated = looked
	}
	if err := ps.looker.account.handover.commit(ctx, Change{Part: p.PartRecord, Devices: p.devices}); err != nil {
		return err
	}
	ps.looker.report(p.devices)
	p.devices = slices.DeleteFunc(p.devices, func(d *DeviceRecord) bool { return d.Part != p.Number })
	if p.File != old {
		_ = os.Remove(filepath.Join(ps.dir, old)) // it was never started, and nothing names it any more
	}
	return nil
}

// refuseExpired fails the devices of a part whose certificates, of the run's own CA, have expired since they were issued.
func (ps *parts) refuseExpired(ctx context.Context, p *part) error {
	if ps.shape.issuer == "" {
		return nil
	}
	f, err := ps.openPartFile(ctx, p)
	if err != nil {
		return fmt.Errorf("part %d: %w", p.Number, err)
	}
	defer func() { _ = f.Close() }()
	i := 0
	for row, err := range datafile.Read(f) {
		if err == nil {
			err = row.Err
		}
		if err != nil {
			return err
		}
		d := p.devices[i]
		i++
		want, err := ps.shape.resolve(row.Values)
		if err != nil || want.Certificate == nil || d.Verdict != Submitted {
			continue
		}
		if err := unexpired(want.Certificate.CertificatePEM); err != nil {
			d.fail(CauseKey, err.Error())
		}
	}
	return nil
}

// rewrite writes a part's file again without some of its devices, and takes the part back to where it is to be uploaded. If
// none is left, the part is collected.
func (ps *parts) rewrite(ctx context.Context, p *part, keep func(*DeviceRecord) bool) error {
	from, err := ps.openPartFile(ctx, p)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	f, err := ps.createPartFile()
	if err != nil {
		return err
	}
	defer f.discard()
	w := ps.newWriter(f)
	i := 0
	for row, err := range datafile.Read(from) {
		if err == nil {
			err = row.Err
		}
		if err != nil {
			return err
		}
		d := p.devices[i]
		if i++; !keep(d) {
			continue
		}
		if err := w.WriteRow(row.Values); err != nil {
			return err
		}
		d.Line = w.Lines()
	}
	if err := w.Close(); err != nil {
		return err
	}
	if w.Lines() == 0 {
		p.Lines, p.State, p.Collected = 0, PartCollected, time.Now()
		return nil
	}
	digest := w.SHA256()
	p.Lines, p.Bytes, p.SHA256 = int(w.Lines()), w.Bytes(), hex.EncodeToString(digest[:])
	p.State = PartWritten
	p.File = fmt.Sprintf("part-%05d-%d-%.12s.json", p.Number, p.Attempt, p.SHA256)
	return f.place(ps.dir, p.PartRecord)
}
