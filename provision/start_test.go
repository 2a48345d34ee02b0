package provision

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// The rows below speak of minutes after noon.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func minute(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

func TestATaskIsStartedExactlyOnce(t *testing.T) {
	answer := func(k startKind) startAnswer { return startAnswer{kind: k, asked: noon, uploaded: noon} }
	interrupted := startAnswer{kind: startInterrupted, uploaded: noon}
	ended := answer(startUnseenBusy)
	ended.ended = true
	doubt, looked := startState{doubt: true}, startState{doubt: true, looked: true}
	for _, row := range []struct {
		name    string
		state   startState
		answer  startAnswer
		now     time.Time
		foreign ForeignTask
		next    startState
		action  startAction
	}{
		{name: "it is started", answer: answer(startAccepted), action: startTake},
		{name: "it is in progress already", answer: answer(startOwnBusy), action: startTake},
		{name: "it is in progress, by a request whose answer was lost", state: doubt, answer: answer(startOwnBusy), next: doubt, action: startTake},
		{name: "refused", answer: answer(startRefused), action: startEnd},
		{name: "the context ended", answer: answer(startCanceled), action: startEnd},

		{name: "lost: never asked again before it was looked for", answer: answer(startLost), next: looked, action: startLook},
		{name: "lost, and not found", state: looked, answer: answer(startLost),
			next: startState{doubt: true, failing: noon}, action: startPause},
		{name: "lost once more: looked for once more", state: startState{doubt: true, failing: noon}, answer: answer(startLost),
			next: startState{doubt: true, looked: true, failing: noon}, action: startLook},
		{name: "lost for an hour", state: startState{doubt: true, looked: true, failing: noon}, answer: answer(startLost), now: minute(61),
			next: startState{doubt: true, failing: noon}, action: startExhausted},

		{name: "interrupted: looked for before anything is asked", answer: interrupted, next: looked, action: startLook},
		{name: "interrupted, and not found", state: looked, answer: interrupted, next: doubt, action: startAsk},
		{name: "interrupted, and not found after 29 days", state: looked, answer: interrupted, now: noon.Add(29 * 24 * time.Hour),
			next: doubt, action: startAsk},
		{name: "interrupted, and not found after 31 days", state: looked, answer: interrupted, now: noon.Add(31 * 24 * time.Hour),
			next: doubt, action: startForgotten},

		{name: "somebody else's task is waited for", answer: answer(startOtherBusy), action: startPause},
		{name: "it is waited for without limit", state: startState{failing: noon}, answer: answer(startOtherBusy), now: minute(600), action: startPause},
		{name: "it ends the run if it shall", answer: answer(startOtherBusy), foreign: FailOnForeign, action: startEnd},
		{name: "somebody else's task is not taken for ours", state: doubt, answer: answer(startOtherBusy), next: doubt, action: startPause},
		{name: "a task that can't be seen is waited for", answer: answer(startUnseenBusy), action: startPause},
		{name: "a task that can't be seen, after a lost answer, may be ours", state: doubt, answer: answer(startUnseenBusy),
			next: looked, action: startLook},
		{name: "also if a foreign task shall end the run", state: doubt, answer: answer(startUnseenBusy), foreign: FailOnForeign,
			next: looked, action: startLook},
		{name: "and it is waited for if it is not", state: looked, answer: answer(startUnseenBusy), next: doubt, action: startPause},
		{name: "a task can't be seen because the context ended", answer: ended, action: startEnd},

		{name: "throttled", answer: answer(startThrottled), next: startState{failing: noon}, action: startPause},
		{name: "throttled for 59 minutes", state: startState{failing: noon}, answer: answer(startThrottled), now: minute(59),
			next: startState{failing: noon}, action: startPause},
		{name: "throttled for 61 minutes", state: startState{failing: noon}, answer: answer(startThrottled), now: minute(61),
			next: startState{failing: noon}, action: startExhausted},
		{name: "throttled is no reason to look for a task", state: doubt, answer: answer(startThrottled),
			next: startState{doubt: true, failing: noon}, action: startPause},
	} {
		t.Run(row.name, func(t *testing.T) {
			now := row.now
			if now.IsZero() {
				now = noon
			}
			next, action := decideStart(row.state, row.answer, now, row.foreign)
			assert.Equal(t, row.action, action)
			assert.Equal(t, row.next, next)
		})
	}
}

func TestOnlyALookAfterTheSettleWindowProvesThatNothingWasStarted(t *testing.T) {
	state := func(failed int) lookState { return lookState{until: minute(2), failed: failed} }
	for _, row := range []struct {
		name   string
		state  lookState
		began  time.Time
		answer lookAnswer
		next   lookState
		action lookAction
	}{
		{"found at once", state(0), noon, lookFound, state(0), lookTake},
		{"found late", state(4), minute(9), lookFound, state(4), lookTake},
		{"none at once: the request may still have its effect", state(0), noon, lookNone, state(0), lookAgain},
		{"none a moment before the end of the window", state(0), minute(2).Add(-1), lookNone, state(0), lookAgain},
		{"none at the end of the window", state(0), minute(2), lookNone, state(0), lookEnd},
		{"none after failures", state(4), minute(3), lookNone, state(4), lookEnd},
		{"failed in the window", state(0), minute(1), lookFailed, state(0), lookAgain},
		{"failed after it", state(0), minute(2), lookFailed, state(1), lookAgain},
		{"failed after it for the fifth time", state(4), minute(3), lookFailed, state(5), lookBlind},
		{"forbidden", state(0), noon, lookForbidden, state(0), lookBlind},
	} {
		t.Run(row.name, func(t *testing.T) {
			next, action := decideLook(row.state, row.began, row.answer)
			assert.Equal(t, row.action, action)
			assert.Equal(t, row.next, next)
		})
	}
}

func TestWhatStartedNothingIsKnown(t *testing.T) {
	for _, k := range []startKind{startOwnBusy, startOtherBusy, startUnseenBusy, startThrottled, startRefused} {
		assert.True(t, k.refused(), k)
	}
	for _, k := range []startKind{startAccepted, startLost, startCanceled, startInterrupted} {
		assert.False(t, k.refused(), k)
	}
}
