package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// contextError returns the end of ctx as an error that matches both ctx.Err and its cause.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// transient reports whether a request that changes nothing is worth repeating after err: it was throttled, the service
// failed on its side, or the network did.
func transient(err error) bool {
	if errors.Is(err, ErrThrottled) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrOutcomeUnknown) {
		return true
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Status != 0 {
		return e.Status >= 500
	}
	if permanent(err) {
		return false
	}
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed)
}

// permanent reports whether err is an answer that will stay the same.
func permanent(err error) bool {
	for _, kind := range []error{ErrInvalidRequest, ErrAccessDenied, ErrNotFound, ErrConflict, ErrLimitExceeded,
		ErrChecksum, ErrWrongRegion, ErrLinkExpired, context.Canceled} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// spread returns a random delay within a tenth of d and within the bounds, so that many waiting programs do not ask in
// step.
func spread(d, least, most time.Duration) time.Duration {
	d = min(max(d, least), most)
	lo, hi := max(d-d/10, least), min(d+d/10, most)
	if hi <= lo {
		return lo
	}
	return lo + rand.N(hi-lo+1)
}

// sleep waits for d, or until ctx is done, in which case it returns its error.
func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// retries counts failures in a row and says how long to wait after each. The zero value is ready.
type retries struct {
	failures int
}

// How a read is repeated: at most retryLimit times in a row without any progress.
const (
	retryLimit    = 8
	retryMinDelay = 200 * time.Millisecond
	retryMaxDelay = 20 * time.Second
)

// pause waits before the next attempt. It returns err once there were too many in a row, or the end of the context.
func (r *retries) pause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	r.failures++
	if r.failures >= retryLimit {
		return fmt.Errorf("gave up after %d attempts: %w", r.failures, err)
	}
	return sleep(ctx, spread(retryMinDelay<<(r.failures-1), retryMinDelay, retryMaxDelay))
}

// reset forgets the failures: there was progress.
func (r *retries) reset() { r.failures = 0 }

// retried calls f again while it fails for a passing reason.
func retried[T any](ctx context.Context, f func() (T, error)) (T, error) {
	var r retries
	for {
		v, err := f()
		if err == nil {
			return v, nil
		}
		if ctx.Err() == nil && !transient(err) {
			return v, err
		}
		if err := r.pause(ctx, err); err != nil {
			return v, err
		}
	}
}
