package tasktest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

func TestABackendThatAnswersNothingFailsItsCasesAndDoesNotPanic(t *testing.T) {
	for _, c := range tasktest.Cases() {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			none := &hooks{
				Backend: f.backend,
				list:    func(context.Context, *task.ListInput) (*task.TaskPage, error) { return nil, nil },
				reports: func(context.Context, task.ID, task.ReportType, string) (*task.ReportPage, error) { return nil, nil },
				upload:  func(context.Context, *task.UploadInput) (*task.Object, error) { return nil, nil },
			}
			_ = c.Check(t.Context(), f.wrapped(none)) // whatever it says, it returns
		})
	}
}

func TestACaseWithoutWhatItNeedsIsSkippedWithTheReason(t *testing.T) {
	bare := struct{ tasktest.Harness }{newFake(t)} // no Faulter any more
	for _, c := range tasktest.Cases() {
		if c.Name != "start/once" {
			continue
		}
		err := c.Check(t.Context(), bare)
		skip, ok := errors.AsType[*tasktest.SkipError](err)
		require.True(t, ok, "%v", err)
		assert.Contains(t, skip.Reason, "no Faulter")
		assert.Contains(t, skip.Reason, "drop the connection after StartThingRegistrationTask has taken effect")
	}
}

func TestACaseLeavesNoTaskInProgressAndNoDeviceBehind(t *testing.T) {
	for _, c := range tasktest.Cases() {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			require.NoError(t, c.Check(t.Context(), f), c.Name)
			for d := range f.backend.Tasks() {
				assert.True(t, d.Status.Done(), "%s left %s %s", c.Name, d.ID, d.Status)
			}
			assert.Zero(t, f.backend.Counts().Things, c.Name)
		})
	}
}

func TestACaseEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("no time")
	cancel(cause)
	for _, c := range tasktest.Cases() {
		if c.Name == "reports/results" {
			require.ErrorIs(t, c.Check(ctx, newFake(t)), cause)
		}
	}
}
