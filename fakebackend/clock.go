package fakebackend

import (
	"sync"
	"time"
)

// clock is the fake's time: that of the machine (or of a synctest bubble), moved by an offset, until it is frozen.
type clock struct {
	mu     sync.Mutex
	frozen bool
	at     time.Time // when frozen
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen {
		return c.at
	}
	return time.Now().Add(c.offset).UTC()
}

// set puts the clock at a time, from which it goes on unless it is frozen.
func (c *clock) set(frozen bool, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen, c.at, c.offset = frozen, at, time.Until(at)
}

// SetTime stops the fake's clock at t. From then on it moves by [Backend.Advance], by SetTime, and by the waits of the
// clients that fakeaws.Config makes. What was done stays done when the clock is set back.
func (b *Backend) SetTime(t time.Time) {
	b.clock.mu.Lock()
	defer b.clock.mu.Unlock()
	b.clock.frozen, b.clock.at = true, t.UTC().Round(0)
}

// Advance moves the fake's clock by d, whether it is frozen or not.
func (b *Backend) Advance(d time.Duration) {
	b.clock.mu.Lock()
	defer b.clock.mu.Unlock()
	if b.clock.frozen {
		b.clock.at = b.clock.at.Add(d)
	} else {
		b.clock.offset += d
	}
}

// pass moves a clock that is stopped by d, and reports whether it is. One that runs passes the time by itself.
func (c *clock) pass(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen {
		c.at = c.at.Add(d)
	}
	return c.frozen
}

// Now returns the fake's time, in UTC. Until SetTime is called it is the machine's.
func (b *Backend) Now() time.Time { return b.clock.now() }
