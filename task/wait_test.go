package task_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

func running(percent int) *task.Description {
	return &task.Description{ID: "t-1", Status: task.InProgress, Percent: percent, Succeeded: percent}
}

func TestWaitReturnsACompletedTaskEvenWhenEveryLineWasRefused(t *testing.T) {
	b := &script{describe: ended(0, 3)}
	d, err := task.Attach(b, "t-1").Wait(t.Context(), nil)
	require.NoError(t, err)
	assert.Equal(t, 3, d.Failed)
	assert.Equal(t, 1, b.described, "an ended task is looked at once")
}

func TestWaitGivesFailedAndCancelledATypedErrorWithTheServicesMessage(t *testing.T) {
	for status, sentinel := range map[task.Status]error{task.Failed: task.ErrTaskFailed, task.Cancelled: task.ErrTaskCancelled} {
		t.Run(string(status), func(t *testing.T) {
			b := &script{describe: func(int) (*task.Description, error) {
				return &task.Description{ID: "t-1", Status: status, Message: "no such key", Succeeded: 2, Failed: 1}, nil
			}}
			d, err := task.Attach(b, "t-1").Wait(t.Context(), nil)
			require.ErrorIs(t, err, sentinel)
			ended, ok := errors.AsType[*task.WaitError](err)
			require.True(t, ok)
			assert.Same(t, d, ended.Last)
			assert.True(t, d.Status.Done())
			for _, part := range []string{"t-1", "no such key", "2 lines registered", "1 refused"} {
				assert.ErrorContains(t, err, part)
			}
			for _, other := range []error{task.ErrTaskFailed, task.ErrTaskCancelled} {
				assert.Equal(t, errors.Is(sentinel, other), errors.Is(err, other))
			}
		})
	}
}

func TestWaitKeepsWaitingWhileCancelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &script{describe: func(call int) (*task.Description, error) {
			if call < 3 {
				return &task.Description{Status: task.Cancelling}, nil
			}
			return &task.Description{Status: task.Cancelled}, nil
		}}
		_, err := task.Attach(b, "t-1").Wait(t.Context(), nil)
		require.ErrorIs(t, err, task.ErrTaskCancelled)
		assert.Equal(t, 3, b.described)
	})
}

func TestWaitEndsWithTheContextsCauseAndTheLastState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &script{describe: func(int) (*task.Description, error) { return running(42), nil }}
		shift := errors.New("the shift is over")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(90*time.Second, func() { cancel(shift) })
		start := time.Now()
		d, err := task.Attach(b, "t-1").Wait(ctx, nil)
		assert.Equal(t, 90*time.Second, time.Since(start), "Wait ends at once")
		require.ErrorIs(t, err, shift)
		assert.ErrorIs(t, err, context.Canceled)
		wait, ok := errors.AsType[*task.WaitError](err)
		require.True(t, ok)
		assert.Equal(t, 42, wait.Last.Percent)
		assert.Equal(t, 42, d.Percent)
		assert.ErrorContains(t, err, "42%")
		assert.ErrorContains(t, err, "t-1")
	})
}

func TestWaitEndsWithTheDeadlineWhileTheBackendHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		b := &script{describe: func(call int) (*task.Description, error) {
			if call == 1 {
				return running(1), nil
			}
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}}
		d, err := task.Attach(b, "t-1").Wait(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 1, d.Percent)
	})
}

func TestTheEndOfTheContextIsNamedOnce(t *testing.T) {
	b := &script{describe: func(int) (*task.Description, error) { return running(1), nil }}
	plain, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := task.Attach(b, "t-1").Wait(plain, nil)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 1, strings.Count(err.Error(), "context canceled"), "%v", err)

	cause := fmt.Errorf("the line was stopped: %w", context.Canceled)
	caused, stop := context.WithCancelCause(t.Context())
	stop(cause)
	_, err = task.Attach(b, "t-1").Wait(caused, nil)
	require.ErrorIs(t, err, cause)
	assert.Equal(t, 1, strings.Count(err.Error(), "context canceled"), "%v", err)
}

