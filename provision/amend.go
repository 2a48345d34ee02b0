package provision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/failures"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// amender takes mended records in.
type amender struct {
	*session
	shape       *shape
	intake      *intake
	credentials *credentials
	account     *account
	handover    *handover
	looked      bool // orphans were looked for
}

// mendsNothing is why a mended record takes the place of none. It costs the others nothing.
type mendsNothing struct{ error }

// all takes every mended record in. unsent is true if Stop came before the last one. left tells of the records that mend
// nothing; nil if there are none.
func (m *amender) all(ctx context.Context, mended iter.Seq2[Device, error]) (unsent bool, left, err error) {
	const most = 10
	var texts []error
	n, without := 0, 0
	for d, err := range mended {
		if m.stopped() {
			unsent = true
			break
		}
		if err != nil {
			return false, nil, fmt.Errorf("reading the mended devices after %d records: %w", n, err)
		}
		n++
		err := m.amend(ctx, d)
		if _, ok := errors.AsType[mendsNothing](err); ok {
			if without++; without <= most {
				texts = append(texts, fmt.Errorf("mended record %d%s was left aside: %w", n, from(d), err))
			}
			continue
		}
		if err != nil {
			return false, nil, fmt.Errorf("mended record %d%s: %w", n, from(d), err)
		}
	}
	if without > most {
		texts = append(texts, fmt.Errorf("%d more mended records were left aside", without-most))
	}
	return unsent, errors.Join(texts...), nil
}

// Unwrap returns the reason.
func (e mendsNothing) Unwrap() error { return e.error }

// amend puts a mended record in the place of the one that it mends. A [mendsNothing] has changed nothing.
func (m *amender) amend(ctx context.Context, d Device) error {
	if d.Seq == 0 && d.Err != nil {
		return mendsNothing{d.Err} // whose record it is can't be told
	}
	if d.RunID != "" && d.RunID != m.record.ID {
		return fmt.Errorf("%w: it mends record %d of run %s, and this is run %s; give it to the run that it is of", ErrInputChanged, d.Seq, rule.Quote(d.RunID), m.record.ID)
	}
	fresh, _ := m.intake.newRecord(0, d)
	old, err := m.findRecord(ctx, d, fresh.Name)
	if err != nil {
		return err
	}
	if old.Verdict != Failed && old.Verdict != Removed {
		return nil
	}
	rec := copyDevice(old)
	if err := changedInFile(d, old); err != nil {
		if old.Verdict != Failed {
			return mendsNothing{err}
		}
		rec.fail(CauseInvalidRecord, err.Error())
		rec.Updated = time.Now()
		return m.ledger.Apply(ctx, Change{Devices: []*DeviceRecord{rec}})
	}
	if old.Verdict == Removed {
		rec.again()
	}
	if fresh.Meta == nil {
		fresh.Meta = rec.Meta
	}
	if rec.Original == nil && !(maps.Equal(rec.Row, fresh.Row) && maps.Equal(rec.Meta, fresh.Meta)) {
		rec.Original = make(map[string]string, len(rec.Row)) // not nil, even if the record could not be read
		maps.Copy(rec.Original, rec.Row)
	}
	rec.Name, rec.Row, rec.Meta, rec.Verdict, rec.Cause, rec.Message = fresh.Name, fresh.Row, fresh.Meta, fresh.Verdict, fresh.Cause, fresh.Message
	rec.Updated = time.Now()
	if rec.Source == "" {
		rec.Source = fresh.Source
	}
	if err := m.beforeKeyChange(ctx, rec, old); err != nil {
		return err
	}
	if rec.Name != old.Name {
		rec.Match, rec.Attempts = "", 0 // another device from now on, with a key of its own
	}
	if err := m.intake.refuseSharedNames(ctx, []*DeviceRecord{rec}); err != nil {
		return err
	}
	if err := m.intake.unique.load(ctx, m.ledger); err != nil {
		return err
	}
	m.intake.unique.release(old)
	m.intake.unique.claim(rec)
	if rec.Verdict == Waiting && (rec.Name != old.Name || old.Match == "") {
		// Refused here, the record stays what it was, and the others can go on.
		if err := m.credentials.unusedByOthers(ctx, rec); err != nil {
			return err
		}
	}
	if rec.Verdict == Waiting && rec.Attempts > 0 {
		if err := m.readBack(ctx, rec, old); err != nil {
			return err
		}
	}
	change := Change{Devices: []*DeviceRecord{rec}}
	m.reopen(&change)
	if rec.Verdict == Provisioned {
		return m.handover.commit(ctx, change)
	}
	return m.ledger.Apply(ctx, change)
}

