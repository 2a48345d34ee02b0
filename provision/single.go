package provision

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// Register provisions one device now, without a registration task, into the same ledger: a board that was swapped at the
// line. The device is added to the run, or is one of the run's that is not provisioned yet. It needs a backend with
// task.Registrar, which AWS allows ten times a second.
//
// The request is sent once. When its answer is lost the account is read back; a device that is not found there stays
// Unknown, since the request may still take effect, and the next Register, Run or Reconcile settles it: they look for it
// until [Options.SettleWindow] has passed since, and only then may it be sent again. A device that is
// Provisioned already is returned as it is and not registered again. When it is the caller that the service refuses
// (task.ErrAccessDenied), the device stays what it was.
func (r *Run) Register(ctx context.Context, d Device) (*Result, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	registrar, ok := task.As[task.Registrar](r.opts.Backend)
	if !ok {
		return nil, errors.New("the backend can't register single devices")
	}
	if !r.record.Spooled {
		if err := r.spool(ctx, func(func(Device, error) bool) {}); err != nil {
			return nil, fmt.Errorf("a run whose input is not complete takes no single devices: %w", err)
		}
	}
	rec, err := r.singleRecord(ctx, d)
	if rec == nil {
		return nil, err
	}
	if err != nil || rec.Verdict == Provisioned {
		return &rec.Result, err
	}
	if err := r.notInPart(ctx, rec); err != nil {
		return &rec.Result, err
	}
	devices := []*DeviceRecord{rec}
	if rec.Attempts > 0 { // sent before: whatever that left must be used, not doubled
		if err := r.settleOne(ctx, rec); err != nil || rec.Verdict == Provisioned {
			return &rec.Result, err
		}
	}
	if !r.claimed(rec) {
		if err := r.unusedByOthers(ctx, rec.Name); err != nil {
			return &rec.Result, err
		}
		rec.Match = MatchThing(rec.Name)
		if err := r.ledger.Apply(ctx, Change{Devices: devices}); err != nil {
			return &rec.Result, err
		}
	}
	b := batch{owners: map[Match]int64{}}
	if err := r.prepare(ctx, &b, devices, never); err != nil {
		return nil, err
	}
	row := b.rows[0]
	before := copyDevice(rec)
	if row != nil {
		if err := r.opts.Credential.Sync(ctx); err != nil {
			return nil, fmt.Errorf("making the key durable: %w", err)
		}
		rec.Verdict, rec.Cause, rec.Message, rec.Part, rec.Line = Submitted, CauseNone, "", 0, 0
		rec.Attempts++
	}
	rec.Updated = time.Now()
	if err := r.ledger.Apply(ctx, Change{Devices: devices}); err != nil || row == nil {
		return &rec.Result, errors.Join(err, failure(rec))
	}
	reg, err := r.registerThing(ctx, registrar, row)
	// What the service has said, or left open, is recorded even if the context has ended meanwhile.
	ctx = context.WithoutCancel(ctx)
	if errors.Is(err, task.ErrAccessDenied) && task.Refused(err) { // which is no fault of the device
		before.Updated = time.Now()
		err = fmt.Errorf("device %q is %s as before, nothing was registered: %w", rec.Name, before.Verdict, err)
		return &before.Result, errors.Join(err, r.ledger.Apply(ctx, Change{Devices: []*DeviceRecord{before}}))
	}
	if err := r.conclusion(ctx, rec, reg, err); err != nil {
		return &rec.Result, err
	}
	rec.Updated = time.Now()
	if err := r.settle(ctx, Change{Devices: devices}); err != nil {
		return nil, err
	}
	return &rec.Result, failure(rec)
}

// notInPart refuses a device that a part on its way will settle.
func (r *Run) notInPart(ctx context.Context, rec *DeviceRecord) error {
	if rec.Part == 0 || rec.Verdict == Waiting {
		return nil
	}
	parts, err := r.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if p.Number == rec.Part && p.State != PartCollected {
			return fmt.Errorf("device %q is in part %d, whose task is not settled yet; run that first", rec.Name, rec.Part)
		}
	}
	return nil
}

// registerThing sends the request; again only after the service has said that it was throttled.
func (r *Run) registerThing(ctx context.Context, registrar task.Registrar, row map[string]string) (*task.Registration, error) {
	var pause pauser
	for i := 1; ; i++ {
		reg, err := registrar.RegisterThing(ctx, &task.RegisterInput{TemplateBody: r.body, Parameters: row})
		if err != nil && ctx.Err() != nil {
			// The context's cause can be a refusal of another request, which would pass for one of this.
			return nil, fmt.Errorf("%w: %w", task.ErrOutcomeUnknown, err)
		}
		if !errors.Is(err, task.ErrThrottled) || i == attempts {
			return reg, err
		}
		if pause.wait(ctx) != nil {
			return nil, err // throttled: nothing was done
		}
	}
}

