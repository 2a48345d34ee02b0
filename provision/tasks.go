package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// tasks takes an uploaded part through its registration task: it starts the task once, and waits for its end.
type tasks struct {
	*session
	body         string // the template as AWS takes it
	roleARN      string
	foreign      ForeignTask
	settleWindow time.Duration
	wait         task.WaitOptions
	pace         *pace
	unrecorded   *unrecorded // tasks that the ledger does not know; nil before they were asked for
	looks        bool        // lookAgain finds devices that the account has already
	// lookAgain looks at the account for a part before it is started, if need be; others is when somebody else's task was
	// seen in progress last, and unseen when one may have ended last that nobody saw. Afterwards the part is uploaded, or
	// collected if none of its devices is to be sent.
	lookAgain      func(ctx context.Context, p *part, others, unseen time.Time) error
	others, unseen time.Time
	held           time.Time // when the run's own last task ended: it has kept others out
}

// wholeTask is the least that AWS takes for a task, from its start to its end.
const wholeTask = 5 * time.Second

// run takes a part from uploaded to ended. When the run was stopped before the task was started, the part is left
// uploaded.
func (ts *tasks) run(ctx context.Context, p *part) error {
	if p.State == PartUploaded || p.State == PartStarting {
		if err := ts.start(ctx, p); err != nil {
			return fmt.Errorf("starting the task of part %d: %w", p.Number, err)
		}
	}
	if p.State == PartStarted {
		ts.pace.started(p.Lines, p.Started)
		if err := ts.await(ctx, p); err != nil {
			return fmt.Errorf("waiting for task %s of part %d: %w", p.TaskID, p.Number, err)
		}
		ts.held = time.Now()
	}
	return nil
}

// attempt is a request for a task, and what came of it.
type attempt struct {
	startAnswer
	id    task.ID           // of the task that is the part's, if one is in progress
	other *task.Description // the task in progress that is not
	err   error
}

// start starts the part's task exactly once. "Starting" is in the ledger before the request leaves, and the id after
// the answer; when the answer is lost, in this process or an earlier one, the task is looked for by its data file.
// After [Run.Stop] it leaves the part uploaded.
func (ts *tasks) start(ctx context.Context, p *part) error {
	var state startState
	var pause pauser
	action, last := startAsk, attempt{startAnswer: startAnswer{kind: startInterrupted, uploaded: p.Uploaded}}
	if p.State == PartUploaded && (p.loaded || ts.resumed) {
		// The ledger may be a copy from before the start: of this part, which may be made once more, or of another one with
		// the same devices.
		found, err := ts.findUnrecorded(ctx, p)
		if err != nil && (p.loaded || ctx.Err() != nil) { // a part that is made now was looked at in the account
			return err
		}
		if id := found.byFile[p.Bucket+"/"+p.Key]; id != "" {
			return ts.started(ctx, p, id, true)
		}
		if err := ts.settleUnrecorded(ctx, p, found, &pause); err != nil {
			return err
		}
	}
	if p.State == PartStarting {
		state, action = decideStart(state, last.startAnswer, time.Now(), ts.foreign)
	}
	for {
		switch action {
		case startTake:
			return ts.started(ctx, p, last.id, last.kind == startOwnBusy)
		case startLook:
			if found, err := ts.look(ctx, p); err != nil || found {
				return err
			}
		case startPause:
			busy := errors.Is(last.err, task.ErrTaskRunning)
			if busy {
				ts.observe(EventTaskWaiting{Part: p.Number, Other: last.other})
			}
			// The wait may be long, and whoever goes on after it need not look for a task.
			if err := ts.recordRefusal(ctx, p, last); err != nil {
				return err
			}
			if err := pause.waitOr(ctx, ts.stop.finishing); err != nil {
				return err
			}
			if busy {
				if err := ts.awaitOthers(ctx, p, &pause); err != nil {
					return err
				}
			}
			fallthrough
		case startAsk:
			if ts.stopped() {
				return ts.notStarted(ctx, p)
			}
			// A task of somebody else may have registered the very same devices.
			if now := time.Now(); now.Sub(ts.held) >= wholeTask {
				ts.unseen = now
			}
			err := ts.lookAgain(ctx, p, ts.others, ts.unseen)
			if err != nil || p.State == PartCollected {
				return err
			}
			if last, err = ts.ask(ctx, p); err != nil {
				return err
			}
		case startEnd:
			return errors.Join(last.failure(), ts.recordRefusal(ctx, p, last))
		case startExhausted:
			tried := time.Since(state.failing).Round(time.Minute)
			return errors.Join(fmt.Errorf("no task was started in %v of asking: %w", tried, last.err), ts.recordRefusal(ctx, p, last))
		case startForgotten:
			return ts.ended(ctx, p, &task.Description{
				Message: "the run was interrupted while the task was started, too long ago for the service to know whether it was",
			})
		}
		state, action = decideStart(state, last.startAnswer, time.Now(), ts.foreign)
	}
}

