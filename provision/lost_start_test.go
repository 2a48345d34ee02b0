package provision_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// slowEffect loses the answer to the first start, which takes effect some time later, whatever is asked in between.
type slowEffect struct {
	task.Backend
	after time.Duration
	asked []time.Time
}

func (s *slowEffect) Unwrap() task.Backend { return s.Backend }

func (s *slowEffect) StartTask(ctx context.Context, in *task.StartInput) (task.ID, error) {
	if s.asked = append(s.asked, time.Now()); len(s.asked) > 1 {
		return s.Backend.StartTask(ctx, in)
	}
	late := *in
	time.AfterFunc(s.after, func() { _, _ = s.Backend.StartTask(context.WithoutCancel(ctx), &late) })
	return "", fmt.Errorf("connection reset: %w", task.ErrOutcomeUnknown)
}

func TestAStartThatTakesEffectWithinTheSettleWindowIsNotSentAgain(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 30 * time.Second, 115 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.opts.SettleWindow = 2 * time.Minute
				slow := &slowEffect{Backend: w.fake, after: after}
				w.opts.Backend = slow
				run := w.run(t)
				_, err := run.Run(t.Context(), rows(3))
				require.NoError(t, err)
				time.Sleep(10 * time.Minute) // whatever is still on its way arrives
				assert.Len(t, slow.asked, 1)
				assert.Len(t, slices.Collect(taskIDs(t, w.fake)), 1)
				assert.Equal(t, 3, w.fake.Counts().Certificates, "one for each device")
				w.requireWorking(t, results(t, run))
			})
		})
	}
}
