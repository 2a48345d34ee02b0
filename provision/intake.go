package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// intake takes the devices of the input into the ledger, and refuses those that could not be sent.
type intake struct {
	*session
	shape  *shape
	odd    oddRows
	unique *unique
}

// spoolBatch is how many devices go into the ledger at once.
const spoolBatch = 1000

// take brings every device into the ledger, or compares the devices given with those that are there.
func (in *intake) take(ctx context.Context, devices iter.Seq2[Device, error]) error {
	if devices == nil {
		switch {
		case in.record.Spooled:
			return in.spooled(ctx)
		case in.record.Ahead > 0:
			return fmt.Errorf("the run holds %s registered one by one, and no list yet; "+
				"give it the list, or Devices() if there is none", rule.Count(in.record.Ahead, "device"))
		}
		return errors.New("the ledger does not hold the whole input yet; give the devices again")
	}
	ahead, err := in.registeredAhead(ctx)
	if err != nil {
		return err
	}
	if devices, err = in.shape.checkHeader(devices); err != nil {
		return err
	}
	s := spooler{intake: in, seq: in.record.Ahead}
	next, stop := iter.Pull2(in.known(ctx))
	defer stop()
	var n int64 // records read
	replaced := false
	for d, err := range devices {
		if err != nil {
			return fmt.Errorf("reading the devices after %d records: %w", n, err)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n++
		if ahead.take(d) {
			continue
		}
		s.seq++
		var (
			known *DeviceRecord
			ok    bool
		)
		if !replaced {
			known, err, ok = next()
		}
		switch {
		case err != nil:
			return err
		case ok:
			if err = in.same(known, d); err == nil {
				in.unique.add(known)
				continue
			}
		case in.record.Spooled:
			err = fmt.Errorf("%w: it held %d devices, record %d is one more", ErrInputChanged, n-1, n)
		}
		if err != nil {
			if err := in.replace(ctx, s.seq, err); err != nil {
				return err
			}
			replaced = true
		}
		if err := s.add(ctx, d); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil { // it may have ended for that reason
		return err
	}
	if !replaced {
		known, err, ok := next()
		if err == nil && ok {
			err = fmt.Errorf("%w: it ends after %d records, the run has device %q next", ErrInputChanged, n, known.Name)
			err = in.replace(ctx, s.seq+1, err)
		}
		if err != nil {
			return err
		}
	}
	if in.record.Spooled {
		return in.spooled(ctx)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	in.record.Spooled, in.record.Total, in.record.Input = true, s.seq, s.seq-in.record.Ahead
	if err := in.ledger.Apply(ctx, Change{Run: in.record}); err != nil {
		return err
	}
	return in.spooled(ctx)
}

// noneOrAll refuses a single device while part of the input is in the ledger: the rest may have that device.
func (in *intake) noneOrAll(ctx context.Context) error {
	if in.record.Spooled {
		return nil
	}
	for _, err := range in.ledger.Devices(ctx, DeviceFilter{AfterSeq: in.record.Ahead, Limit: 1}) {
		if err != nil {
			return err
		}
		return errors.New("the ledger holds part of the input, so no single device is registered; give the devices to Run again first")
	}
	return nil
}

// replace makes room for another input than the one that the run has, from a record on. If anything was sent, or a key
// may have been made for it, the run keeps what it has and changed is returned.
func (in *intake) replace(ctx context.Context, from int64, changed error) error {
	parts, err := in.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	if len(parts) > 0 {
		return changed
	}
	for d, err := range in.ledger.Devices(ctx, DeviceFilter{AfterSeq: in.record.Ahead}) {
		if err != nil {
			return err
		}
		if d.Attempts > 0 || d.Match != "" || d.Verdict != Waiting && d.Verdict != Failed {
			return changed
		}
	}
	in.record.Spooled, in.record.Total, in.record.Input, in.record.Finished = false, in.record.Ahead, 0, time.Time{}
	in.replaced = true
	return in.ledger.Apply(ctx, Change{Run: in.record, RemoveFrom: from})
}

func (in *intake) spooled(ctx context.Context) error {
	counts, err := in.ledger.Counts(ctx)
	if err != nil {
		return err
	}
	in.observe(EventSpooled{
		Devices: counts.Total(), Failed: counts.Verdicts[Failed], Provisioned: counts.Verdicts[Provisioned],
		NoKey: counts.Verdicts[NoKey], Removed: counts.Verdicts[Removed] + counts.Verdicts[Removing],
		Issued:  counts.Verdicts[Issued],
		Resumed: in.resumed, Replaced: in.replaced,
		Notes: in.odd.findings(),
	})
	return nil
}

// known yields the devices that came with the input.
func (in *intake) known(ctx context.Context) iter.Seq2[*DeviceRecord, error] {
	return func(yield func(*DeviceRecord, error) bool) {
		for d, err := range in.ledger.Devices(ctx, DeviceFilter{AfterSeq: in.record.Ahead}) {
			if err == nil && in.record.Spooled && d.Seq > in.record.Ahead+in.record.Input || !yield(d, err) {
				return
			}
		}
	}
}

// ahead holds the devices that were registered one by one before the input came, by their rows.
type ahead struct {
	*intake
	byRow map[string][]*DeviceRecord
}

func (in *intake) registeredAhead(ctx context.Context) (*ahead, error) {
	a := &ahead{in, map[string][]*DeviceRecord{}}
	if in.record.Ahead == 0 {
		return a, nil
	}
	for d, err := range in.ledger.Devices(ctx, DeviceFilter{Limit: int(in.record.Ahead)}) {
		if err != nil {
			return nil, err
		}
		row := fmt.Sprint(d.row())
		a.byRow[row] = append(a.byRow[row], d)
		in.unique.add(d)
	}
	return a, nil
}

// take reports whether a record of the input is one of these devices. Each is taken once.
func (a *ahead) take(d Device) bool {
	if len(a.byRow) == 0 {
		return false
	}
	clean, _ := keepable(a.shape.split(d).Row)
	row := fmt.Sprint(clean)
	for i, known := range a.byRow[row] {
		if a.same(known, d) == nil {
			a.byRow[row] = slices.Delete(a.byRow[row], i, i+1)
			return true
		}
	}
	return false
}

// row is the row that the input had.
func (d *DeviceRecord) row() map[string]string {
	if d.Original != nil {
		return d.Original
	}
	return d.Row
}

// same compares a record of the input with the ledger's.
func (in *intake) same(known *DeviceRecord, d Device) error {
	row := known.row()
	d = in.shape.split(d)
	d.Row, _ = keepable(d.Row)
	d.Meta, _ = keepable(d.Meta)
	d.Name = privatekey.Cut(d.Name)
	sameMeta := known.Original != nil || maps.Equal(known.Meta, d.Meta)
	if maps.Equal(row, d.Row) && sameMeta && (d.Name == "" || d.Name == known.Name || known.Original != nil) {
		return nil
	}
	if !sameMeta { // named as one row
		row, d.Row = together(row, known.Meta), together(d.Row, d.Meta)
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
	intake *intake
	seq    int64
	batch  []*DeviceRecord
}

func (s *spooler) add(ctx context.Context, d Device) error {
	rec, _ := s.intake.newRecord(s.seq, d)
	s.batch = append(s.batch, rec)
	if len(s.batch) < spoolBatch {
		return nil
	}
	return s.flush(ctx)
}

// flush refuses records whose name is taken, and stores the batch.
func (s *spooler) flush(ctx context.Context) error {
	if err := s.intake.refuseSharedNames(ctx, s.batch); err != nil {
		return err
	}
	for _, rec := range s.batch {
		s.intake.unique.claim(rec)
	}
	if err := s.intake.ledger.Apply(ctx, Change{Add: s.batch}); err != nil {
		return err
	}
	s.batch = s.batch[:0]
	return nil
}

// refuseSharedNames fails those of the records that wait whose thing name another record has, in the ledger or before
// it among these.
func (in *intake) refuseSharedNames(ctx context.Context, records []*DeviceRecord) error {
	names := make([]string, 0, len(records))
	for _, rec := range records {
		if rec.Verdict == Waiting {
			names = append(names, rec.Name)
		}
	}
	first, err := in.ledger.FindNames(ctx, names)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.Verdict != Waiting {
			continue
		}
		if seq, ok := first[rec.Name]; ok && seq != rec.Seq {
			rec.failSharedName(seq)
			continue
		}
		first[rec.Name] = rec.Seq
	}
	return nil
}

func (d *DeviceRecord) fail(cause Cause, message string) {
	d.Verdict, d.Cause, d.Message = Failed, cause, privatekey.Cut(message)
}

// provisioned is the verdict of a device that is registered, if handover finds its key.
func (d *DeviceRecord) provisioned() {
	d.Verdict, d.Cause, d.Message = Provisioned, CauseNone, ""
}

// again takes from a device that was removed what it had: it is made anew.
func (d *DeviceRecord) again() {
	d.ThingARN, d.CertificateARN, d.CertificateID, d.CertificatePEM, d.Policies = "", "", "", "", nil
}

func (d *DeviceRecord) failSharedName(seq int64) {
	d.fail(CauseDuplicate, fmt.Sprintf("record %d has the same thing name; give each device one record", seq))
}

func (d *DeviceRecord) failSharedKey(seq int64) {
	d.fail(CauseDuplicate, fmt.Sprintf("record %d has the same public key; each device needs a key of its own", seq))
}

// newRecord makes a device's record, and checks what can be checked before its credential is made. want is nil if the
// device is refused.
func (in *intake) newRecord(seq int64, d Device) (rec *DeviceRecord, want *wanted) {
	rec = &DeviceRecord{Updated: time.Now()}
	rec.Seq, rec.Source, rec.Verdict = seq, privatekey.Cut(d.Source), Waiting
	d = in.shape.split(d)
	row, columns := keepable(d.Row)
	meta, more := keepable(d.Meta)
	rec.Row, rec.Meta, columns = row, meta, append(columns, more...)
	name, want, err := in.shape.check(d)
	rec.Name = privatekey.Cut(cmp.Or(d.Name, name))
	switch {
	case columns != nil || privatekey.Held(rec.Name):
		rec.fail(CauseInvalidRecord, heldKey(rec.Name, columns))
		return rec, nil
	case err != nil:
		rec.fail(causeOf(err, CauseInvalidRecord), err.Error())
	case in.shape.noter != nil:
		in.odd.add(seq, in.shape.noter.RowNotes(rec.Row))
	}
	return rec, want
}

// keepable returns a row as a ledger can hold it: in UTF-8, and without private keys, which are cut out. columns are those
// that had a key.
func keepable(row map[string]string) (clean map[string]string, columns []string) {
	row, _ = inUTF8(row)
	return privatekey.CutRow(row)
}

// heldKey is why a record is refused that came with a private key.
func heldKey(name string, columns []string) string {
	place := "its name"
	if columns != nil {
		for i, c := range columns {
			columns[i] = fmt.Sprintf("%q", c)
		}
		place = "column " + strings.Join(columns, ", ")
	}
	return fmt.Sprintf("device %q: %s held a private key, which was removed before anything was stored; keep keys out of the list, "+
		"and treat this one as exposed", name, place)
}
