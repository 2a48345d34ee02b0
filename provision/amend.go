package provision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Amend feeds mended records back into a run: those of failures.csv, corrected. Each takes the place of the record it
// mends, found by Device.Record or else by the thing's name, and is then sent. Records that are not Failed are left as they
// are, so feeding the same file twice does nothing more. Another run's records are refused with [ErrInputChanged].
//
// A device keeps its key and its request, whether its row was changed or not, unless the request was the fault or its name
// is another now. It returns what Run returns.
func (r *Run) Amend(ctx context.Context, mended iter.Seq2[Device, error]) (*Summary, error) {
	if mended == nil {
		return nil, errors.New("the mended devices are missing")
	}
	began := time.Now()
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	defer r.stopObeyed()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if !r.record.Spooled {
		return nil, errors.New("the run does not hold its whole input yet; give it all devices (Run) before mended ones")
	}
	// A device that is mended while its part is on its way would be missed there.
	if err := r.settleParts(ctx); err != nil {
		return nil, err
	}
	m := amender{run: r}
	n := 0
	for d, err := range mended {
		if r.stopped() {
			r.cut = true
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading the mended devices after %d records: %w", n, err)
		}
		n++
		if err := m.amend(ctx, d); err != nil {
			return nil, fmt.Errorf("mended record %d%s: %w", n, from(d), err)
		}
	}
	if err := r.registerAll(ctx, true); err != nil {
		return nil, err
	}
	return r.conclude(ctx, began)
}

func from(d Device) string {
	if d.Source == "" {
		return ""
	}
	return " (" + d.Source + ")"
}

// amender takes mended records in.
type amender struct {
	run    *Run
	looked bool // orphans were looked for
}

func (m *amender) amend(ctx context.Context, d Device) error {
	r := m.run
	if d.Record == 0 && d.Err != nil {
		return d.Err // whose record it is can't be told
	}
	if d.RunID != "" && d.RunID != r.record.ID {
		return fmt.Errorf("%w: it mends record %d of run %s, and this is run %s; give it to the run that it is of", ErrInputChanged, d.Record, d.RunID, r.record.ID)
	}
	fresh := r.newRecord(0, d)
	old, err := r.findRecord(ctx, d, fresh.Name)
	if err != nil {
		return err
	}
	if old.Verdict != Failed {
		return nil
	}
	rec := copyDevice(old)
	if rec.Original == nil && !maps.Equal(rec.Row, fresh.Row) {
		rec.Original = make(map[string]string, len(rec.Row)) // not nil, even if the record could not be read
		maps.Copy(rec.Original, rec.Row)
	}
	rec.Name, rec.Row, rec.Verdict, rec.Cause, rec.Message = fresh.Name, fresh.Row, fresh.Verdict, fresh.Cause, fresh.Message
	rec.Updated = time.Now()
	if rec.Source == "" {
		rec.Source = d.Source
	}
	if err := m.beforeKeyChange(ctx, rec, old); err != nil {
		return err
	}
	if rec.Name != old.Name {
		rec.Match, rec.Attempts = "", 0 // another device from now on, with a key of its own
	}
	if err := r.refuseSharedNames(ctx, []*DeviceRecord{rec}); err != nil {
		return err
	}
	if rec.Verdict == Waiting && (rec.Name != old.Name || old.Match == "") {
		// It may come before devices whose keys are made already, and was not looked at when they were.
		if err := r.unusedByOthers(ctx, rec.Name); err != nil {
			return err
		}
	}
	if rec.Verdict == Waiting && rec.Attempts > 0 {
		if err := r.settleBefore(ctx, rec, old); err != nil {
			return err
		}
	}
	change := Change{Devices: []*DeviceRecord{rec}}
	if !r.record.Finished.IsZero() {
		r.record.Finished = time.Time{}
		change.Run = r.record
	}
	return r.ledger.Apply(ctx, change)
}

// unusedByOthers makes sure that a name has no key, but for one that this run has made while a device of it had that name.
func (r *Run) unusedByOthers(ctx context.Context, name string) error {
	refusal := r.unused(ctx, name)
	if !errors.Is(refusal, keystore.ErrExists) {
		return refusal
	}
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{}) {
		switch {
		case err != nil:
			return err
		case d.Seq > r.record.Prepared:
			return refusal
		case d.Name == name && holdsKeys(d):
			return nil
		case d.Original != nil:
			// A record that was refused as it came never had a key.
			if was, err := r.checkRow(Device{Row: d.Original}); err == nil && was == name {
				return nil
			}
		}
	}
	return refusal
}

// beforeKeyChange looks for the orphans of the run, once, before a device that was sent gets another key: what its old key
// left in the account could not be told from anybody else's certificates afterwards.
func (m *amender) beforeKeyChange(ctx context.Context, rec, old *DeviceRecord) error {
	changes := rec.Name != old.Name
	for name := range m.run.fills {
		changes = changes || rec.Row[name] != old.Row[name]
	}
	if m.looked || !changes || old.Attempts == 0 || !old.Match.isKey() {
		return nil
	}
	lister, ok := task.As[task.CertificateLister](m.run.opts.Backend)
	if !ok {
		return nil
	}
	m.looked = true
	return m.run.findOrphans(ctx, lister)
}

// settleBefore reads a device back that was sent before, where the backend can. If nothing about it was changed, it may be
// registered after all; otherwise what its last attempt left is recorded as an orphan by the time it is sent again.
func (r *Run) settleBefore(ctx context.Context, rec, old *DeviceRecord) error {
	reader, ok := task.As[task.DeviceReader](r.opts.Backend)
	if !ok {
		return nil
	}
	probe := copyDevice(old)
	if maps.Equal(rec.Row, old.Row) {
		if found, err := r.readBack(ctx, reader, probe); err != nil || !found {
			return err
		}
		*rec = *probe
		rec.Updated = time.Now()
		if out := r.opts.Output; out != nil {
			return out.Sync(ctx)
		}
		return nil
	}
	return r.recordLeftovers(ctx, reader, probe)
}

// findRecord finds the record that d mends.
func (r *Run) findRecord(ctx context.Context, d Device, name string) (*DeviceRecord, error) {
	candidates := r.named(ctx, name)
	if d.Record > 0 {
		candidates = r.ledger.Devices(ctx, DeviceFilter{AfterSeq: d.Record - 1, Limit: 1})
	}
	var found []*DeviceRecord
	for rec, err := range candidates {
		if err != nil {
			return nil, err
		}
		if d.Record == 0 || rec.Seq == d.Record {
			found = append(found, rec)
		}
	}
	if i := slices.IndexFunc(found, func(rec *DeviceRecord) bool { return rec.Verdict == Failed }); len(found) > 1 && i >= 0 {
		return found[i], nil
	}
	switch {
	case len(found) == 0 && d.Record > 0:
		return nil, fmt.Errorf("the run has no record number %d; only records of the run can be mended", d.Record)
	case len(found) == 0 && name == "":
		return nil, errors.New("it gives neither the number of a record nor a thing name, so it can't be told which record it mends")
	case len(found) == 0:
		return nil, fmt.Errorf("the run has no device %q; only devices of the run can be mended", name)
	}
	return found[0], nil
}
