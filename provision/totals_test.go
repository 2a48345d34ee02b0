package provision_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// counter counts as a progress bar does.
type counter struct{ total, done, most int64 }

func (c *counter) observe(e provision.Event) {
	switch e := e.(type) {
	case provision.EventSpooled:
		c.total, c.done = e.Devices, e.Failed+e.Provisioned
	case provision.EventPartCollected:
		c.done += int64(e.Provisioned + e.Failed + e.Unknown)
	}
	c.most = max(c.most, c.done)
}

func TestALineThatIsSentAgainCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{Rate: 10})
		w.durable(t)
		w.fault(t, fakebackend.Fault{Line: 2, Step: fakebackend.StepThing, Do: fakebackend.Throttle, Times: 2})
		w.fault(t, fakebackend.Fault{Thing: "device-3", Step: fakebackend.StepThing, Do: fakebackend.Fail, Message: "Thing type x does not exist"})
		w.fault(t, fakebackend.Fault{Thing: "device-4", Step: fakebackend.StepThing, Do: fakebackend.Fail, Message: "validation error"})
		var c counter
		w.opts.Observe = c.observe
		require20 := func(what string) {
			t.Helper()
			assert.Equal(t, counter{20, 20, 20}, c, what)
			c = counter{}
		}
		run := w.incomplete(t, rows(20))
		require20("Run, which sends throttled lines again")

		_, err := run.Retry(t.Context())
		require.ErrorIs(t, err, provision.ErrIncomplete)
		require20("Retry")

		all := results(t, run)
		require.Equal(t, provision.Failed, all[3].Verdict)
		_, err = run.Amend(t.Context(), provision.Devices(provision.Device{Seq: 4, Row: all[3].Row}))
		require.NoError(t, err)
		require20("Amend")
	})
}

func TestTheSummaryOfALedgerIsThatOfItsRun(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	_, err := w.run(t).Summary(t.Context())
	require.ErrorIs(t, err, provision.ErrNoRun)
	w.fault(t, fakebackend.Fault{Step: fakebackend.StepThing, Do: fakebackend.Fail, Line: 2})
	want, err := w.run(t).Run(t.Context(), rows(3))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	got, err := w.run(t).Summary(t.Context())
	require.NoError(t, err)
	want.Took = 0
	assert.Equal(t, want, got)
}
