package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// single registers one device by itself, without a part and a task.
type single struct {
	*session
	intake      *intake
	credentials *credentials
	keys        *keys
	account     *account
	looker      *looker
	replacer    *replacer
	reports     *reports
	handover    *handover
	registrar   task.Registrar
	body        string // the template as AWS takes it
}

// register provisions one device, or finds out what became of it. The record is nil if there is none to return.
func (sg *single) register(ctx context.Context, d Device) (*DeviceRecord, error) {
	rec, former, err := sg.find(ctx, d)
	if err != nil {
		return rec, err
	}
	if former == nil && (rec.Verdict == Provisioned || rec.Verdict == NoKey) {
		if _, err := sg.handover.confirm(ctx, []*DeviceRecord{rec}); err != nil {
			return rec, err
		}
		if rec.Verdict == Unknown && sg.account.reader != nil { // the ledger's copy is damaged
			if err := sg.lookBack(ctx, rec); err != nil {
				return rec, err
			}
		}
		if rec.Verdict == Provisioned {
			return rec, sg.replacer.one(ctx, rec) // which an interrupted call may have left
		}
		if rec.Verdict != NoKey || !sg.looker.sendsCertified() {
			return rec, failure(rec)
		}
		former, rec = rec, swapped(rec, rec.Row) // whoever registers it all the same wants another certificate for it
	}
	if rec.Verdict == Removing {
		return rec, failure(rec)
	}
	if err := sg.notInPart(ctx, rec); err != nil {
		return rec, err
	}
	if rec.Attempts > 0 { // sent before: whatever that left must be used, not doubled
		if err := sg.readBack(ctx, rec); err != nil {
			return rec, err
		}
		if rec.Verdict == Provisioned || rec.Verdict == NoKey || rec.Verdict == Failed && rec.Cause == CauseCertificate {
			return rec, failure(rec)
		}
	}
	before := copyDevice(rec)
	if rec.Verdict == Removed {
		rec.again()
	}
	if former != nil {
		before = former
	}
	if err := sg.admit(ctx, rec, former); err != nil {
		return before, err
	}
	if rec.Verdict != Waiting {
		return rec, failure(rec)
	}
	row, err := sg.prepare(ctx, rec)
	if err != nil {
		return nil, err
	}
	change := Change{Devices: []*DeviceRecord{rec}}
	sg.sends(&change)
	if err := sg.ledger.Apply(ctx, change); err != nil || row == nil {
		return rec, errors.Join(err, failure(rec))
	}
	reg, err := sg.send(ctx, row)
	// The answer, or that there is none, is recorded even if the context has ended meanwhile.
	ctx = context.WithoutCancel(ctx)
	if (errors.Is(err, task.ErrAccessDenied) || errors.Is(err, task.ErrNotService)) && task.Refused(err) { // which is no fault of the device
		if before.Updated = time.Now(); former == nil {
			before.Match = rec.Match
		}
		err = fmt.Errorf("device %q is %s as before, nothing was registered: %w", rec.Name, before.Verdict, err)
		return before, errors.Join(err, sg.ledger.Apply(ctx, Change{Devices: []*DeviceRecord{before}}))
	}
	if err := sg.conclude(ctx, rec, reg, err); err != nil {
		return nil, err // what rec shows is not recorded
	}
	if err := failure(rec); err != nil {
		return rec, err
	}
	return rec, sg.replacer.one(ctx, rec)
}

// admit asks the witnesses about a device before it is sent. It is Waiting afterwards, or has its verdict, which is
// recorded; only where it would take the place of a former board and must not, that board's record stays.
func (sg *single) admit(ctx context.Context, rec, former *DeviceRecord) error {
	rec.Verdict, rec.Cause, rec.Message = Waiting, CauseNone, ""
	sg.looker.former = former
	if err := sg.looker.ask(ctx, []*DeviceRecord{rec}); err != nil || rec.Verdict == Waiting || former != nil && rec.Verdict == Failed {
		return err
	}
	rec.Updated = time.Now()
	return sg.handover.commit(ctx, Change{Devices: []*DeviceRecord{rec}})
}

