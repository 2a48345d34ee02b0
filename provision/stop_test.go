package provision_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

func TestARunThatIsStoppedBeforeThrottledLinesAreSentAgainGoesOnWithThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		w.durable(t)
		w.fault(t, fakebackend.Fault{Thing: "device-2", Step: fakebackend.StepThing, Do: fakebackend.Throttle})
		var run *provision.Run
		observe := w.opts.Observe
		w.opts.Observe = func(e provision.Event) {
			if _, ok := e.(provision.EventPartCollected); ok {
				run.Stop(provision.FinishPart)
			}
		}
		run = w.run(t)
		summary, err := run.Run(t.Context(), rows(3))
		require.ErrorIs(t, err, provision.ErrStopped)
		assert.EqualValues(t, 1, summary.Causes[provision.CauseThrottled])

		w.opts.Observe = observe
		w.requireWorking(t, results(t, w.complete(t, rows(3))))
	})
}

func TestRetryAndAmendThatWereStoppedSaySo(t *testing.T) {
	again := map[string]func(*testing.T, *provision.Run) error{
		"Retry": func(t *testing.T, run *provision.Run) error {
			_, err := run.Retry(t.Context())
			return err
		},
		"Amend": func(t *testing.T, run *provision.Run) error {
			_, err := run.Amend(t.Context(), provision.Devices(
				provision.Device{Seq: 1, Row: map[string]string{"ThingName": "device-1", "SerialNumber": "001"}}))
			return err
		},
	}
	for name, call := range again {
		t.Run(name, func(t *testing.T) {
			w, _ := lateFailure(t)
			run := w.run(t)
			run.Stop(provision.FinishPart)
			require.ErrorIs(t, call(t, run), provision.ErrStopped)
			require.NoError(t, call(t, run))
			w.requireWorking(t, results(t, run))
		})
	}
}
