package provision

import "time"

// A task must be started exactly once, and AWS's request for it has no token that would see to that. What to do next is
// decided here, without asking anybody: by decideStart after each answer to StartTask, and by decideLook after each
// look for a task whose answer was lost.

// taskKept is how long AWS keeps a task after its end. A task that was started less long ago can be found.
const taskKept = 30 * 24 * time.Hour

// startPatience is how long a service that only fails or throttles is asked to start a task. While it works for
// somebody else there is no such limit.
const startPatience = time.Hour

// startState is what is known of the requests for a part's task.
type startState struct {
	doubt   bool      // an answer was lost, so its request may still have its effect
	looked  bool      // after the answer at hand the task was looked for, and not found
	failing time.Time // since when the service only fails or throttles; zero if it does not
}

// startAnswer is the latest answer to a request.
type startAnswer struct {
	kind     startKind
	asked    time.Time // when the request left
	uploaded time.Time // when the part was uploaded: no request is older
	ended    bool      // of startUnseenBusy: it could not be seen because the context has ended
}

// startKind sorts the answers.
type startKind string

const (
	startAccepted    startKind = "accepted"    // the task is started
	startOwnBusy     startKind = "own-busy"    // refused: the task in progress is on the part's own file
	startOtherBusy   startKind = "other-busy"  // refused: the task in progress is somebody else's
	startUnseenBusy  startKind = "unseen-busy" // refused: a task is in progress, and it could not be seen
	startThrottled   startKind = "throttled"   // refused because of the account's rates
	startRefused     startKind = "refused"     // refused for another reason
	startLost        startKind = "lost"        // no definite answer
	startCanceled    startKind = "canceled"    // the context ended before a definite answer
	startInterrupted startKind = "interrupted" // an earlier process sent a request, and recorded no answer
)

// refused reports whether the request is known to have started nothing.
func (k startKind) refused() bool {
	switch k {
	case startOwnBusy, startOtherBusy, startUnseenBusy, startThrottled, startRefused:
		return true
	}
	return false
}

// startAction is what to do next.
type startAction string

const (
	startTake      startAction = "take"      // the task is started: record it
	startLook      startAction = "look"      // look for the task; if there is none, decide again
	startAsk       startAction = "ask"       // send a request
	startPause     startAction = "pause"     // wait, then send a request
	startEnd       startAction = "end"       // end with the error of the answer
	startExhausted startAction = "exhausted" // end: the service has failed for too long
	startForgotten startAction = "forgotten" // end: the service would no longer know the task
)

// decideStart decides what to do after an answer.
func decideStart(s startState, a startAnswer, now time.Time, foreign ForeignTask) (startState, startAction) {
	switch a.kind {
	case startAccepted, startOwnBusy:
		return s, startTake
	case startRefused:
		return s, startEnd
	case startCanceled: // the part stays "starting", and the next call looks for its task
		return s, startEnd
	case startLost, startInterrupted:
		s.doubt = true
	}
	// A task that can't be seen may be the late effect of a lost request.
	inDoubt := a.kind == startLost || a.kind == startInterrupted || a.kind == startUnseenBusy && s.doubt
	if inDoubt && !s.looked {
		s.looked = true
		return s, startLook
	}
	s.looked = false
	switch a.kind {
	case startInterrupted:
		if now.Sub(a.uploaded) > taskKept {
			return s, startForgotten
		}
		return s, startAsk
	case startOtherBusy, startUnseenBusy:
		s.failing = time.Time{}
		if foreign == FailOnForeign || a.ended {
			return s, startEnd
		}
		return s, startPause
	}
	switch { // throttled or lost
	case s.failing.IsZero():
		s.failing = a.asked
	case now.Sub(s.failing) > startPatience:
		return s, startExhausted
	}
	return s, startPause
}

// lastLooks is how often the service is asked after the settle window, while it can't be asked.
const lastLooks = 5

// lookState is how long a task has been looked for.
type lookState struct {
	until  time.Time // the end of the settle window: only a look that begins after it proves that there is no task
	failed int       // looks after it that failed
}

// lookAnswer is what a look for a task found.
type lookAnswer string

const (
	lookFound     lookAnswer = "found"
	lookNone      lookAnswer = "none"
	lookFailed    lookAnswer = "failed"    // the service could not be asked this time
	lookForbidden lookAnswer = "forbidden" // the service refuses to be asked
)

// lookAction is what to do next.
type lookAction string

const (
	lookTake  lookAction = "take"  // it is the part's task
	lookAgain lookAction = "again" // pause, then look again
	lookEnd   lookAction = "end"   // nothing was started
	lookBlind lookAction = "blind" // it can't be told whether a task was started
)

// decideLook decides what to do after a look that began at the given time.
func decideLook(s lookState, began time.Time, a lookAnswer) (lookState, lookAction) {
	late := !began.Before(s.until)
	switch {
	case a == lookFound:
		return s, lookTake
	case a == lookForbidden:
		return s, lookBlind
	case a == lookNone && late:
		return s, lookEnd
	case a == lookFailed && late:
		if s.failed++; s.failed == lastLooks {
			return s, lookBlind
		}
	}
	return s, lookAgain
}