// swapped is the record of a board that takes the place of one that the run has registered. That one's certificate is a
// stranger's from now on.
func swapped(former *DeviceRecord, row map[string]string) *DeviceRecord {
	rec := copyDevice(former)
	if rec.Original == nil && !maps.Equal(rec.Row, row) {
		rec.Original = rec.Row
	}
	rec.Row, rec.Match, rec.Attempts, rec.Verdict, rec.Cause, rec.Message = row, "", 0, Waiting, CauseNone, ""
	rec.Part, rec.Line, rec.TaskID = 0, 0, ""
	rec.CertificateID, rec.CertificateARN, rec.CertificatePEM, rec.Policies = "", "", "", nil
	return rec
}

// swap returns the record of a board that has come in the place of one that the run has registered, and came with other
// values.
func (sg *single) swap(ctx context.Context, former, rec *DeviceRecord) (*DeviceRecord, error) {
	next := swapped(former, rec.Row)
	next.Source = rec.Source
	if !sg.looker.looks() { // the ledger knows it all the same
		next.failExisting([]ExistingCertificate{{ID: former.CertificateID, ARN: former.CertificateARN, Created: former.Updated}}, "this run registered, with other values")
		return next, failure(next)
	}
	if digest, ok := former.Match.Key(); ok && sg.keys.verifier != nil {
		has, err := sg.keys.has(ctx, former.Name, digest)
		if err != nil {
			return former, err
		}
		if has && sg.looker.sendsCertified() {
			return former, fmt.Errorf("device %q: the key store has the key of the board that this one replaces, which it would get too; move that key away", former.Name)
		}
	}
	return next, nil
}

// prepare runs the credential step. With no error, the device is Submitted and its row is returned, or it is Failed.
func (sg *single) prepare(ctx context.Context, rec *DeviceRecord) (row map[string]string, err error) {
	b := newBatch()
	if err := sg.credentials.prepare(ctx, b, []*DeviceRecord{rec}, never); err != nil {
		return nil, err
	}
	rec.Updated = time.Now()
	if row = b.lines[0].row; row == nil {
		return nil, nil
	}
	if err := sg.credentials.step.Sync(ctx); err != nil {
		return nil, fmt.Errorf("making the key durable: %w", err)
	}
	rec.Verdict, rec.Cause, rec.Message, rec.Part, rec.Line = Submitted, CauseNone, "", 0, 0
	rec.Attempts++
	return row, nil
}

// notInPart refuses a device that gets its verdict from a part on its way.
func (sg *single) notInPart(ctx context.Context, rec *DeviceRecord) error {
	if rec.Part == 0 || rec.Verdict == Waiting {
		return nil
	}
	parts, err := sg.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.Number == rec.Part && p.State != PartCollected {
			return fmt.Errorf("device %q is in part %d, which is not collected yet: call Run first", rec.Name, rec.Part)
		}
	}
	return nil
}

// send sends the request. It sends it again only after an explicit throttle.
func (sg *single) send(ctx context.Context, row map[string]string) (*task.Registration, error) {
	var pause pauser
	for i := 1; ; i++ {
		reg, err := sg.registrar.RegisterThing(ctx, &task.RegisterInput{TemplateBody: sg.body, Parameters: row})
		if err != nil && ctx.Err() != nil {
			// The context's cause can be a refusal of another request, which would pass for one of this.
			return nil, fmt.Errorf("%w: %w", task.ErrOutcomeUnknown, err)
		}
		if !isThrottle(err) || i == attempts {
			return reg, err
		}
		if pause.wait(ctx) != nil {
			return nil, err // throttled: nothing was done
		}
	}
}

// conclude turns the answer to RegisterThing into a verdict, and records it.
func (sg *single) conclude(ctx context.Context, rec *DeviceRecord, reg *task.Registration, err error) error {
	switch {
	case err == nil:
		c := sg.reports.newCollector(&part{PartRecord: &PartRecord{}, devices: []*DeviceRecord{rec}})
		c.open[rec.Line] = rec
		if err := c.result(ctx, &task.Result{CertificatePEM: reg.CertificatePEM, ARNs: reg.ARNs}); err != nil {
			return err
		}
		if len(c.open) > 0 {
			rec.Verdict, rec.Message = Unknown, "the answer to RegisterThing does not tell what was registered"
		}
	case task.Refused(err):
		text, code := err.Error(), ""
		if e, ok := errors.AsType[*task.Error](err); ok {
			text, code = e.Message, e.Code
		}
		cause := classifyFailure(code, text)
		if errors.Is(err, task.ErrThrottled) {
			cause = CauseThrottled
		}
		rec.fail(cause, text)
	default:
		return sg.lost(ctx, rec, err)
	}
	rec.Updated = time.Now()
	if err := sg.handover.commit(ctx, Change{Devices: []*DeviceRecord{rec}}); err != nil || rec.Verdict != Unknown {
		return err
	}
	return sg.lookBack(ctx, rec)
}

