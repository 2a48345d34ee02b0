package provision

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/seed1ff6f450/iotfleet/task"
)

// register sends every device that waits and settles every part. Three stages work side by side, each on a part of its
// own: making the next one, registering one, and reading the reports of the one before.
func (r *Run) register(ctx context.Context) error {
	done, err := r.partDir()
	if err != nil {
		return err
	}
	defer done()
	ready, ended := make(chan *part), make(chan *part)
	g, group := errgroup.WithContext(ctx)
	whole := ctx
	ctx, cancel := withoutCause(group)
	defer cancel()
	g.Go(func() error {
		defer close(ready)
		for p, err := range r.parts(ctx) {
			if err != nil {
				return err
			}
			if err := send(ctx, ready, p); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		defer close(ended)
		for p := range ready {
			r.pace.taken()
			err := r.runTask(ctx, p)
			r.pace.left(p.State == PartEnded)
			if err != nil {
				return err
			}
			if p.State != PartEnded {
				continue // stopped: it waits in the ledger
			}
			if err := send(ctx, ended, p); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		for p := range ended {
			if err := r.collect(ctx, p); err != nil {
				return fmt.Errorf("part %d, task %s: %w", p.Number, p.TaskID, err)
			}
		}
		return nil
	})
	err = g.Wait()
	if err != nil && whole.Err() != nil {
		err = fmt.Errorf("%w: %w", err, context.Cause(whole))
	}
	return err
}

// withoutCause makes a context that ends with ctx and does not say why. A backend puts the cause into its errors, and
// there what the service has said to one stage (an upload refused) would pass for its answer to another (a start).
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

// runTask takes a part from uploaded to ended. When the run was stopped before the task was started, the part is left
// uploaded.
func (r *Run) runTask(ctx context.Context, p *part) error {
	if p.State == PartUploaded || p.State == PartStarting {
		if err := r.start(ctx, p); err != nil {
			return fmt.Errorf("starting the task of part %d: %w", p.Number, err)
		}
	}
	if p.State == PartStarted {
		r.pace.started(p.Lines, p.Started)
		if err := r.await(ctx, p); err != nil {
			return fmt.Errorf("waiting for task %s of part %d: %w", p.TaskID, p.Number, err)
		}
	}
	return nil
}

// taskKept is how long AWS keeps a task after its end. A task that was started less long ago can be found.
const taskKept = 30 * 24 * time.Hour

// startPatience is how long a service that does nothing but fail or throttle is asked to start a task. While it works for
// somebody else there is no such limit.
const startPatience = time.Hour

// start starts the part's task exactly once. "Starting" is in the ledger before the request leaves, and the id after the
// answer; when the answer is lost, in this process or an earlier one, the task is looked for by its data file. After
// [Run.Stop] it leaves the part uploaded.
func (r *Run) start(ctx context.Context, p *part) error {
	in := &task.StartInput{TemplateBody: r.body, InputFileBucket: p.Bucket, InputFileKey: p.Key, RoleARN: r.opts.RoleARN}
	if p.State == PartStarting {
		if found, err := r.recover(ctx, p); err != nil || found {
			return err
		}
		if time.Since(p.Uploaded) > taskKept {
			return r.ended(ctx, p, &task.Description{
				Message: "the run was interrupted while the task was started, too long ago for the service to know whether it was",
			})
		}
	}
	finishing := r.stop.Load().finishing
	var pause pauser
	lost := p.State == PartStarting // the answer to an earlier request, which may have its effect late
	var failing time.Time           // since when there was nothing but failures
	for {
		if r.stopped() {
			return r.notStarted(ctx, p)
		}
		p.State = PartStarting
		if err := r.ledger.Apply(ctx, Change{Part: p.PartRecord}); err != nil {
			return err
		}
		asked := time.Now()
		t, err := task.Start(ctx, r.opts.Backend, in)
		refused := true
		switch {
		case err == nil:
			return r.started(ctx, p, t.ID(), false)
		case errors.Is(err, task.ErrTaskRunning):
			// Whose task it is decides: a request of ours whose answer was lost long ago may have had its effect late.
			other, lookErr := r.inProgress(ctx)
			if other != nil && isTaskOf(other, p) {
				return r.started(ctx, p, other.ID, true)
			}
			if other == nil && lost { // it could not be seen, and may be ours
				if found, err := r.recover(ctx, p); err != nil || found {
					return err
				}
			}
			if lookErr != nil && ctx.Err() != nil {
				return errors.Join(err, r.notStarted(ctx, p)) // refused for certain
			}
			if r.opts.Foreign == FailOnForeign {
				return errors.Join(foreignError(err, other), r.notStarted(ctx, p))
			}
			r.observe(EventTaskWaiting{Part: p.Number, Other: other})
		case errors.Is(err, task.ErrThrottled):
		case task.Refused(err):
			return errors.Join(err, r.notStarted(ctx, p))
		case ctx.Err() != nil:
			return err // the next call looks for the task
		default:
			if found, err := r.recover(ctx, p); err != nil || found {
				return err
			}
			lost, refused = true, false
		}
		if refused { // the wait may be long, and whoever goes on after it need not look for a task
			if err := r.notStarted(ctx, p); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, task.ErrTaskRunning):
			failing = time.Time{}
		case failing.IsZero():
			failing = asked
		case time.Since(failing) > startPatience:
			return fmt.Errorf("no task was started in %v of asking: %w", time.Since(failing).Round(time.Minute), err)
		}
		if err := pause.waitOr(ctx, finishing); err != nil {
			return err
		}
	}
}

// notStarted records that no task was started. Like every fact that the service has stated, it is kept even when the
// context has ended.
func (r *Run) notStarted(ctx context.Context, p *part) error {
	p.State = PartUploaded
	return r.ledger.Apply(context.WithoutCancel(ctx), Change{Part: p.PartRecord})
}

func (r *Run) started(ctx context.Context, p *part, id task.ID, recovered bool) error {
	p.State, p.TaskID, p.Started = PartStarted, id, time.Now()
	if err := r.ledger.Apply(context.WithoutCancel(ctx), Change{Part: p.PartRecord}); err != nil {
		return fmt.Errorf("task %s is running but could not be recorded; the next call finds it by its data file: %w", id, err)
	}
	r.observe(EventTaskStarted{Part: p.Number, Task: id, Recovered: recovered})
	return nil
}

func (r *Run) ended(ctx context.Context, p *part, d *task.Description) error {
	p.State, p.Ended = PartEnded, time.Now()
	p.Status, p.Message, p.Succeeded, p.Failed = d.Status, d.Message, d.Succeeded, d.Failed
	return r.ledger.Apply(context.WithoutCancel(ctx), Change{Part: p.PartRecord})
}

func isTaskOf(d *task.Description, p *part) bool {
	return d.InputFileBucket == p.Bucket && d.InputFileKey == p.Key
}

// inProgress returns the account's task that is in progress; nil when there is none any more.
func (r *Run) inProgress(ctx context.Context) (*task.Description, error) {
	for _, status := range []task.Status{task.InProgress, task.Cancelling} {
		for id, err := range task.List(ctx, r.opts.Backend, status) {
			if err != nil {
				return nil, err
			}
			if d, err := task.Attach(r.opts.Backend, id).Describe(ctx); err == nil || !errors.Is(err, task.ErrNotFound) {
				return d, err
			}
		}
	}
	return nil, nil
}

func foreignError(err error, other *task.Description) error {
	if other == nil {
		return fmt.Errorf("%w; wait for it to end, or let the run wait (Options.Foreign)", err)
	}
	return fmt.Errorf("%w: it is task %s over s3://%s/%s with role %s, begun %s; wait for it to end, or let the run wait (Options.Foreign)",
		err, other.ID, other.InputFileBucket, other.InputFileKey, other.RoleARN, other.Created.UTC().Format(time.RFC3339))
}

// recover looks for a task on the part's own data file, whose key no other part ever has. It looks until the settle
// window is over, because a request whose answer was lost may still take effect; then nothing was started. If the service
// could not be asked after the end of the window it can't tell, and says so rather than start twice.
func (r *Run) recover(ctx context.Context, p *part) (found bool, err error) {
	const lastLooks = 5 // after the window, while the service can't be asked
	deadline := time.Now().Add(r.opts.SettleWindow)
	s, err := r.newSearch(ctx, p)
	if err != nil {
		return false, err
	}
	r.observe(EventStartLost{Part: p.Number, Until: deadline})
	var pause pauser
	for failures := 0; ; {
		late := !time.Now().Before(deadline)
		id, err := s.find(ctx)
		if err == nil && id != "" {
			return true, r.started(ctx, p, id, true)
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if late && err == nil {
			return false, nil
		}
		if late {
			failures++
		}
		forbidden := err != nil && task.Refused(err) && !errors.Is(err, task.ErrThrottled)
		if failures == lastLooks || forbidden {
			return false, fmt.Errorf("%w: the answer was lost, and looking for a task on s3://%s/%s failed; run again once that works: %w",
				ErrStartUnknown, p.Bucket, p.Key, err)
		}
		if err := pause.wait(ctx); err != nil {
			return false, err
		}
	}
}

// search looks for a part's task among all tasks of the account. In which order AWS lists them is not documented, so every
// task counts, but none is described twice.
type search struct {
	run    *Run
	part   *part
	others map[task.ID]bool // known to be other parts' or somebody else's
}

func (r *Run) newSearch(ctx context.Context, p *part) (*search, error) {
	records, err := r.ledger.Parts(ctx)
	if err != nil {
		return nil, err
	}
	s := &search{run: r, part: p, others: map[task.ID]bool{}}
	for _, rec := range records {
		if rec.TaskID != "" && rec.Number != p.Number {
			s.others[rec.TaskID] = true
		}
	}
	return s, nil
}

// find returns the id of the task on the part's data file, "" if there is none.
func (s *search) find(ctx context.Context) (task.ID, error) {
	for id, err := range task.List(ctx, s.run.opts.Backend, "") {
		if err != nil {
			return "", err
		}
		if s.others[id] {
			continue
		}
		d, err := task.Attach(s.run.opts.Backend, id).Describe(ctx)
		switch {
		case errors.Is(err, task.ErrNotFound): // not to be seen yet, or forgotten between the two calls
			continue
		case err != nil:
			return "", err
		case isTaskOf(d, s.part):
			return id, nil
		}
		s.others[id] = true
	}
	return "", nil
}

// await waits until the part's task has ended, whichever way.
func (r *Run) await(ctx context.Context, p *part) error {
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	var missing time.Time // since when the service does not know the task
	opts := r.opts.Wait
	inner := opts.Progress
	opts.Progress = func(d *task.Description) {
		if inner != nil {
			inner(d)
		}
		missing = time.Time{}
		r.pace.progressed(d.Percent)
		r.observe(EventTaskProgress{Part: p.Number, Description: d})
	}
	t := task.Attach(r.opts.Backend, p.TaskID)
	done := r.cancelOnStop(ctx, t, abort)
	defer done()
	var pause pauser
	for {
		d, err := t.Wait(ctx, &opts)
		switch {
		case d != nil && d.Status.Done(): // the lines of a failed one are in the reports all the same
			return r.ended(ctx, p, d)
		case !errors.Is(err, task.ErrNotFound):
			return err
		}
		// AWS deletes a task's data 30 days after it ended; its devices are then settled by reading them back. A young
		// task is given time to be seen.
		if missing.IsZero() {
			missing = time.Now()
		}
		if time.Since(p.Started) > taskKept || time.Since(missing) > r.opts.SettleWindow {
			return r.ended(ctx, p, &task.Description{Message: "the service no longer knows the task"})
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}
