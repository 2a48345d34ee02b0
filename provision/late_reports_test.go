package provision_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

func TestReportsAreWaitedForSinceTheEndOfTheTaskHoweverOftenTheProgramIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := typedWorld(t, fakebackend.Options{ReportDelay: 24 * time.Hour}) // they never come
		w.durable(t)
		// A program that is ended every four minutes and started again.
		input := provision.Devices(ofType("a", "known"), ofType("b", "gone"))
		began := time.Now()
		var run *provision.Run
		var err error
		for calls := 1; ; calls++ {
			require.Less(t, calls, 10, "no call may begin the wait for the reports anew")
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			run = w.run(t)
			_, err = run.Run(ctx, input)
			cancel()
			if ctx.Err() != context.DeadlineExceeded {
				break
			}
		}
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.Greater(t, time.Since(began), 9*time.Minute, "the reports are worth a wait")
		assert.Less(t, time.Since(began), 15*time.Minute)
		all := results(t, run)
		assert.Equal(t, provision.Provisioned, all[0].Verdict, "it was read back")
		assert.Equal(t, provision.CauseTask, all[1].Cause)
	})
}
