package provision

import (
	"errors"
	"sync"
)

// ErrStopped is returned by Run, Retry, Amend and Submit after [Run.Stop], when devices are left: not sent yet, or
// failed and to be sent again by this call. Run goes on with those that wait and those that were throttled; what Retry
// or Amend did not come to, the same call does.
var ErrStopped = errors.New("the run was stopped")

// StopMode is how a run is stopped.
type StopMode string

// How to stop.
const (
	FinishPart StopMode = "finish-part" // let the task in progress end, collect its devices, begin no other
	CancelTask StopMode = "cancel-task" // cancel the task in progress; lines that were not reached are read back
)

// stopper carries a Stop to the stages of a call.
type stopper struct {
	finish, cancel        sync.Once
	finishing, cancelling chan struct{}
}

func newStopper() *stopper {
	return &stopper{finishing: make(chan struct{}), cancelling: make(chan struct{})}
}

func (s *stopper) ask(mode StopMode) {
	s.finish.Do(func() { close(s.finishing) })
	if mode == CancelTask {
		s.cancel.Do(func() { close(s.cancelling) })
	}
}

func (s *stopper) stopped() bool {
	select {
	case <-s.finishing:
		return true
	default:
		return false
	}
}
