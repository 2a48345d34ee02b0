// Package wait holds what this library waits with: a sleep that honours its context, delays that grow from attempt to
// attempt, and the error of a context that has ended.
package wait

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// ContextError returns why ctx has ended: an error that matches both ctx.Err and [context.Cause]. It returns nil while
// ctx has not ended.
func ContextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, err):
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// Sleep waits for d. When ctx ends first, or has ended before, it returns the [ContextError].
func Sleep(ctx context.Context, d time.Duration) error { return SleepOr(ctx, d, nil) }

// SleepOr waits as [Sleep] does, and returns nil as soon as wake is closed or sends. A nil channel never wakes.
func SleepOr(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	if ctx.Err() != nil {
		return ContextError(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return ContextError(ctx)
	}
	return nil
}

// Jitter returns a random duration at most a tenth shorter or longer than d, and within the bounds, so that many
// programs that wait for the same do not ask in step.
func Jitter(d, least, most time.Duration) time.Duration {
	d = min(max(d, least), most)
	lo, hi := max(d-d/10, least), min(d+d/10, most)
	if hi <= lo {
		return lo
	}
	return lo + rand.N(hi-lo+1)
}

// Backoff chooses the delays between attempts: each is twice the one before, a tenth more or less. It is for one series
// of attempts in one goroutine.
type Backoff struct {
	First    time.Duration // the first delay
	Max      time.Duration // the longest delay; 0 means no limit
	Attempts int           // how many attempts may be made in all; 0 means no limit

	failed int
}

// Next counts a failed attempt and returns the delay before the next one. It returns false when that was the last.
func (b *Backoff) Next() (time.Duration, bool) {
	b.failed++
	if b.Attempts > 0 && b.failed >= b.Attempts {
		return 0, false
	}
	most := b.Max
	if most == 0 {
		most = math.MaxInt64
	}
	d := b.First
	for range b.failed - 1 {
		if d > most/2 {
			d = most
			break
		}
		d *= 2
	}
	return Jitter(d, 0, most), true
}

// Failed returns how many attempts have failed since the last Reset.
func (b *Backoff) Failed() int { return b.failed }

// Reset begins a new series: there was progress.
func (b *Backoff) Reset() { b.failed = 0 }
