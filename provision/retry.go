package provision

import (
	"context"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// throttleRounds is how often Run sends throttled lines again by itself before it leaves them Failed.
const throttleRounds = 5

// Retry sends the failed devices again that trying again can help ([Cause.Retryable]), with the same key and the same
// request. Parts that are still on their way are settled first. What a failed attempt left is read back, where the backend
// can: a device that turns out to be registered is Provisioned, not registered twice.
//
// Like Run it returns nil only when every device is Provisioned.
func (r *Run) Retry(ctx context.Context) (*Summary, error) {
	began := time.Now()
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	defer r.stopObeyed()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	if err := r.settleParts(ctx); err != nil {
		return nil, err
	}
	if r.stopped() {
		r.cut = true
	} else {
		if _, err := r.requeue(ctx, Cause.Retryable); err != nil {
			return nil, err
		}
		if err := r.registerAll(ctx, true); err != nil {
			return nil, err
		}
	}
	return r.conclude(ctx, began)
}

// settleParts takes everything that is on its way to a verdict. A device may be given to another part only after that:
// the part it is in would miss it.
func (r *Run) settleParts(ctx context.Context) error {
	if err := r.register(ctx); err != nil {
		return err
	}
	return r.settleUnknown(ctx)
}

// registerAll registers every device that waits, settles what is unknown, and sends throttled lines again after a pause.
func (r *Run) registerAll(ctx context.Context, throttledAgain bool) error {
	if err := r.settleParts(ctx); err != nil || !throttledAgain {
		return err
	}
	finishing := r.stop.Load().finishing
	var pause pauser
	for range throttleRounds {
		counts, err := r.ledger.Counts(ctx)
		if err != nil {
			return err
		}
		if counts.Causes[CauseThrottled] == 0 {
			return nil
		}
		if !r.stopped() {
			if err := pause.waitOr(ctx, finishing); err != nil {
				return err
			}
		}
		if r.stopped() {
			r.cut = true
			return nil
		}
		if _, err := r.requeue(ctx, func(c Cause) bool { return c == CauseThrottled }); err != nil {
			return err
		}
		if err := r.settleParts(ctx); err != nil {
			return err
		}
	}
	return nil
}

// requeue puts failed devices whose cause is wanted back among those that wait, and returns how many.
func (r *Run) requeue(ctx context.Context, wanted func(Cause) bool) (int, error) {
	reader, canRead := task.As[task.DeviceReader](r.opts.Backend)
	n := 0
	var batch []*DeviceRecord
	flush := func() error {
		// One that never was sent held no name, and another record may have taken it meanwhile.
		if err := r.refuseSharedNames(ctx, batch); err != nil {
			return err
		}
		change := Change{Devices: batch}
		if n > 0 && !r.record.Finished.IsZero() {
			r.record.Finished = time.Time{}
			change.Run = r.record
		}
		err := r.settle(ctx, change)
		batch = batch[:0]
		return err
	}
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Failed}}) {
		if err != nil {
			return n, err
		}
		if !wanted(d.Cause) {
			continue
		}
		registered := false
		if canRead && d.Attempts > 0 {
			if registered, err = r.readBack(ctx, reader, d); err != nil {
				return n, err
			}
		}
		if !registered {
			d.Verdict, d.Cause, d.Message = Waiting, CauseNone, ""
			n++
		}
		d.Updated = time.Now()
		if batch = append(batch, d); len(batch) == deliverBatch {
			if err := flush(); err != nil {
				return n, err
			}
		}
	}
	return n, flush()
}