// changedInFile returns an error if a value of the record is not what it was, but the same number in another form: what a
// spreadsheet does to a file that is opened and saved. Nothing else of the record counts then.
func changedInFile(d Device, old *DeviceRecord) error {
	was := together(old.Row, old.Meta)
	is := together(d.Row, d.Meta)
	for _, column := range slices.Sorted(slices.Values(d.Columns)) {
		if failures.Changed(was[column], is[column]) {
			return fmt.Errorf("%s was %s and came back as %s, as spreadsheets change numbers, so the record is left as it was; format the column as text, or write '%s if that is meant",
				column, rule.Quote(was[column]), rule.Quote(is[column]), is[column])
		}
	}
	return nil
}

// beforeKeyChange looks for the orphans of the run, once, before a device that was sent gets another key: what its old
// key left in the account could not be distinguished from other people's certificates afterwards.
func (m *amender) beforeKeyChange(ctx context.Context, rec, old *DeviceRecord) error {
	changes := rec.Name != old.Name
	for name := range m.shape.fills {
		changes = changes || rec.Row[name] != old.Row[name]
	}
	if m.looked || !changes || old.Attempts == 0 || !old.Match.isKey() {
		return nil
	}
	lister, ok := task.As[task.CertificateLister](m.backend)
	if !ok {
		return nil
	}
	m.looked = true
	return m.account.findOrphans(ctx, lister)
}

// readBack reads a device back that was sent before, where the backend can. If nothing about it was changed, it may be
// registered after all; otherwise what its last attempt left is recorded as an orphan, because it is sent again.
func (m *amender) readBack(ctx context.Context, rec, old *DeviceRecord) error {
	if m.account.reader == nil {
		return nil
	}
	probe := copyDevice(old)
	if !maps.Equal(rec.Row, old.Row) {
		return m.account.recordLeftovers(ctx, probe)
	}
	if found, err := m.account.find(ctx, probe); err != nil || !found {
		return err
	}
	*rec = *probe
	rec.Updated = time.Now()
	return nil
}

// findRecord finds the record that d mends.
func (m *amender) findRecord(ctx context.Context, d Device, name string) (*DeviceRecord, error) {
	candidates := m.named(ctx, name)
	if d.Seq > 0 {
		candidates = m.ledger.Devices(ctx, DeviceFilter{AfterSeq: d.Seq - 1, Limit: 1})
	}
	var found []*DeviceRecord
	for rec, err := range candidates {
		if err != nil {
			return nil, err
		}
		if d.Seq == 0 || rec.Seq == d.Seq {
			found = append(found, rec)
		}
	}
	if i := slices.IndexFunc(found, func(rec *DeviceRecord) bool { return rec.Verdict == Failed }); len(found) > 1 && i >= 0 {
		return found[i], nil
	}
	switch {
	case len(found) == 0 && d.Seq > 0:
		return nil, mendsNothing{fmt.Errorf("the run has no record number %d; only records of the run can be mended", d.Seq)}
	case len(found) == 0 && name == "":
		return nil, mendsNothing{errors.New("it has neither the number of a record nor a thing name, so it can't be told which record it mends")}
	case len(found) == 0:
		return nil, mendsNothing{fmt.Errorf("the run has no device %q; only devices of the run can be mended", name)}
	}
	return found[0], nil
}

// from names the place that a record was read from.
func from(d Device) string {
	if d.Source == "" {
		return ""
	}
	return " (" + privatekey.Cut(d.Source) + ")"
}