// conclusion turns the answer to RegisterThing into a verdict.
func (r *Run) conclusion(ctx context.Context, rec *DeviceRecord, reg *task.Registration, err error) error {
	switch {
	case err == nil:
		c := newCollector(r, &part{PartRecord: &PartRecord{}, devices: []*DeviceRecord{rec}})
		c.open[rec.Line] = rec
		if err := c.result(ctx, &task.Result{CertificatePEM: reg.CertificatePEM, ARNs: reg.ARNs}); err != nil {
			return err
		}
		if len(c.open) > 0 {
			rec.Verdict, rec.Message = Unknown, "the answer to RegisterThing does not tell what was registered"
		}
		return nil
	case task.Refused(err):
		text, code := err.Error(), ""
		if e, ok := errors.AsType[*task.Error](err); ok {
			text, code = e.Message, e.Code
		}
		cause := ClassifyFailure(code, text)
		if errors.Is(err, task.ErrThrottled) {
			cause = CauseThrottled
		}
		rec.fail(cause, text)
		return nil
	}
	rec.Verdict, rec.Message = Unknown, fmt.Sprintf("the answer to RegisterThing was lost: %v", err)
	if err := r.ledger.Apply(ctx, Change{Devices: []*DeviceRecord{rec}}); err != nil {
		return err
	}
	if reader, ok := task.As[task.DeviceReader](r.opts.Backend); ok {
		// If reading back or handing over fails, too, that changes nothing: the device is Unknown.
		probe := copyDevice(rec)
		if found, err := r.readBack(ctx, reader, probe); err == nil && found {
			*rec = *probe
		}
	}
	return nil
}

// settleOne reads back what an earlier attempt of a device left.
func (r *Run) settleOne(ctx context.Context, rec *DeviceRecord) error {
	reader, ok := task.As[task.DeviceReader](r.opts.Backend)
	if !ok {
		return fmt.Errorf("device %q was sent before, and the backend can't tell what became of it", rec.Name)
	}
	found, err := r.readBackSettled(ctx, reader, rec)
	if err != nil || !found {
		return err
	}
	rec.Updated = time.Now()
	return r.settle(ctx, Change{Devices: []*DeviceRecord{rec}})
}

// singleRecord finds the record of a device that is registered by itself, or adds one.
func (r *Run) singleRecord(ctx context.Context, d Device) (*DeviceRecord, error) {
	rec := r.newRecord(0, d)
	var unsent *DeviceRecord // of the run, and could not be sent for a reason that can pass
	for known, err := range r.named(ctx, rec.Name) {
		if err != nil {
			return nil, err
		}
		if known.Verdict == Failed && known.Attempts == 0 {
			if known.Cause.Retryable() && maps.Equal(known.Row, rec.Row) {
				unsent = known
			}
			continue // otherwise that record never stood for a device
		}
		if maps.Equal(known.Row, rec.Row) {
			return known, nil
		}
		if rec.Verdict == Waiting {
			return known, fmt.Errorf("device %q is in the run with other values; Amend changes them", rec.Name)
		}
	}
	if rec.Verdict == Failed {
		return rec, failure(rec)
	}
	if unsent != nil {
		return unsent, nil
	}
	if err := r.unusedByOthers(ctx, rec.Name); err != nil {
		return rec, err
	}
	rec.Match = MatchThing(rec.Name) // from now on, a key that is found for it is its own
	r.record.Total++
	rec.Seq = r.record.Total
	r.record.Finished = time.Time{}
	return rec, r.ledger.Apply(ctx, Change{Run: r.record, Add: []*DeviceRecord{rec}})
}

// named yields the devices of a name; none if it is empty, which a filter takes for any name.
func (r *Run) named(ctx context.Context, name string) iter.Seq2[*DeviceRecord, error] {
	if name == "" {
		return func(func(*DeviceRecord, error) bool) {}
	}
	return r.ledger.Devices(ctx, DeviceFilter{Name: name})
}

func failure(rec *DeviceRecord) error {
	if rec.Verdict == Provisioned || rec.Verdict == Waiting || rec.Verdict == Submitted {
		return nil
	}
	return fmt.Errorf("device %q is %s: %s", rec.Name, rec.Verdict, rec.Message)
}
