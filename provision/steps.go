package provision

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Prepare does what needs no network: it spools the devices, makes their keys and requests, and writes every part file.
// [Run.Submit] sends them later, perhaps from another machine that has the ledger and the part files but not the keys, and
// [Run.Collect] reads what came of it. Each of the three can be called again; Run does all that is left.
//
// Options.PartDir must be set, for the files have to outlive the call.
func (r *Run) Prepare(ctx context.Context, devices iter.Seq2[Device, error]) (*Summary, error) {
	if r.opts.PartDir == "" {
		return nil, fmt.Errorf("provision: Prepare needs Options.PartDir, a folder for the part files")
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	if err := r.openRecord(ctx); err != nil {
		return nil, err
	}
	if err := r.spool(ctx, devices); err != nil {
		return nil, err
	}
	if _, err := r.partDir(); err != nil {
		return nil, err
	}
	records, err := r.ledger.Parts(ctx)
	if err != nil {
		return nil, err
	}
	for number := lastPart(records) + 1; ; number++ {
		p, err := r.nextPart(ctx, number, never, unstoppable)
		if err != nil {
			return nil, err
		}
		if p == nil {
			return r.summary(ctx)
		}
	}
}

// Submit uploads every part that is written and takes its registration task to its end, one after the other, as AWS runs
// them. It reads no report. After [Run.Stop] it ends with ErrStopped if parts are left.
func (r *Run) Submit(ctx context.Context) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	defer r.stopObeyed()
	if err := r.open(ctx); err != nil {
		return err
	}
	done, err := r.partDir()
	if err != nil {
		return err
	}
	defer done()
	records, err := r.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.State == PartEnded || rec.State == PartCollected {
			continue
		}
		if r.stopped() && (rec.State == PartWritten || rec.State == PartUploaded) {
			return fmt.Errorf("%w before part %d was started", ErrStopped, rec.Number)
		}
		p, err := r.loadPart(ctx, rec)
		if err != nil {
			return err
		}
		if p.State == PartWritten {
			if err := r.upload(ctx, p); err != nil {
				return err
			}
		}
		if err := r.runTask(ctx, p); err != nil {
			return err
		}
		if p.State != PartEnded {
			return fmt.Errorf("%w before part %d was started", ErrStopped, rec.Number)
		}
	}
	return nil
}

// Collect reads the reports of every task that has ended, gives its devices their verdicts and hands over their
// credentials. Like Run it returns nil only when every device of the run is Provisioned.
func (r *Run) Collect(ctx context.Context) (*Summary, error) {
	began := time.Now()
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	records, err := r.ledger.Parts(ctx)
	if err != nil {
		return nil, err
	}
	for _, rec := range records {
		if rec.State != PartEnded {
			continue
		}
		p, err := r.loadPart(ctx, rec)
		if err != nil {
			return nil, err
		}
		if err := r.collect(ctx, p); err != nil {
			return nil, fmt.Errorf("part %d, task %s: %w", p.Number, p.TaskID, err)
		}
	}
	if err := r.settleUnknown(ctx); err != nil {
		return nil, err
	}
	return r.conclude(ctx, began)
}

func lastPart(records []*PartRecord) int {
	last := 0
	for _, rec := range records {
		last = max(last, rec.Number)
	}
	return last
}