// lost deals with an answer that did not come: the device is Unknown, unless it is found in the account.
func (sg *single) lost(ctx context.Context, rec *DeviceRecord, err error) error {
	rec.Verdict, rec.Message, rec.Updated = Unknown, fmt.Sprintf("the answer to RegisterThing was lost: %v", err), time.Now()
	if err := sg.ledger.Apply(ctx, Change{Devices: []*DeviceRecord{rec}}); err != nil {
		return err
	}
	return sg.lookBack(ctx, rec)
}

// lookBack looks once for a device that is Unknown.
func (sg *single) lookBack(ctx context.Context, rec *DeviceRecord) error {
	if sg.account.reader == nil {
		return nil
	}
	// If reading back or handing over fails, too, that changes nothing: the device is Unknown.
	probe := copyDevice(rec)
	if found, err := sg.account.find(ctx, probe); err != nil || !found {
		return nil
	}
	if err := sg.handover.commit(ctx, Change{Devices: []*DeviceRecord{probe}}); err == nil {
		*rec = *probe
	}
	return nil
}

// readBack looks for what an earlier attempt of a device left.
func (sg *single) readBack(ctx context.Context, rec *DeviceRecord) error {
	if sg.account.reader == nil {
		return fmt.Errorf("device %q was sent before, and the backend can't tell what became of it", rec.Name)
	}
	found, err := sg.account.awaitDevice(ctx, rec)
	if err != nil || !found {
		return err
	}
	rec.Updated = time.Now()
	return sg.handover.commit(ctx, Change{Devices: []*DeviceRecord{rec}})
}

// find finds the record of a device that is registered by itself, or adds one. former is that of a board that the run has
// registered under its name, with other values; nothing is recorded of the new one then.
func (sg *single) find(ctx context.Context, d Device) (rec, former *DeviceRecord, err error) {
	rec, _ = sg.intake.newRecord(0, d)
	var unsent *DeviceRecord // of the run, and could not be sent for a reason that can pass
	for known, err := range sg.named(ctx, rec.Name) {
		if err != nil {
			return nil, nil, err
		}
		if known.Verdict == Failed && known.Attempts == 0 {
			if known.Cause.Retryable() && maps.Equal(known.Row, rec.Row) {
				unsent = known
			}
			continue // otherwise that record never stood for a device
		}
		if maps.Equal(known.Row, rec.Row) {
			return known, nil, nil
		}
		if rec.Verdict == Waiting && (known.Verdict == Provisioned || known.Verdict == NoKey) {
			next, err := sg.swap(ctx, known, rec)
			return next, known, err
		}
		if rec.Verdict == Waiting {
			return known, nil, fmt.Errorf("device %q is in the run with other values; Amend changes them", rec.Name)
		}
	}
	if rec.Verdict == Failed {
		return rec, nil, failure(rec)
	}
	if unsent != nil {
		return unsent, nil, nil
	}
	if err := sg.intake.unique.load(ctx, sg.ledger); err != nil {
		return nil, nil, err
	}
	if sg.intake.unique.claim(rec); rec.Verdict == Failed {
		return rec, nil, failure(rec)
	}
	if err := sg.looker.unused(ctx, []*DeviceRecord{rec}); err != nil {
		return rec, nil, err
	}
	sg.record.Total++
	if !sg.record.Spooled {
		sg.record.Ahead++
	}
	rec.Seq = sg.record.Total
	sg.record.Finished = time.Time{}
	return rec, nil, sg.ledger.Apply(ctx, Change{Run: sg.record, Add: []*DeviceRecord{rec}})
}

func failure(rec *DeviceRecord) error {
	if rec.Verdict == Provisioned || rec.Verdict == Waiting || rec.Verdict == Submitted {
		return nil
	}
	return fmt.Errorf("device %q is %s: %s", rec.Name, rec.Verdict, rule.Visible(rec.Message))
}