func TestWaitLooksOftenAgainOnceATaskMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const still = 20 // looks during which nothing moves
		var looks []time.Time
		b := &script{describe: func(call int) (*task.Description, error) {
			looks = append(looks, time.Now())
			switch {
			case call <= still:
				return running(0), nil
			case call == still+1:
				return running(50), nil
			case call == still+2: // a failed look says nothing about the speed
				return nil, &task.Error{Code: "ThrottlingException", Status: 400, Kind: task.ErrThrottled}
			}
			return ended(1, 0)(call)
		}}
		_, err := task.Attach(b, "t-1").Wait(t.Context(), nil)
		require.NoError(t, err)
		require.Len(t, looks, still+3)
		assert.Greater(t, looks[still-1].Sub(looks[still-2]), 50*time.Second, "seldom while nothing moves")
		assert.LessOrEqual(t, looks[still+2].Sub(looks[still+1]), 2*time.Second, "soon after a failure, since it moved")
	})
}

func TestWaitOutlastsPassingFailures(t *testing.T) {
	passing := map[string]error{
		"throttled":    &task.Error{Code: "ThrottlingException", Status: 400, Kind: task.ErrThrottled},
		"unavailable":  &task.Error{Code: "ServiceUnavailableException", Status: 503, Kind: task.ErrUnavailable},
		"status 500":   &task.Error{Code: "Unheard", Status: 500},
		"network":      &net.OpError{Op: "dial", Err: errors.New("connection refused")},
		"answer ended": io.ErrUnexpectedEOF,
		"own timeout":  context.DeadlineExceeded,
	}
	for name, passes := range passing {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &script{describe: func(call int) (*task.Description, error) {
					switch {
					case call == 1:
						return running(10), nil
					case call%10 != 1: // nine failures in a row, then an answer, and again
						return nil, passes
					case call < 30:
						return running(20), nil
					}
					return ended(1, 0)(call)
				}}
				_, err := task.Attach(b, "t-1").Wait(t.Context(), nil)
				require.NoError(t, err)
				assert.Equal(t, 31, b.described)
			})
		})
	}
}

func TestWaitGivesUpAfterTooManyFailuresInARowAndKeepsTheLastState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := &task.Error{Code: "ThrottlingException", Status: 400, Kind: task.ErrThrottled}
		b := &script{describe: func(call int) (*task.Description, error) {
			if call == 1 {
				return running(64), nil
			}
			return nil, throttled
		}}
		d, err := task.Attach(b, "t-1").Wait(t.Context(), &task.WaitOptions{MaxFailures: 4})
		require.ErrorIs(t, err, task.ErrThrottled)
		wait, ok := errors.AsType[*task.WaitError](err)
		require.True(t, ok)
		assert.Equal(t, 4, wait.Failures)
		assert.Equal(t, 64, wait.Last.Percent)
		assert.Equal(t, 64, d.Percent)
		assert.Equal(t, 5, b.described)
	})
}

func TestWaitDoesNotRepeatWhatWillStayTheSame(t *testing.T) {
	for _, code := range []string{"ResourceNotFoundException", "UnauthorizedException", "InvalidRequestException"} {
		t.Run(code, func(t *testing.T) {
			b := &script{describe: func(int) (*task.Description, error) {
				return nil, &task.Error{Code: code, Status: 400, Kind: task.KindOfCode(code)}
			}}
			d, err := task.Attach(b, "t-1").Wait(t.Context(), nil)
			require.ErrorIs(t, err, task.KindOfCode(code))
			assert.Nil(t, d)
			assert.Equal(t, 1, b.described)
			assert.ErrorContains(t, err, "t-1")
		})
	}
}

// looks waits for a task that runs for the given time and returns when it was looked at.
func looks(t *testing.T, duration time.Duration, opts task.WaitOptions) (at []time.Duration) {
	return looksAfter(t, 0, duration, opts)
}

// looksAfter does the same for a task that has a start-up first, in which nothing moves.
func looksAfter(t *testing.T, startUp, duration time.Duration, opts task.WaitOptions) (at []time.Duration) {
	start := time.Now()
	b := &script{describe: func(int) (*task.Description, error) {
		took := time.Since(start)
		at = append(at, took)
		if took >= startUp+duration {
			return ended(100, 0)(0)
		}
		return running(int(100 * max(took-startUp, 0) / duration)), nil
	}}
	_, err := task.Attach(b, "t-1").Wait(t.Context(), &opts)
	require.NoError(t, err)
	return at
}

func TestWaitAimsAtTheExpectedEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const duration = 10 * time.Hour
		at := looks(t, duration, task.WaitOptions{MaxDelay: 24 * time.Hour})
		assert.Less(t, len(at), 40, "looks at a task of ten hours: %v", at)
		assert.Less(t, at[len(at)-1]-duration, duration/10, "the end is seen soon after it: %v", at)
	})
}

