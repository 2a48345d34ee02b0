package provision

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestATaskThatBeganAMonthAgoDoesNotSendSmallPartsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		p.taken()
		p.started(1, time.Now().Add(-30*24*time.Hour)) // resumed after a month: it ended long ago
		p.left(true)
		p.taken()
		p.started(100_000_000, time.Now()) // at that speed, more years than a time.Duration holds
		assert.False(t, p.enough(smallPart, time.Now()), "the end is far away, so the next part goes on growing")
	})
}

func TestAClockThatWasSetBackSaysNothingAboutTheSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		task := func(lines int, since time.Time) {
			p.taken()
			p.started(lines, since)
			p.left(true)
		}
		task(1000, time.Now().Add(-10*time.Second)) // 100 lines a second
		task(1000, time.Now().Add(time.Hour))
		assert.InDelta(t, 100, p.rate, 0.01)
	})
}

func TestHoweverFastTheServiceSeemsAPartIsSentInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace()
		p.taken()
		p.started(1_000_000, time.Now()) // ended in no time
		p.left(true)
		began := time.Now()
		assert.False(t, p.enough(smallPart, began), "a fast service takes larger parts")
		time.Sleep(nextMaking)
		assert.True(t, p.enough(1, began), "but it does not wait for more than a minute of making keys")
	})
}
