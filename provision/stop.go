package provision

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/seed1ff6f450/iotfleet/task"
)

// ErrStopped is returned by Run, Retry, Amend and Submit after [Run.Stop], when devices are left: not sent yet, or failed
// and to be sent again by this call. Run goes on with those that wait and those that were throttled; what Retry or Amend
// did not come to, the same call does.
var ErrStopped = errors.New("the run was stopped")

// StopMode says how a run is stopped.
type StopMode int

// How to stop.
const (
	FinishPart StopMode = iota // let the task in progress end, settle its devices, begin no other
	CancelTask                 // cancel the task in progress; its lines that were not reached are settled by read-back
)

// Stop asks a Run, Retry, Amend or Submit in progress to end, and returns at once. It may be called from any goroutine,
// more than once; a later CancelTask overrides FinishPart. Without any of them in progress it makes the next one end
// before it begins a part.
//
// Cancelling the context of Run also leaves a run that resumes, but a task that goes on at AWS meanwhile.
func (r *Run) Stop(mode StopMode) {
	s := r.stop.Load()
	s.finish.Do(func() { close(s.finishing) })
	if mode == CancelTask {
		s.cancel.Do(func() { close(s.cancelling) })
	}
}

type stopper struct {
	finish, cancel        sync.Once
	finishing, cancelling chan struct{}
}

func newStopper() *stopper {
	return &stopper{finishing: make(chan struct{}), cancelling: make(chan struct{})}
}

func (s *stopper) stopped() bool {
	select {
	case <-s.finishing:
		return true
	default:
		return false
	}
}

// stopped reports whether Stop was called.
func (r *Run) stopped() bool { return r.stop.Load().stopped() }

// stopObeyed ends a call that Stop can end: the next one does not know of it.
func (r *Run) stopObeyed() {
	if r.stopped() {
		r.stop.Store(newStopper())
	}
}

// cancelOnStop cancels a task when Stop asks for it, until done is called. If the service refuses that although the task
// goes on, abort is called with the reason.
func (r *Run) cancelOnStop(ctx context.Context, t *task.Task, abort context.CancelCauseFunc) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-r.stop.Load().cancelling:
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
