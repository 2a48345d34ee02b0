package provision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/template"
)

// spoolBatch is how many devices go into the ledger at once.
const spoolBatch = 1000

// spool brings every device into the ledger, or compares the devices given with those that are there.
func (r *Run) spool(ctx context.Context, devices iter.Seq2[Device, error]) error {
	if devices == nil {
		if !r.record.Spooled {
			return errors.New("the ledger does not hold the whole input yet; give the devices again")
		}
		return r.spooled(ctx)
	}
	s := spooler{run: r}
	next, stop := iter.Pull2(r.given(ctx))
	defer stop()
	for d, err := range devices {
		if err != nil {
			return fmt.Errorf("reading the devices after %d records: %w", s.seq, err)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		s.seq++
		known, err, ok := next()
		switch {
		case err != nil:
			return err
		case ok:
			if err := r.same(known, d); err != nil {
				return err
			}
			continue
		case r.record.Spooled:
			return fmt.Errorf("%w: it held %d devices, record %d is one more", ErrInputChanged, r.record.Input, s.seq)
		}
		if err := s.add(ctx, d); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil { // it may have ended for that reason
		return err
	}
	if known, err, ok := next(); err != nil {
		return err
	} else if ok {
		return fmt.Errorf("%w: it ends after %d records, the run has device %q next", ErrInputChanged, s.seq, known.Name)
	}
	if r.record.Spooled {
		return r.spooled(ctx)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	r.record.Spooled, r.record.Total, r.record.Input = true, s.seq, s.seq
	if err := r.ledger.Apply(ctx, Change{Run: r.record}); err != nil {
		return err
	}
	return r.spooled(ctx)
}

func (r *Run) spooled(ctx context.Context) error {
	counts, err := r.ledger.Counts(ctx)
	if err != nil {
		return err
	}
	r.observe(EventSpooled{
		Devices: counts.Total(), Failed: counts.Verdicts[Failed], Provisioned: counts.Verdicts[Provisioned], Resumed: r.resumed,
	})
	return nil
}

// given yields the devices that came with the input.
func (r *Run) given(ctx context.Context) iter.Seq2[*DeviceRecord, error] {
	return func(yield func(*DeviceRecord, error) bool) {
		for d, err := range r.ledger.Devices(ctx, DeviceFilter{}) {
			if err == nil && r.record.Spooled && d.Seq > r.record.Input || !yield(d, err) {
				return
			}
		}
	}
}

// same compares a record of the input with the ledger's.
func (r *Run) same(known *DeviceRecord, d Device) error {
	row := known.Row
	if known.Original != nil {
		row = known.Original
	}
	d.Row, _ = inUTF8(d.Row)
	if maps.Equal(row, d.Row) && (d.Name == "" || d.Name == known.Name || known.Original != nil) {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(row)) {
		if v, ok := d.Row[k]; !ok || v != row[k] {
			return fmt.Errorf("%w: record %d (device %q) differs first in %s", ErrInputChanged, known.Seq, known.Name, k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(d.Row)) {
		if _, ok := row[k]; !ok {
			return fmt.Errorf("%w: record %d (device %q) had no %s", ErrInputChanged, known.Seq, known.Name, k)
		}
	}
	return fmt.Errorf("%w: record %d was device %q and is now another one", ErrInputChanged, known.Seq, known.Name)
}

type spooler struct {
	run   *Run
	seq   int64
	batch []*DeviceRecord
}

func (s *spooler) add(ctx context.Context, d Device) error {
	s.batch = append(s.batch, s.run.newRecord(s.seq, d))
	if len(s.batch) < spoolBatch {
		return nil
	}
	return s.flush(ctx)
}

// flush refuses records whose name is taken, and stores the batch.
func (s *spooler) flush(ctx context.Context) error {
	if err := s.run.refuseSharedNames(ctx, s.batch); err != nil {
		return err
	}
	if err := s.run.ledger.Apply(ctx, Change{Add: s.batch}); err != nil {
		return err
	}
	s.batch = s.batch[:0]
	return nil
}

// refuseSharedNames fails those of the records that wait whose thing name another record has, in the ledger or before it
// among these.
func (r *Run) refuseSharedNames(ctx context.Context, records []*DeviceRecord) error {
	names := make([]string, 0, len(records))
	for _, rec := range records {
		if rec.Verdict == Waiting {
			names = append(names, rec.Name)
		}
	}
	first, err := r.ledger.FindNames(ctx, names)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.Verdict != Waiting {
			continue
		}
		if seq, ok := first[rec.Name]; ok && seq != rec.Seq {
			rec.fail(CauseDuplicate, fmt.Sprintf("record %d has the same thing name; give each device one record", seq))
			continue
		}
		first[rec.Name] = rec.Seq
	}
	return nil
}

func (d *DeviceRecord) fail(cause Cause, message string) {
	d.Verdict, d.Cause, d.Message = Failed, cause, message
}

func (d *DeviceRecord) failSharedKey(seq int64) {
	d.fail(CauseDuplicate, fmt.Sprintf("record %d has the same public key; each device needs a key of its own", seq))
}

// newRecord makes a device's record and checks what can be checked before its credential is made.
func (r *Run) newRecord(seq int64, d Device) *DeviceRecord {
	rec := &DeviceRecord{Updated: time.Now()}
	rec.Seq, rec.Name, rec.Source, rec.Verdict = seq, d.Name, d.Source, Waiting
	rec.Row, _ = inUTF8(d.Row)
	name, err := r.checkRow(d)
	if rec.Name == "" {
		rec.Name = name
	}
	if err != nil {
		rec.fail(causeOf(err, CauseInvalidRecord), err.Error())
	}
	return rec
}

// inUTF8 returns a row with U+FFFD in place of what is not UTF-8, which neither a ledger nor a data file can hold, and the
// columns that had it.
func inUTF8(row map[string]string) (clean map[string]string, bad []string) {
	for k, v := range row {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			bad = append(bad, k)
		}
	}
	if bad == nil {
		return row, nil
	}
	clean = make(map[string]string, len(row))
	for k, v := range row {
		clean[strings.ToValidUTF8(k, "\ufffd")] = strings.ToValidUTF8(v, "\ufffd")
	}
	slices.Sort(bad)
	return clean, bad
}

// checkRow checks a device against the template and AWS's rules and gives the name of its thing.
func (r *Run) checkRow(d Device) (name string, err error) {
	if d.Err != nil {
		return "", d.Err
	}
	row := r.withFills(d.Row)
	res, err := r.program.Resolve(row)
	if err != nil {
		return "", err
	}
	if len(res.Things) != 1 {
		return "", fmt.Errorf("the template makes %d things of one record; a run needs exactly one to know the device by", len(res.Things))
	}
	name = res.Things[0].ThingName
	if d.Name != "" && d.Name != name {
		return name, fmt.Errorf("the device is called %q, the template makes the thing %q of it", d.Name, name)
	}
	if c, ok := As[RowChecker](r.opts.Credential); ok {
		if err := c.CheckRow(d.Row); err != nil {
			return name, err
		}
	}
	if _, bad := inUTF8(d.Row); bad != nil {
		return name, fmt.Errorf("device %s: column %s is not UTF-8; convert the input to UTF-8", rule.Quote(name), rule.Quote(bad[0]))
	}
	if err := r.checkValues(row); err != nil {
		return name, err
	}
	known := r.program.Parameters()
	for _, k := range slices.Sorted(maps.Keys(d.Row)) {
		if !slices.Contains(known, k) {
			return name, fmt.Errorf("the template has no parameter %q, only %s: leave the column out or rename it (datafile.CSVOptions)",
				k, strings.Join(known, ", "))
		}
	}
	return name, nil
}

// withFills gives a row with something in place of what the credential step will fill.
func (r *Run) withFills(row map[string]string) map[string]string {
	full := make(map[string]string, len(row)+len(r.fills))
	maps.Copy(full, row)
	maps.Copy(full, r.fills)
	return full
}

// checkValues checks the values of a row against AWS's rules. What the credential step will fill is not looked at.
func (r *Run) checkValues(row map[string]string) error {
	var texts []string
	for _, is := range r.program.CheckRow(row) {
		if _, fills := r.fills[is.Parameter]; fills || is.Severity != template.Error {
			continue
		}
		texts = append(texts, is.Error())
	}
	if texts == nil {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}
