package wait_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheEndOfAContextMatchesItsErrorAndItsCause(t *testing.T) {
	assert.NoError(t, wait.ContextError(t.Context()))

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the operator pressed Ctrl-C")
	cancel(cause)
	assert.ErrorIs(t, wait.ContextError(ctx), context.Canceled)
	assert.ErrorIs(t, wait.ContextError(ctx), cause)

	ctx, stop := context.WithCancel(t.Context())
	stop()
	assert.Equal(t, context.Canceled, wait.ContextError(ctx), "the same error is not named twice")
}

func TestASleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.NoError(t, wait.Sleep(t.Context(), time.Hour))
		assert.Equal(t, time.Hour, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		assert.ErrorIs(t, wait.Sleep(ctx, time.Hour), context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(start))

		assert.ErrorIs(t, wait.Sleep(ctx, 0), context.DeadlineExceeded, "a context that has ended lets nothing more happen")
	})
}

func TestASleepCanBeEndedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := make(chan struct{})
		go func() {
			assert.NoError(t, wait.Sleep(context.WithoutCancel(t.Context()), time.Minute))
			close(wake)
		}()
		start := time.Now()
		require.NoError(t, wait.SleepOr(t.Context(), time.Hour, wake))
		assert.Equal(t, time.Minute, time.Since(start))
	})
}

func TestDelaysDoubleWithJitterUpToTheLongest(t *testing.T) {
	b := wait.Backoff{First: time.Second, Max: 10 * time.Second, Attempts: 7}
	for round := range 2 {
		for n, seconds := range []int{1, 2, 4, 8, 10, 10} {
			want := time.Duration(seconds) * time.Second
			d, more := b.Next()
			require.True(t, more)
			assert.Equal(t, n+1, b.Failed())
			assert.GreaterOrEqual(t, d, want-want/10, "delay %d, round %d", n, round)
			assert.LessOrEqual(t, d, min(want+want/10, b.Max), "delay %d, round %d", n, round)
		}
		_, more := b.Next()
		assert.False(t, more, "the seventh attempt is the last")
		b.Reset()
	}
}

func TestDelaysDifferFromEachOtherWithinTheirBounds(t *testing.T) {
	for _, c := range []struct{ d, least, most, lo, hi time.Duration }{
		{time.Minute, 0, time.Hour, 54 * time.Second, 66 * time.Second},
		{time.Minute, 0, time.Minute, 54 * time.Second, time.Minute},
		{time.Second, time.Minute, time.Hour, time.Minute, 66 * time.Second},
		{time.Hour, 0, time.Minute, 54 * time.Second, time.Minute},
		{time.Hour, time.Second, time.Second, time.Second, time.Second},
		{0, 0, time.Hour, 0, 0},
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			d := wait.Jitter(c.d, c.least, c.most)
			require.True(t, c.lo <= d && d <= c.hi, "%v in %v", d, c)
			seen[d] = true
		}
		if c.lo < c.hi {
			assert.Greater(t, len(seen), 90, "%v", c)
		}
	}
}

func TestDelaysWithoutALimitNeverOverflow(t *testing.T) {
	b := wait.Backoff{First: time.Second}
	for range 200 {
		d, more := b.Next()
		require.True(t, more)
		require.Positive(t, d)
	}
}
