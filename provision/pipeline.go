package provision

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/seed1ff6f450/iotfleet/internal/panics"
)

// throttleRounds is how often Run sends throttled lines again by itself before it leaves them Failed.
const throttleRounds = 5

// finishParts takes everything that is on its way to a verdict. A device may be given to another part only after that:
// the part it is in would miss it.
func (c *call) finishParts(ctx context.Context) error {
	if err := c.sendParts(ctx); err != nil {
		return err
	}
	return c.account.resolveUnknown(ctx)
}

// finish sends every device that waits, resolves what is unknown, and sends throttled lines again after a pause.
func (c *call) finish(ctx context.Context, throttledAgain bool) error {
	if err := c.finishParts(ctx); err != nil || !throttledAgain {
		return err
	}
	var pause pauser
	for range throttleRounds {
		counts, err := c.ledger.Counts(ctx)
		if err != nil {
			return err
		}
		if counts.Causes[CauseThrottled] == 0 {
			return nil
		}
		if !c.stopped() {
			if err := pause.waitOr(ctx, c.stop.finishing); err != nil {
				return err
			}
		}
		if c.stopped() {
			c.unsent = true
			return nil
		}
		if err := c.requeue(ctx, func(c Cause) bool { return c == CauseThrottled }); err != nil {
			return err
		}
		if err := c.finishParts(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sendParts sends every device that waits, and takes every part to its end. Three stages work side by side, each on a
// part of its own: making the next one, registering one, and reading the reports of the one before.
func (c *call) sendParts(ctx context.Context) error {
	if c.run.opts.FirstConnection {
		if err := c.account.resolveIssued(ctx); err != nil {
			return err
		}
		if err := c.firstConnectionPreflight(ctx); err != nil {
			return err
		}
		return c.first.all(ctx)
	}
	if err := c.preflight(ctx); err != nil {
		return err
	}
	done, err := c.parts.open(c.run.opts.PartDir)
	if err != nil {
		return err
	}
	defer done()
	ready, ended := make(chan *part), make(chan *part)
	g, group := errgroup.WithContext(ctx)
	whole := ctx
	ctx, cancel := withoutCause(group)
	defer cancel()
	guard := panics.NewGuard(cancel)
	stage := func(work func() error) { g.Go(func() error { return guard.Do(work) }) }
	stage(func() error {
		defer close(ready)
		for p, err := range c.parts.all(ctx) {
			if err != nil {
				return err
			}
			if err := send(ctx, ready, p); err != nil {
				return err
			}
		}
		return nil
	})
	stage(func() error {
		defer close(ended)
		for p := range ready {
			if err := c.runTask(ctx, p); err != nil {
				return err
			}
			if p.State != PartEnded {
				continue // stopped: it waits in the ledger
			}
			if p.refused() {
				p.collected = make(chan struct{})
			}
			if err := send(ctx, ended, p); err != nil {
				return err
			}
			if p.collected == nil {
				continue
			}
			select { // the next part may fare alike, so the cause is looked at first
			case <-p.collected:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := c.pointless(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
	stage(func() error {
		for p := range ended {
			if err := c.reports.collect(ctx, p); err != nil {
				return fmt.Errorf("part %d, task %s: %w", p.Number, p.TaskID, err)
			}
			if p.collected != nil {
				close(p.collected)
			}
		}
		return nil
	})
	err = g.Wait()
	guard.Raise()
	if err != nil && whole.Err() != nil {
		err = fmt.Errorf("%w: %w", err, context.Cause(whole))
	}
	return err
}

// runTask takes a part through its task, and keeps the pace.
func (c *call) runTask(ctx context.Context, p *part) error {
	c.run.pace.taken()
	defer func() { c.run.pace.left(p.State == PartEnded) }() // also after a panic
	return c.tasks.run(ctx, p)
}

// withoutCause makes a context that ends with ctx, and has no cause. A backend puts the cause into its errors: a
// refusal of one stage's request (an upload) would then be taken for a refusal of another's (a start).
func withoutCause(ctx context.Context) (context.Context, context.CancelFunc) {
	plain, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	return plain, func() {
		stop()
		cancel()
	}
}

func send[T any](ctx context.Context, ch chan<- T, v T) error {
	select {
	case ch <- v:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// prepareParts writes the part files of every device that waits.
func (c *call) prepareParts(ctx context.Context) error {
	if _, err := c.parts.open(c.run.opts.PartDir); err != nil {
		return err
	}
	c.parts.offline = true
	records, err := c.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for number := lastPart(records) + 1; ; number++ {
		p, err := c.parts.next(ctx, number, never, unstoppable)
		if err != nil || p == nil {
			return err
		}
	}
}

// submitParts takes every part from its file to the end of its task.
func (c *call) submitParts(ctx context.Context) error {
	if err := c.preflight(ctx); err != nil {
		return err
	}
	done, err := c.parts.open(c.run.opts.PartDir)
	if err != nil {
		return err
	}
	defer done()
	records, err := c.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.State == PartEnded || rec.State == PartCollected {
			continue
		}
		if c.stopped() && (rec.State == PartWritten || rec.State == PartUploaded) {
			return fmt.Errorf("%w before part %d was started", ErrStopped, rec.Number)
		}
		p, err := c.parts.load(ctx, rec)
		if err != nil {
			return err
		}
		if p.State == PartWritten {
			if err := c.parts.upload(ctx, p); err != nil {
				return err
			}
		}
		if err := c.tasks.run(ctx, p); err != nil {
			return err
		}
		if p.State == PartCollected { // none of its devices was to be sent
			continue
		}
		if p.State != PartEnded {
			return fmt.Errorf("%w before part %d was started", ErrStopped, rec.Number)
		}
	}
	return nil
}

// collectParts reads the reports of every part whose task has ended.
func (c *call) collectParts(ctx context.Context) error {
	records, err := c.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for _, rec := range records {
		if rec.State != PartEnded {
			continue
		}
		p, err := c.parts.load(ctx, rec)
		if err != nil {
			return err
		}
		if err := c.reports.collect(ctx, p); err != nil {
			return fmt.Errorf("part %d, task %s: %w", p.Number, p.TaskID, err)
		}
	}
	return nil
}

func lastPart(records []*PartRecord) int {
	last := 0
	for _, rec := range records {
		last = max(last, rec.Number)
	}
	return last
}
