package task

import (
	"context"
	"fmt"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/wait"
)

// The defaults of [WaitOptions].
const (
	defaultMinDelay    = time.Second
	defaultMaxDelay    = time.Minute
	defaultMaxFailures = 10
)

// WaitOptions adjust [Task.Wait]. The zero value is good for tasks of any length.
type WaitOptions struct {
	// MinDelay and MaxDelay bound the time between two looks at the task; 0 means a second and a minute. Within them
	// Wait looks seldom while nothing moves and aims at the expected end once the task shows how fast it is.
	MinDelay, MaxDelay time.Duration
	// MaxFailures is how many looks in a row may fail for a passing reason (throttled, service unavailable, network)
	// before Wait ends with an error; 0 means 10. The task is not touched by this.
	MaxFailures int
	// Progress, if not nil, is called with every state read, the final one included, from the goroutine that called
	// Wait. Wait goes on when it returns.
	Progress func(*Description)
}

// Wait looks at the task until it has ended and returns its final state. Options may be nil.
//
// The error is nil when the task is Completed, even if every line was refused: check the counts. Any other is a
// [*WaitError]. It matches [ErrTaskFailed] or [ErrTaskCancelled] when the task has ended so; when ctx is done first, or
// the task cannot be described, it wraps the cause (for ctx, [context.Cause]), and the task goes on regardless. The
// returned Description is the last state that was read in all cases, nil only if none was.
//
// The deadline is that of ctx; without one Wait stays as long as the task does, at AWS up to 30 days.
func (t *Task) Wait(ctx context.Context, opts *WaitOptions) (*Description, error) {
	p, most, progress, err := opts.resolve()
	if err != nil {
		return nil, t.failed("wait for", err)
	}
	var last *Description
	for failures := 0; ; {
		d, err := t.describe(ctx)
		switch {
		case err == nil:
			last, failures = d, 0
			if progress != nil {
				progress(d)
			}
			switch d.Status {
			case Completed:
				return d, nil
			case Failed:
				return d, &WaitError{ID: t.id, Last: d, Err: ErrTaskFailed}
			case Cancelled:
				return d, &WaitError{ID: t.id, Last: d, Err: ErrTaskCancelled}
			}
		case ctx.Err() != nil:
			return last, &WaitError{ID: t.id, Last: last, Err: wait.ContextError(ctx)}
		default:
			failures++
			if !transient(err) || failures >= most {
				return last, &WaitError{ID: t.id, Last: last, Failures: failures, Err: err}
			}
			d = nil
		}
		if err := wait.Sleep(ctx, p.next(time.Now(), d)); err != nil {
			return last, &WaitError{ID: t.id, Last: last, Err: err}
		}
	}
}

// resolve fills in the defaults.
func (o *WaitOptions) resolve() (p *pace, failures int, progress func(*Description), err error) {
	var opts WaitOptions
	if o != nil {
		opts = *o
	}
	if opts.MinDelay < 0 || opts.MaxDelay < 0 || opts.MaxFailures < 0 {
		return nil, 0, nil, &InputError{Member: "WaitOptions", Problem: fmt.Sprintf(
			"MinDelay %v, MaxDelay %v and MaxFailures %d must not be negative", opts.MinDelay, opts.MaxDelay, opts.MaxFailures)}
	}
	least, most := opts.MinDelay, opts.MaxDelay
	switch {
	case least == 0 && most == 0:
		least, most = defaultMinDelay, defaultMaxDelay
	case least == 0:
		least = min(defaultMinDelay, most)
	case most == 0:
		most = max(defaultMaxDelay, least)
	case most < least:
		return nil, 0, nil, &InputError{Member: "WaitOptions",
			Problem: fmt.Sprintf("MaxDelay %v is less than MinDelay %v", most, least)}
	}
	if opts.MaxFailures == 0 {
		opts.MaxFailures = defaultMaxFailures
	}
	return &pace{least: least, most: most, backoff: least}, opts.MaxFailures, opts.Progress, nil
}

// pace chooses when to look at a task next.
type pace struct {
	least, most time.Duration
	backoff     time.Duration // the next delay while nothing moves
	seen        []sighting    // the latest changes of the percentage, oldest first
}

// sighting is a percentage and when it was first seen.
type sighting struct {
	at      time.Time
	percent int
}

// sightings is how many changes the speed is taken from: few enough to follow a change of speed, enough to even out
// that the percentage is a whole number.
const sightings = 8

// next returns the time to wait after having seen d at the given time; d is nil when the look failed.
//
// The speed over the latest changes predicts when the task ends, and the next look is put there. Without a speed
// (nothing moved yet, the look failed, or all is done but the status), the delay grows by half each time.
func (p *pace) next(now time.Time, d *Description) time.Duration {
	if d != nil {
		moved := len(p.seen) == 0 || p.seen[len(p.seen)-1].percent != d.Percent
		if moved {
			p.backoff = p.least
			if len(p.seen) == 1 && p.seen[0].percent == 0 {
				p.seen = p.seen[:0] // a task stays at 0 while it starts up, and that is not its speed
			}
			p.seen = append(p.seen, sighting{now, d.Percent})
			if len(p.seen) > sightings {
				p.seen = append(p.seen[:0], p.seen[1:]...)
			}
		}
		done := d.Percent - p.seen[0].percent
		took := now.Sub(p.seen[0].at)
		if done > 0 && took > 0 && d.Percent < 100 {
			// The percentage is a whole number, so the task may be nearly one further than it shows: aim at the
			// earliest end that fits, and near it at an eighth of the latest one.
			latest := float64(took) / float64(done) * float64(100-d.Percent)
			earliest := float64(took) / float64(done+1) * float64(99-d.Percent)
			return wait.Jitter(time.Duration(max(earliest/1.1, latest/8)), p.least, p.most) // lengthened by a tenth at most
		}
	}
	delay := p.backoff
	p.backoff = min(p.backoff+max(p.backoff/2, time.Millisecond), p.most)
	return wait.Jitter(delay, p.least, p.most)
}
