package provision

import (
	"context"
	"time"
)

// resender puts failed devices back among those that wait.
type resender struct {
	*session
	intake   *intake
	account  *account
	handover *handover
}

// requeue puts failed devices whose cause is wanted back among those that wait.
func (rs *resender) requeue(ctx context.Context, wanted func(Cause) bool) error {
	n := 0
	var batch []*DeviceRecord
	flush := func() error {
		// One that never was sent held no name, and another record may have taken it meanwhile.
		if err := rs.intake.refuseSharedNames(ctx, batch); err != nil {
			return err
		}
		change := Change{Devices: batch}
		if n > 0 {
			rs.reopen(&change)
		}
		err := rs.handover.commit(ctx, change)
		batch = batch[:0]
		return err
	}
	for d, err := range rs.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Failed}}) {
		if err != nil {
			return err
		}
		if !wanted(d.Cause) {
			continue
		}
		registered := false
		if rs.account.reader != nil && d.Attempts > 0 {
			if registered, err = rs.account.find(ctx, d); err != nil {
				return err
			}
		}
		if !registered {
			d.Verdict, d.Cause, d.Message = Waiting, CauseNone, ""
			n++
		}
		d.Updated = time.Now()
		if batch = append(batch, d); len(batch) == deliverBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
