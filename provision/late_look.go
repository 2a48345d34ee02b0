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

// lookLate looks at the account for a part that was written where that could not be done, and takes the devices that must
// not be sent out of its file.
func (ps *parts) lookLate(ctx context.Context, p *part) error {
	if !p.Looked.IsZero() || !ps.looker.looks() {
		return nil
	}
	looked := time.Now()
	if _, err := ps.looker.look(ctx, p.devices); err != nil {
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
	p.Looked = looked
	if err := ps.looker.account.handover.commit(ctx, Change{Part: p.PartRecord, Devices: p.devices}); err != nil {
		return err
	}
	ps.looker.report(p.devices)
	p.devices = slices.DeleteFunc(p.devices, func(d *DeviceRecord) bool { return d.Part != p.Number })
	if p.File != old {
		_ = os.Remove(filepath.Join(ps.dir, old)) // it was never sent, and nothing names it any more
	}
	return nil
}

// rewrite writes a part's file again without some of its devices. If none is left, the part is collected.
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
	p.File = fmt.Sprintf("part-%05d-%d-%.12s.json", p.Number, p.Attempt, p.SHA256)
	return f.place(ps.dir, p.PartRecord)
}
