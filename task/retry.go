package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/wait"
)

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
		ErrChecksum, ErrWrongRegion, ErrLinkExpired, ErrNotService, context.Canceled} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// newBackoff paces the repeats of a read: at most eight attempts in a row without any progress, in some 25 s.
func newBackoff() *wait.Backoff {
	return &wait.Backoff{First: 200 * time.Millisecond, Max: 20 * time.Second, Attempts: 8}
}

// pause waits before the next attempt. It returns err once there were too many in a row, or the end of the context.
func pause(ctx context.Context, b *wait.Backoff, err error) error {
	if ctx.Err() != nil {
		return wait.ContextError(ctx)
	}
	delay, more := b.Next()
	if !more {
		return fmt.Errorf("gave up after %d attempts: %w", b.Failed(), err)
	}
	return wait.Sleep(ctx, delay)
}

// retried calls f again while it fails for a passing reason.
func retried[T any](ctx context.Context, f func() (T, error)) (T, error) {
	backoff := newBackoff()
	for {
		v, err := f()
		if err == nil {
			return v, nil
		}
		if ctx.Err() == nil && !transient(err) {
			return v, err
		}
		if err := pause(ctx, backoff, err); err != nil {
			return v, err
		}
	}
}