func TestWaitDoesNotAimPastTheEnd(t *testing.T) {
	for range 50 { // for its delays differ
		synctest.Test(t, func(t *testing.T) {
			const duration = 10 * time.Hour
			at := looks(t, duration, task.WaitOptions{MaxDelay: 24 * time.Hour})
			assert.Less(t, at[len(at)-1]-duration, duration/300, "%v", at)
		})
	}
}

func TestWaitLooksAreWithinItsBounds(t *testing.T) {
	for name, opts := range map[string]task.WaitOptions{
		"defaults":    {},
		"own":         {MinDelay: 3 * time.Second, MaxDelay: 20 * time.Second},
		"fixed":       {MinDelay: 5 * time.Second, MaxDelay: 5 * time.Second},
		"only least":  {MinDelay: 2 * time.Minute},
		"only most":   {MaxDelay: 100 * time.Millisecond},
		"nanoseconds": {MinDelay: 1, MaxDelay: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				least, most := opts.MinDelay, opts.MaxDelay
				if most == 0 {
					most = max(time.Minute, least)
				}
				if least == 0 {
					least = min(time.Second, most)
				}
				at := looks(t, 7*time.Minute, opts)
				for i := range len(at) - 1 {
					delay := at[i+1] - at[i]
					assert.True(t, delay >= least && delay <= most, "delay %v is outside %v to %v", delay, least, most)
				}
				assert.Zero(t, at[0], "the first look is at once")
			})
		})
	}
}

func TestWaitSeesAShortTasksEndWithinSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := looks(t, 4*time.Second, task.WaitOptions{})
		assert.LessOrEqual(t, at[len(at)-1], 8*time.Second)
	})
}

func TestWaitDoesNotTakeAStartUpForSpeed(t *testing.T) {
	for _, startUp := range []time.Duration{5 * time.Second, 20 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			const duration = 20 * time.Second
			at := looksAfter(t, startUp, duration, task.WaitOptions{})
			// While nothing moves, the time between two looks grows to half of what has passed.
			assert.Less(t, at[len(at)-1], startUp+duration+max(startUp/2, 5*time.Second), "start-up %v: %v", startUp, at)
		})
	}
}

func TestWaitDelaysDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := map[time.Duration]bool{}
		for range 20 {
			at := looks(t, 30*time.Minute, task.WaitOptions{})
			seen[at[1]] = true
		}
		assert.Greater(t, len(seen), 10, "many programs must not ask in step")
	})
}

func TestWaitReportsEveryStateToProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &script{describe: func(call int) (*task.Description, error) {
			switch {
			case call == 2:
				return nil, &task.Error{Code: "ThrottlingException", Status: 400, Kind: task.ErrThrottled}
			case call < 5:
				return running(call * 10), nil
			}
			return ended(7, 0)(call)
		}}
		var seen []int
		_, err := task.Attach(b, "t-1").Wait(t.Context(), &task.WaitOptions{
			Progress: func(d *task.Description) { seen = append(seen, d.Percent) },
		})
		require.NoError(t, err)
		assert.Equal(t, []int{10, 30, 40, 100}, seen)
	})
}

func TestWaitRefusesOptionsThatMakeNoSense(t *testing.T) {
	for _, opts := range []task.WaitOptions{
		{MinDelay: -1}, {MaxDelay: -1}, {MaxFailures: -1}, {MinDelay: time.Minute, MaxDelay: time.Second},
	} {
		_, err := task.Attach(&script{}, "t-1").Wait(t.Context(), &opts)
		require.ErrorIs(t, err, task.ErrInvalidRequest, "%+v", opts)
	}
}

// watched counts what is asked after the context has ended.
type watched struct {
	*script
	late int
}

func (w *watched) DescribeTask(ctx context.Context, id task.ID) (*task.Description, error) {
	if ctx.Err() != nil {
		w.late++
	}
	return w.script.DescribeTask(ctx, id)
}

func TestAWaitThatIsEndedAsksNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &watched{script: &script{describe: func(int) (*task.Description, error) { return running(10), nil }}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := task.Attach(b, "t-1").Wait(ctx, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Greater(t, b.described, 10)
		assert.Zero(t, b.late)
	})
}