// settleUnrecorded sees to it that a task of the run whose part the ledger does not know gives no device a second
// certificate: the look before the start comes after its end. Where nobody can look, the run ends.
func (ts *tasks) settleUnrecorded(ctx context.Context, p *part, found *unrecorded, pause *pauser) error {
	other := found.other
	switch {
	case other == nil:
		return nil
	case !ts.looks:
		return fmt.Errorf("%w: task %s over s3://%s/%s is of this run, and the ledger does not know its part, so it is an older copy: "+
			"bring the newest one back, or the devices of that part are sent twice", ErrOldLedger, other.ID, other.InputFileBucket, other.InputFileKey)
	case other.Status.Done():
		ts.others = time.Now()
	case ts.foreign == FailOnForeign:
		return foreignError(task.ErrTaskRunning, other)
	default:
		ts.observe(EventTaskWaiting{Part: p.Number, Other: other})
		if err := ts.awaitOthers(ctx, p, pause); err != nil {
			return err
		}
	}
	found.other = nil
	return nil
}

// awaitOthers waits while a task of somebody else is seen to be in progress. What can't be seen, the next request finds.
func (ts *tasks) awaitOthers(ctx context.Context, p *part, pause *pauser) error {
	for {
		ts.others = time.Now()
		other, err := ts.inProgress(ctx)
		if err != nil || other == nil || isTaskOf(other, p) || ts.stopped() {
			return nil
		}
		if err := pause.waitOr(ctx, ts.stop.finishing); err != nil {
			return err
		}
	}
}

// ask sends one request, and sorts its answer. The error is that of the ledger, and nothing was sent.
func (ts *tasks) ask(ctx context.Context, p *part) (attempt, error) {
	p.State = PartStarting
	change := Change{Part: p.PartRecord}
	ts.sends(&change)
	if err := ts.ledger.Apply(ctx, change); err != nil {
		return attempt{}, err
	}
	a := attempt{startAnswer: startAnswer{asked: time.Now(), uploaded: p.Uploaded}}
	t, err := task.Start(ctx, ts.backend, &task.StartInput{
		TemplateBody: ts.body, InputFileBucket: p.Bucket, InputFileKey: p.Key, RoleARN: ts.roleARN,
	})
	a.err = err
	switch {
	case err == nil:
		a.kind, a.id = startAccepted, t.ID()
	case errors.Is(err, task.ErrTaskRunning):
		// Whose task it is decides: a request of ours whose answer was lost long ago may have had its effect late.
		other, lookErr := ts.inProgress(ctx)
		switch {
		case other == nil:
			a.kind, a.ended = startUnseenBusy, lookErr != nil && ctx.Err() != nil
		case isTaskOf(other, p):
			a.kind, a.id = startOwnBusy, other.ID
		default:
			a.kind, a.other = startOtherBusy, other
		}
	case isThrottle(err):
		a.kind = startThrottled
	case task.Refused(err):
		a.kind = startRefused
	case ctx.Err() != nil:
		a.kind = startCanceled
	default:
		a.kind = startLost
	}
	return a, nil
}

// failure is the error that ends a run after this attempt.
func (a *attempt) failure() error {
	if a.kind == startOtherBusy || a.kind == startUnseenBusy && !a.ended {
		return foreignError(a.err, a.other)
	}
	return a.err
}

// recordRefusal records that no task was started, if the answer was a definite refusal.
func (ts *tasks) recordRefusal(ctx context.Context, p *part, a attempt) error {
	if !a.kind.refused() {
		return nil
	}
	return ts.notStarted(ctx, p)
}

// notStarted records that no task was started. Like every fact that the service has stated, it is kept even when the
// context has ended.
func (ts *tasks) notStarted(ctx context.Context, p *part) error {
	p.State = PartUploaded
	return ts.ledger.Apply(context.WithoutCancel(ctx), Change{Part: p.PartRecord})
}

func (ts *tasks) started(ctx context.Context, p *part, id task.ID, recovered bool) error {
	p.State, p.TaskID, p.Started = PartStarted, id, time.Now()
	if err := ts.ledger.Apply(context.WithoutCancel(ctx), Change{Part: p.PartRecord}); err != nil {
		return fmt.Errorf("task %s is running but could not be recorded; the next call finds it by its data file: %w", id, err)
	}
	ts.observe(EventTaskStarted{Part: p.Number, Task: id, Recovered: recovered})
	return nil
}

func (ts *tasks) ended(ctx context.Context, p *part, d *task.Description) error {
	p.State, p.Ended = PartEnded, time.Now()
	p.Status, p.Message, p.Succeeded, p.Failed, p.TaskCreated = d.Status, d.Message, d.Succeeded, d.Failed, d.Created
	return ts.ledger.Apply(context.WithoutCancel(ctx), Change{Part: p.PartRecord})
}

// errOtherTask is that a task's id belongs to a task on another data file.
var errOtherTask = errors.New("the id that came back for the part's task is that of a task on another data file")

// await waits until the part's task has ended, whichever way. An id under which there is no task of the part is not
// believed: what answered for the service may have made it up.
func (ts *tasks) await(ctx context.Context, p *part) error {
	var pause pauser
	for {
		err := ts.awaitTask(ctx, p)
		why := &task.Description{Message: "the service no longer knows the task"}
		switch {
		case errors.Is(err, errOtherTask):
			p.TaskID, why.Message = "", err.Error()
		case !errors.Is(err, task.ErrNotFound):
			return err
		case time.Since(p.Started) > taskKept:
			// AWS has deleted the task's data; its devices are settled by reading them back.
			return ts.ended(ctx, p, why)
		}
		found, err := ts.look(ctx, p)
		if err != nil {
			return err
		}
		if !found {
			return ts.ended(ctx, p, why)
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
}

// awaitTask waits for the end of the task that the part's id names.
func (ts *tasks) awaitTask(ctx context.Context, p *part) error {
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	opts := ts.wait
	inner := opts.Progress
	other := false
	opts.Progress = func(d *task.Description) {
		if other = !isTaskOf(d, p); other {
			abort(errOtherTask)
			return
		}
		if inner != nil {
			inner(d)
		}
		ts.pace.progressed(d.Percent)
		ts.observe(EventTaskProgress{Part: p.Number, Description: d})
	}
	t := task.Attach(ts.backend, p.TaskID)
	done := ts.cancelOnStop(ctx, t, abort)
	defer done()
	d, err := t.Wait(ctx, &opts)
	switch {
	case other:
		return errOtherTask
	case d != nil && d.Status.Done(): // the lines of a failed one are in the reports all the same
		return ts.ended(ctx, p, d)
	}
	return err
}

// cancelOnStop cancels a task when Stop asks for it, until done is called. If the service refuses that although the
// task goes on, abort is called with the reason.
func (ts *tasks) cancelOnStop(ctx context.Context, t *task.Task, abort context.CancelCauseFunc) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-ts.stop.cancelling:
		}
		err := retry(ctx, func() error { return t.Stop(ctx) })
		if err == nil || ctx.Err() != nil {
			return
		}
		if d, derr := t.Describe(ctx); derr == nil && d.Status.Done() {
			return // it ended by itself meanwhile
		}
		abort(fmt.Errorf("cancelling it: %w", err))
	})
	return func() { cancel(); wg.Wait() }
}
